"""What is read out of a request, and how a refusal is told: in words for people, by a code for programs."""

from __future__ import annotations

from typing import Any

from hisir_edge.errors import HisirEdgeError, InputError, TryLater
from hisir_edge.labels import is_name

MOST_TEXT = 200
CODES = (
    "malformed", "unknown_request", "invalid", "key", "role", "rate", "busy", "starting", "draining", "paused",
    "camera_lost", "frame_due", "wrong_mode", "unknown", "limit", "journal", "failed",
)  # fmt: skip
"""Of refusals, in docs/reference/control-socket.md and in ``mes/answer.schema.json``."""
AGAIN = ("rate", "busy", "starting", "paused", "camera_lost", "frame_due", "limit", "journal")
"""The same request may be taken later, unchanged."""


def refusal(expected: str, received: str, fix: str, code: str, again: bool = False) -> dict[str, Any]:
    """The answer to a request that is refused: nothing was done."""
    more = {"again": True} if again else {}
    return {"ok": False, "code": code, "expected": expected, "received": received, "fix": fix, **more}


def refusal_of(error: HisirEdgeError) -> dict[str, Any]:
    """The refusal that an error stands for."""
    later = isinstance(error, TryLater)
    code = error.code or ("limit" if later else "invalid")
    return refusal(error.expected, error.received, error.fix, code, later or code in AGAIN)


def text_of(request: dict[str, Any], key: str, required: bool = False) -> str:
    """A text of a request, empty where it is not there; InputError for anything but up to 200 printable characters.

    The separators of labels (GS, RS and so on) count as printable: boards are named by them.
    """
    value = request.get(key, "")
    if not isinstance(value, str) or len(value) > MOST_TEXT or not is_name(value) or (required and not value):
        raise InputError(
            expected=f"{key} as text of {int(required)} to {MOST_TEXT} printable characters",
            received=repr(value)[:80],
            fix="correct the request",
        )
    return value


def count_of(request: dict[str, Any], key: str, default: int, most: int) -> int:
    """A whole number of a request, 0 to ``most``; InputError for anything else."""
    value = request.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise InputError(
            expected=f"{key} as a whole number of 0 to {most}", received=repr(value)[:80], fix="correct the request"
        )
    return value


def flag_of(request: dict[str, Any], key: str, default: bool) -> bool:
    """A true or false of a request; InputError for anything else."""
    value = request.get(key, default)
    if not isinstance(value, bool):
        raise InputError(expected=f"{key} as true or false", received=repr(value)[:80], fix="correct the request")
    return value


def only(request: dict[str, Any], *keys: str) -> None:
    """InputError for anything else in a request: what is not understood is not to be passed over."""
    if unknown := sorted(set(request) - set(keys)):
        raise InputError(
            expected=f"only {', '.join(keys) or 'do'} in this request", received=unknown[0][:80], fix="take it out"
        )
