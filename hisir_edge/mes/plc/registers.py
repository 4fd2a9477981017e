"""The registers: what a PLC writes, what it reads. Standard library alone.

Holding registers, addresses from 0 on, 16 bits each. Numbers of 32 bits: the high word first. Texts: two characters a
register, the first in the high byte, padded with zeros.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, IntFlag

TEXT_REGISTERS = 16
"""32 characters."""
UNIT = re.compile(r"[!-~](?:[ -~]*[!-~])?|")
"""Printable ASCII without blanks around it; or empty."""


class FromPlc(IntEnum):
    """Addresses of what the PLC writes."""

    HEARTBEAT = 0
    COMMAND = 1
    REQUEST = 2
    UNIT = 4
    PRODUCT = 20
    END = 36


class Command(IntFlag):
    """Bits of ``FromPlc.COMMAND``."""

    START = 1
    """A board lies under the camera: inspect it."""
    ACKNOWLEDGE = 2
    """The result was read."""


class ToPlc(IntEnum):
    """Addresses of what the PLC reads."""

    HEARTBEAT = 100
    STATUS = 101
    REQUEST = 102
    RESULT = 103
    SEQUENCE = 104
    ERROR_CODE = 106
    DEFECTS = 107
    SCORE = 108
    LEFT = 109
    TOP = 110
    WIDTH = 111
    HEIGHT = 112
    PHASE = 113
    MAP_VERSION = 114
    UNIT = 116
    REASON = 132
    PART = 156
    END = 164


MAP_VERSION = 1
REASON_REGISTERS, PART_REGISTERS = ToPlc.PART - ToPlc.REASON, ToPlc.END - ToPlc.PART


class Status(IntFlag):
    """Bits of ``ToPlc.STATUS``."""

    ONLINE = 1
    """The line answers."""
    READY = 2
    """A board may be started."""
    BUSY = 4
    RESULT_VALID = 8
    """``RESULT`` and what is beside it are those of ``REQUEST``."""
    PASS = 16
    FAIL = 32
    ERROR = 64
    PLC_ALIVE = 128
    """The PLC's heartbeat changes."""
    CAMERA_UP = 256
    PAUSED = 512


class Outcome(IntEnum):
    """Of ``ToPlc.RESULT``; only PASS is good."""

    NONE = 0
    PASS = 1
    FAIL = 2
    ERROR = 3


class Code(IntEnum):
    """Of ``ToPlc.ERROR_CODE``: why it is an ERROR."""

    NONE = 0
    NOT_JUDGED = 1
    """The line could not judge the board."""
    REFUSED = 2
    """The line refused it."""
    LINE_AWAY = 3
    """The line does not answer, or did not while this was to be judged."""
    LATE = 4
    """No verdict came in time."""
    PLC_SILENT = 5
    """The PLC's heartbeat stood still before it had acknowledged the result."""
    WITHDRAWN = 6
    """START fell before there was a result."""
    REQUEST_USED = 7
    """The request's number is 0, or that of the request before."""
    TEXT = 8
    """Unit or product is no text of printable ASCII."""
    NOT_READY = 9
    """START came while the line was not ready, or stood when this program began."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A result as it stands in the registers."""

    outcome: Outcome
    code: Code = Code.NONE
    reason: str = ""
    seq: int = 0
    unit: str = ""
    defects: int = 0
    score: float = 0.0
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    part: str = ""


NOTHING = Shown(Outcome.NONE)


def text_from_registers(words: list[int]) -> str | None:
    """A text; None where it is none."""
    raw = b"".join(word.to_bytes(2, "big") for word in words).rstrip(b"\0")
    try:
        text = raw.decode("ascii").strip(" ")
    except UnicodeDecodeError:
        return None
    return text if UNIT.fullmatch(text) else None


def registers_from_text(text: str, count: int) -> list[int]:
    """A text, cut to what fits, other characters as ``?``."""
    raw = text.encode("ascii", "replace")[: 2 * count].ljust(2 * count, b"\0")
    return [int.from_bytes(raw[n : n + 2], "big") for n in range(0, 2 * count, 2)]


def clipped(value: float) -> int:
    """A number as a register holds it, 0 to 65535; what is no number is 65535."""
    return int(min(max(value, 0), 65535)) if value == value else 65535  # noqa: PLR0124
