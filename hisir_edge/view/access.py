"""Who may do what on the page: users and their roles, sessions, and a log of what was decided.

Passwords are kept as Argon2id hashes (RFC 9106) in a file of mode 0600; sessions live in memory alone.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic
from hisir_edge.json_once import loads_once
from hisir_edge.labels import is_name

log = structlog.get_logger()

Role = Literal["viewer", "reviewer", "engineer"]
ROLES: tuple[Role, ...] = ("viewer", "reviewer", "engineer")
"""Each may do what those before it may: look; decide; try and change."""
MOST_SESSIONS, IDLE_S, LONGEST_S = 200, 3600.0 * 4, 3600.0 * 14
TRIES, TRIES_S = 10, 60.0
LEAST_PASSWORD = 8
HASHER = PasswordHasher()
NOBODY = HASHER.hash(secrets.token_hex(16))
"""What an unknown name's password is compared with, so that it takes as long."""


@dataclass(slots=True)
class Session:
    """Somebody at a browser; ``token``: what each change must bring along (CSRF)."""

    user: str
    role: Role
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    began_at: float = field(default_factory=time.monotonic)
    used_at: float = field(default_factory=time.monotonic)

    def may(self, role: Role) -> bool:
        """Whether its role suffices."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Users:
    """The users of a file, as it is now; InputError for one that cannot be read, others may read, or is none.

    A file that was changed is read again when somebody logs in; one that is none meanwhile lets nobody in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read()

    def _read(self) -> None:
        path = self.path
        try:
            self._seen = path.stat().st_mtime_ns
            mode = path.stat().st_mode
            raw = loads_once(path.read_bytes())
            self._of: dict[str, tuple[Role, str]] = {
                str(name): (one["role"], str(one["password"])) for name, one in raw["users"].items()
            }
            if any(role not in ROLES for role, _ in self._of.values()):
                raise ValueError(f"roles are {', '.join(ROLES)}")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                expected=f"a file of users, as hisir-edge view-user writes it, at {path}",
                received=getattr(error, "strerror", None) or str(error),
                fix=f"hisir-edge view-user NAME --role reviewer --users {path}",
            ) from error
        if mode & 0o077:
            raise InputError(
                expected=f"{path} to be readable by its owner alone",
                received=f"mode {mode & 0o777:o}",
                fix=f"chmod 600 {path}",
            )

    def role_of(self, name: str) -> Role | None:
        """The role of a user whom a proxy has let in; None for one who is not in the file."""
        found = self._now().get(name)
        return found[0] if found else None

    def _now(self) -> dict[str, tuple[Role, str]]:
        try:
            if self.path.stat().st_mtime_ns != self._seen:
                self._read()
        except (OSError, InputError) as error:
            log.error("users not read", reason=str(error))
            self._of = {}
        return self._of

    def checked(self, name: str, password: str) -> Role | None:
        """The role of a user, None where name or password are wrong."""
        role: Role | None
        role, known = self._now().get(name, (None, NOBODY))
        try:
            HASHER.verify(known, password.encode("utf-8", "replace"))
        except (Argon2Error, InvalidHashError):
            return None
        return role


def with_user(path: Path, name: str, role: Role, password: str) -> None:
    """Add a user to a file, or change one; InputError for a name or password that will not do."""
    if not is_name(name) or not 1 <= len(name) <= 64 or name != name.strip():
        raise InputError(
            expected="a name of 1 to 64 printable characters", received=repr(name)[:80], fix="choose another"
        )
    if len(password) < LEAST_PASSWORD:
        raise InputError(
            expected=f"a password of {LEAST_PASSWORD} characters or more",
            received=str(len(password)),
            fix="take a longer one",
        )
    if path.exists():
        Users(path)
    users = loads_once(path.read_bytes())["users"] if path.exists() else {}
    users[name] = {"role": role, "password": HASHER.hash(password.encode("utf-8", "replace"))}
    before = os.umask(0o077)
    try:
        write_atomic(path, json.dumps({"users": users}, indent=1).encode())
    finally:
        os.umask(before)


class Sessions:
    """The sessions of now; the least used end where there are too many."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._of: OrderedDict[str, Session] = OrderedDict()

    def begin(self, user: str, role: Role) -> tuple[str, Session]:
        """A new session and its secret, which the browser's cookie holds."""
        secret, session = secrets.token_urlsafe(32), Session(user, role)
        with self._lock:
            self._of[secret] = session
            while len(self._of) > MOST_SESSIONS:
                self._of.popitem(last=False)
        return secret, session

    def find(self, secret: str) -> Session | None:
        """The session of a cookie; None for one that is unknown or over."""
        now = time.monotonic()
        with self._lock:
            session = self._of.get(secret)
            if session is None:
                return None
            if now - session.used_at > IDLE_S or now - session.began_at > LONGEST_S:
                del self._of[secret]
                return None
            session.used_at = now
            self._of.move_to_end(secret)
            return session

    def is_open(self, secret: str, session: Session) -> bool:
        """Whether a cookie's session is still this one; to be looked at is no use of it."""
        now = time.monotonic()
        with self._lock:
            known = self._of.get(secret) is session
        return known and now - session.used_at <= IDLE_S and now - session.began_at <= LONGEST_S

    def end(self, secret: str) -> None:
        """Log out."""
        with self._lock:
            self._of.pop(secret, None)


class Tries:
    """How often a password may be tried from an address, and for a name."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._of: OrderedDict[str, deque[float]] = OrderedDict()

    def may(self, *keys: str) -> bool:
        """Count a try; whether it is one too many for none of these."""
        now, allowed = time.monotonic(), True
        with self._lock:
            for key in keys:
                tries = self._of.setdefault(key, deque(maxlen=TRIES + 1))
                self._of.move_to_end(key)
                while tries and now - tries[0] > TRIES_S:
                    tries.popleft()
                tries.append(now)
                allowed = allowed and len(tries) <= TRIES
            while len(self._of) > 10 * MOST_SESSIONS:
                self._of.popitem(last=False)
        return allowed


def same(a: str, b: str) -> bool:
    """Whether two secrets are alike; takes as long either way."""
    return hmac.compare_digest(a.encode(), b.encode())


class AuditLog:
    """Who did what, a JSON object a line, on the disk before it is answered."""

    def __init__(self, path: Path) -> None:
        """InputError for a file that cannot be written."""
        self._lock = Lock()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(
                expected="a log that can be written",
                received=f"{path} ({error.strerror})",
                fix="choose another --state",
            ) from error

    def add(self, user: str, what: str, **facts: Any) -> None:
        """Write a line; InputError where the disk takes nothing: then what it is about is not done either."""
        entry = {"at": datetime.now(timezone.utc).isoformat(), "user": user, "what": what, **facts}
        try:
            with self._lock:
                os.write(self._fd, json.dumps(entry, separators=(",", ":")).encode() + b"\n")
                os.fdatasync(self._fd)
        except OSError as error:
            raise InputError(
                expected="room for the audit log", received=error.strerror or str(error), fix="free some space"
            ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
