"""CURVE key files (ZeroMQ certificates: ZPL, keys in Z85): made, read, and read only where they are kept safe.

Needs pyzmq and the standard library. The format: https://rfc.zeromq.org/spec/4 (ZPL) as zmq.auth writes it.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from hisir_edge.errors import InputError

ROLES = ("read", "ack", "verify", "revise", "control")
"""Roles of a client: receive and replay; acknowledge under its name; write decisions back; change the bundles; command
the line."""
KEY_CHARACTERS, KEY_BYTES = 40, 32
DEFAULT_ROLES = ("read", "ack")


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody whose public key lies in the line's folder of clients."""

    name: str
    roles: frozenset[str]


ANYBODY = Client("", frozenset(ROLES))
"""Roles where no keys are required: every client has all of them."""


def write_keys(folder: Path, names: tuple[str, ...], roles: tuple[str, ...] = DEFAULT_ROLES) -> list[Path]:
    """Make a pair of CURVE keys for each name: NAME.key (public, with its roles), NAME.key_secret (for its owner).

    InputError where one is there already: no key is replaced.
    """
    there = [name for name in names if (folder / f"{name}.key").exists() or (folder / f"{name}.key_secret").exists()]
    if there:
        raise InputError(expected="new names", received=f"{there[0]} in {folder}", fix="choose another, or delete it")
    if unknown := sorted(set(roles) - set(ROLES)):
        raise InputError(expected=f"roles out of {', '.join(ROLES)}", received=unknown[0], fix="correct --roles")
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            public, secret = (key.decode("ascii") for key in zmq.curve_keypair())
            head = f'metadata\n    roles = "{" ".join(roles)}"\ncurve\n    public-key = "{public}"\n'
            written += [
                _written(folder / f"{name}.key", f"# public: whoever {name} is to be known to has this\n{head}", 0o644),
                _written(
                    folder / f"{name}.key_secret",
                    f'# secret: this stays with {name} and goes to nobody\n{head}    secret-key = "{secret}"\n',
                    0o600,
                ),
            ]
    except OSError as error:
        raise InputError(
            expected="a folder that can be written", received=f"{folder} ({error.strerror})", fix="choose another --out"
        ) from error
    return written


def _written(path: Path, text: str, mode: int) -> Path:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def public_key(file: str) -> bytes:
    """The public key of a key file, in Z85; InputError for a file that is none."""
    return _load(file)[0]


def key_pair(file: str) -> tuple[bytes, bytes]:
    """(public, secret) of a secret key file; InputError for one that is none, or that others may read."""
    public, secret = _load(file)
    if secret is None:
        raise InputError(expected="a secret key (*.key_secret)", received=file, fix="name the other file of the pair")
    mode = Path(file).stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            expected="a secret key that its owner alone may read",
            received=f"{file} with mode {stat.S_IMODE(mode):04o}",
            fix=f"chmod 600 {file}",
        )
    return public, secret


def clients_from_folder(folder: Path) -> dict[str, Client]:
    """Everybody whose ``*.key`` lies in a folder, by public key in Z85. Files that are none are passed over.

    A key without roles may read. OSError for a folder that cannot be read.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix != ".key":
            continue
        try:
            public, _ = _loaded(path)
            roles = frozenset(_metadata(path, "roles").replace(",", " ").split() or ["read"])
        except (OSError, ValueError):
            continue
        found[public.decode("ascii")] = Client(path.stem, roles & frozenset(ROLES))
    return found


def _metadata(path: Path, name: str) -> str:
    """A value of a certificate's ``metadata`` section, empty where there is none."""
    within = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line[:1].isspace():
            within = line.strip() == "metadata"
        elif within and line.partition("=")[0].strip() == name:
            return line.partition("=")[2].strip().strip("\"'")
    return ""


def _load(file: str) -> tuple[bytes, bytes | None]:
    if not Path(file).is_file():
        raise InputError(expected="a key file", received=f"{file}, which is not there", fix="correct it")
    try:
        return _loaded(Path(file))
    except (OSError, ValueError) as error:
        raise InputError(
            expected="a key file that hisir-edge keygen wrote", received=f"{file}: {error}", fix="correct it"
        ) from error


def _loaded(path: Path) -> tuple[bytes, bytes | None]:
    """(public, secret or None) in Z85; ValueError for keys that are none."""
    try:
        public, secret = zmq.auth.load_certificate(path)
    except IndexError as error:  # a line without its "="
        raise ValueError("no key file") from error
    for key in (public, secret):
        if key is not None and not _is_key(key):
            raise ValueError("a key of another length, or no Z85")
    return public, secret


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == KEY_CHARACTERS and len(z85.decode(key)) == KEY_BYTES
    except (KeyError, ValueError, struct.error):  # characters that Z85 has not, or a group beyond 32 bits
        return False
