"""Errors that a user meets: each says what was expected, what came, and how to fix it."""

from __future__ import annotations

from typing import Any


class HisirEdgeError(Exception):
    """Root of the errors shown to users as one line; the command line exits with ``exit_code``."""

    exit_code = 2

    def __init__(self, *, expected: str, received: str, fix: str, code: str = "") -> None:
        self.expected, self.received, self.fix = expected, received, fix
        self.code = code
        """One word for programs that ask a line (docs/reference/control-socket.md); empty: none is needed."""
        super().__init__(f"expected {expected}; got {received}; {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its parts: an error in a worker process arrives as what it is."""
        return _from_parts, (type(self), self.expected, self.received, self.fix, self.code)


def _from_parts(kind: type[HisirEdgeError], expected: str, received: str, fix: str, code: str = "") -> HisirEdgeError:
    return kind(expected=expected, received=received, fix=fix, code=code)


class InputError(HisirEdgeError):
    """A file, image, option or argument from the user is not usable."""


class NoAnswer(InputError):
    """A line did not answer in time: it is down, or will not talk to this caller; it may answer later."""


class TryLater(InputError):
    """A line cannot do what it is asked just now; it will, unchanged, later."""


class ConfigError(HisirEdgeError):
    """The line's TOML file is wrong."""


class HungError(HisirEdgeError):
    """Threads or a driver hang and cannot be ended: leave the process at once, without waiting for them."""


class BundleError(HisirEdgeError):
    """A bundle is missing, altered, or not made for this machine or frame."""


class CameraError(HisirEdgeError):
    """A camera or its GenTL producer cannot be used."""


class PublishError(HisirEdgeError):
    """The verdict socket cannot be opened."""


class JournalError(HisirEdgeError):
    """The journal of verdicts cannot be opened or written."""


class InspectionError(HisirEdgeError):
    """A frame that cannot be judged; inside the daemon it becomes an ERROR verdict."""


class NotJudgedError(Exception):
    """A board that cannot be judged, for a reason that needs no fix here; its text is the ERROR verdict's reason."""
