"""The folder of a line's revisions: whole bundles by number, which of them are active, and a log of who did what.

``000003/`` is a bundle; ``active.json`` says which ones the line uses instead of its configured ones; ``log.jsonl`` has
a line for all that was made, activated, taken back or deleted. A kill at any instant leaves each of them whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import Any

from hisir_edge.bundle.files import MANIFEST
from hisir_edge.bundle.integrity import sha256_of
from hisir_edge.bundle.load import manifest_from_folder
from hisir_edge.bundle.lock import held_folder
from hisir_edge.bundle.revised import RevisionModel
from hisir_edge.errors import BundleError, HisirEdgeError, InputError
from hisir_edge.revisions.active import ACTIVE, SCHEMA, Active, Actives, active_of, read_active

NUMBERED = re.compile(r"\d{6,9}")
LOG, NEW = "log.jsonl", ".new."
MOST_LOG_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Revision:
    """A bundle of the store."""

    number: int
    product: str
    sha256: str
    record: RevisionModel
    folder: Path


class RevisionStore:
    """Opened for one daemon at a time until ``close``; several threads may ask. InputError for an unusable folder."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self._most = folder, most
        self._lock = Lock()
        taken = InputError(
            expected="a revisions.folder of its own for each line",
            received=f"{folder}, which another daemon uses",
            fix="name another",
        )
        self._held = held_folder(folder, "revisions.folder", taken)
        try:
            with _told(folder):
                folder.chmod(0o700)  # whatever the umask: a service loads nothing that others may change
            for left in folder.glob(f"{NEW}*"):  # of a daemon that was killed
                shutil.rmtree(left, ignore_errors=True)
            self._last, self.actives = read_active(folder / ACTIVE)
            self._last = max([self._last, *(int(p.name) for p in folder.iterdir() if NUMBERED.fullmatch(p.name))])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the folder back."""
        os.close(self._held)

    def all(self) -> list[Revision]:
        """Every revision, the oldest first; what is damaged is left out."""
        found = []
        with _told(self.folder):
            paths = sorted(p for p in self.folder.iterdir() if NUMBERED.fullmatch(p.name))
        for path in paths:
            try:
                found.append(_revision(path))
            except HisirEdgeError:
                continue
        return found

    def find(self, number: int) -> Revision:
        """One of them; InputError (unknown) where there is none, BundleError for a damaged one."""
        path = self.folder / f"{number:06d}"
        if number < 1 or not path.is_dir():
            raise InputError(
                expected="the number of a revision",
                received=str(number),
                fix="hisir-edge revision list has them",
                code="unknown",
            )
        return _revision(path)

    def chosen(
        self, product: str, camera: str, configured_sha256: str, actives: Actives | None = None
    ) -> tuple[Path | None, str]:
        """Where the active revision of a product and camera lies, None: the configured bundle; and why not, if so.

        ``actives``: what is to be active, instead of what is.
        """
        active = active_of(self.actives if actives is None else actives, product, camera)
        if active is None:
            return None, ""
        if active.configured_sha256 != configured_sha256:
            return None, f"revision {active.number} was activated in place of another configured bundle"
        return self.folder / f"{active.number:06d}", ""

    def number(self) -> int:
        """The number of the next one; each is given once."""
        with self._lock:
            self._last += 1
            return self._last

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """An empty folder for a revision that is being made; it is gone at the end unless it was ``put``."""
        with _told(self.folder):
            path = Path(tempfile.mkdtemp(prefix=NEW, dir=self.folder))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def put(self, staged: Path) -> Revision:
        """Keep a finished one; the oldest that nobody needs goes where there are too many."""
        number = _revision(staged).number
        out = self.folder / f"{number:06d}"
        with self._lock, _told(out):
            for path in (*staged.iterdir(), staged):
                _sync(path)
            self._write_active(self.actives)  # its number is not given again, whatever comes
            staged.rename(out)
            _sync(self.folder)
        self._make_room()
        return _revision(out)

    def use(self, actives: Actives) -> None:
        """What is active from now on, also after a restart."""
        with self._lock:
            self._write_active(actives)
            self.actives = actives

    def set_aside(self, used: dict[tuple[str, str], int]) -> list[Active]:
        """Forget what is active and was not loaded, as another bundle is configured meanwhile; returns these.

        ``used``: by product and camera the revision that was loaded, 0: the configured bundle.
        """
        gone = [one for one in self.actives if used.get((one.product, one.camera), one.number) != one.number]
        if gone:
            self.use(tuple(one for one in self.actives if one not in gone))
        for one in gone:
            with suppress(InputError):
                self.log("set aside", number=one.number, product=one.product, camera=one.camera)
        return gone

    def log(self, what: str, **facts: Any) -> None:
        """Add a line of who did what."""
        path, line = self.folder / LOG, json.dumps({"at": utc_now(), "what": what, **facts}, separators=(",", ":"))
        with self._lock, _told(path), path.open("ab") as file:
            if file.tell() and not _ends_a_line(path):
                file.write(b"\n")  # of a write that a kill or a full disk cut short
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def events(self, most: int) -> list[dict[str, Any]]:
        """The last lines of the log, the newest first."""
        try:
            with (self.folder / LOG).open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - MOST_LOG_READ, 0))
                lines = file.read().splitlines()
        except OSError:  # nothing was logged yet; or it cannot be read: what is in use is told all the same
            return []
        found = []
        for line in reversed(lines):
            try:
                found.append(json.loads(line))
            except ValueError:  # cut short
                continue
            if len(found) == most:
                break
        return found

    def _make_room(self) -> None:
        revisions = self.all()
        needed = {n for one in self.actives for n in (one.number, one.before)} | {one.number for one in revisions[-1:]}
        spare = [one for one in revisions if one.number not in needed]
        for one in spare[: max(len(revisions) - self._most, 0)]:
            shutil.rmtree(one.folder, ignore_errors=True)
            with suppress(InputError):
                self.log("deleted", number=one.number, product=one.product, camera=one.record.camera)

    def _write_active(self, actives: Actives) -> None:
        text = json.dumps({"schema": SCHEMA, "last": self._last, "active": [asdict(one) for one in actives]}, indent=1)
        path = self.folder / ACTIVE
        temporary = path.with_suffix(".tmp")
        with _told(path):
            with temporary.open("w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        with suppress(OSError):  # it is in place
            _sync(self.folder)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """InputError for what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise InputError(
            expected=f"to use {path}", received=error.strerror or str(error), fix="check the folder and its disk"
        ) from error


def utc_now() -> str:
    """RFC 3339, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _revision(folder: Path) -> Revision:
    manifest = manifest_from_folder(folder)
    if manifest.revision is None:
        raise BundleError(
            expected=f"a revision in {folder}", received="a bundle as it was built", fix="remove it from there"
        )
    if NUMBERED.fullmatch(folder.name) and int(folder.name) != manifest.revision.number:
        raise BundleError(
            expected=f"revision {int(folder.name)} in {folder}",
            received=f"revision {manifest.revision.number}",
            fix="remove it from there",
        )
    sha256 = sha256_of(folder / MANIFEST)
    return Revision(manifest.revision.number, manifest.product, sha256, manifest.revision, folder)


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
