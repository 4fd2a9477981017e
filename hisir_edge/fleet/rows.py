"""The one schema of a fleet's tables, and rows of it; every store has these columns, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Literal

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import Cursor
from hisir_edge.mes.verdict import Verdict

Kind = Literal["text", "number", "integer", "time", "day"]
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, what it holds, and what that is."""

    name: str
    kind: Kind
    words: str


BOARD = (
    Column("line", "text", "the line's name"),
    Column("epoch", "text", "the life of its journal"),
    Column("seq", "integer", "number of the board in it"),
    Column("day", "day", "UTC day that it is filed under: its own, or that of collecting where that cannot be"),
)
"""Which board a row is of."""
VERDICT = (
    *BOARD,
    Column("given_at", "time", "when the verdict was given, by the line's clock"),
    Column("plant", "text", "as fleet.toml names it"),
    Column("unit", "text", "the board's identity"),
    Column("product", "text", "what it was inspected as"),
    Column("bundle", "text", "SHA-256 of the bundle revision's manifest"),
    Column("camera", "text", "the first camera"),
    Column("result", "text", "PASS, FAIL or ERROR"),
    Column("score", "number", "1 = pixel threshold; none for ERROR"),
    Column("defects", "integer", "how many defects were called"),
    Column("total_s", "number", "seconds from frame to judgement"),
    Column("blur_px", "number", "blur beyond the good boards', pixels"),
    Column("brightness", "number", "against the good boards', 1 = alike"),
    Column("white_share", "number", "share of the frame that is white"),
    Column("looked_share", "number", "share of tiles that the whole network saw"),
    Column("warnings", "integer", "how many warnings"),
    Column("reason", "text", "why FAIL or ERROR"),
    Column("body", "text", "the verdict's JSON, where `bodies` is on"),
)
DEFECT = (
    *BOARD,
    Column("number", "integer", "its Priority, 1 is the strongest"),
    Column("camera", "text", "the camera that saw it"),
    Column("component", "text", "the part, where parts are known"),
    Column("x", "integer", "left, frame pixels"),
    Column("y", "integer", "top, frame pixels"),
    Column("w", "integer", "width, frame pixels"),
    Column("h", "integer", "height, frame pixels"),
    Column("peak", "number", "how strong, 1 = pixel threshold"),
)
DECISION = (
    *BOARD,
    Column("id", "integer", "the line's number of the decision"),
    Column("defect", "integer", "Priority of the defect; 0: the board"),
    Column("verification", "text", "DefectConfirmed, DefectRejected, DefectAccepted or NotVerifiedYet"),
    Column("operator", "text", "who decided"),
    Column("detail", "text", "why"),
    Column("decided_at", "time", "when, by the line's clock"),
)
TABLES = {"verdict": VERDICT, "defect": DEFECT, "decision": DECISION}
KEYS = {
    "verdict": ("line", "epoch", "seq"), "defect": ("line", "epoch", "seq", "number"),
    "decision": ("line", "epoch", "id"),
}  # fmt: skip
MOST_AHEAD = timedelta(days=1)
MOST_NUMBER, MOST_INTEGER, MOST_TEXT = 1e300, 2**53, 400


@dataclass(frozen=True, slots=True)
class Batch:
    """Boards of one line in order, and the place of the last one: stored together or not at all.

    ``before``: the place that was stored when they were collected.
    """

    line: str
    verdicts: list[Row]
    defects: list[Row]
    before: Cursor | None
    after: Cursor


@dataclass(frozen=True, slots=True)
class Now:
    """What time it is; ``is_sure``: whether the store's clock and this machine's agree, and may be."""

    at: datetime
    is_sure: bool


def filed_on(at: datetime, now: Now, keep_days: int) -> date:
    """The UTC day that a board is filed under: a line's clock that is years off neither hides nor deletes it.

    While it is not sure what time it is, the line's own word counts.
    """
    if now.is_sure and (at > now.at + MOST_AHEAD or at < now.at - timedelta(days=keep_days)):
        return now.at.date()
    return at.date()


def time_of(text: str) -> datetime:
    """A time of a verdict, RFC 3339, in UTC."""
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)


def rows_of(verdict: Verdict, plant: str, keep_days: int, bodies: bool, now: Now) -> tuple[Row, list[Row]]:
    """A verdict's row, and those of its defects; InputError for one that a table cannot hold."""
    v = verdict
    try:
        at = time_of(v.time)
        board = (v.line, v.epoch, v.seq, filed_on(at, now, keep_days))
        optics = v.optics
        row = (
            *board, at, plant, _named(v.unit), _named(v.product), _named(v.bundle_sha256), _named(v.camera), v.result,
            _number(v.score), _integer(v.defects_total), _number(v.total_s), _number(optics.get("blur_px")),
            _number(optics.get("brightness")), _number(optics.get("white_share")), _number(v.looked_share),
            len(v.warnings), clean(v.reason), clean(v.text.decode()) if bodies else None,
        )  # fmt: skip
        defects = [
            (
                *board, number, _named(d.camera), _named(d.component), _integer(d.x), _integer(d.y), _integer(d.w),
                _integer(d.h), _number(d.peak),
            )
            for d in v.defects if (number := _integer(d.priority)) is not None
        ]  # fmt: skip
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            expected=f"a verdict of {v.line} that a table can hold", received=f"#{v.seq}: {error}",
            fix="check that this program is no older than the line's",
        ) from error  # fmt: skip
    return row, defects


def decision_row(line: str, decision: dict[str, Any], keep_days: int, now: Now) -> Row:
    """A decision as the line tells of it; InputError for one that is none."""
    try:
        at = time_of(str(decision["TimeStamp"]))
        return (
            line, str(decision["epoch"]), int(decision["seq"]), filed_on(at, now, keep_days), int(decision["id"]),
            _integer(decision["defect"]), _named(str(decision["Verification"])), _named(str(decision["operator"])),
            clean(str(decision["VerificationDetail"])), at,
        )  # fmt: skip
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise InputError(
            expected=f"decisions of {line}", received=f"{type(error).__name__}: {error}"[:200],
            fix="check that this program is no older than the line's",
        ) from error  # fmt: skip


def _number(value: Any) -> float | None:
    """A finite number; None for anything else: what a line could not say does not hold up its boards."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MOST_NUMBER:
        return float(value)
    return None


def _integer(value: Any) -> int | None:
    """A whole number that a table holds; None for anything else."""
    number = _number(value)
    return None if number is None or abs(number) > MOST_INTEGER else int(value)


def _named(text: str) -> str:
    """A text that an index takes."""
    return clean(text)[:MOST_TEXT]


def clean(text: str) -> str:
    """Without NUL, which PostgreSQL's text does not hold, and without what UTF-8 cannot say."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
