"""Prints verdicts as they come (``hisir-edge watch``)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from hisir_edge.images import write_atomic
from hisir_edge.labels import shown
from hisir_edge.mes.verdict import Verdict
from hisir_edge.transport.run_lengths import MAGIC


def line_of(verdict: Verdict) -> str:
    """One verdict as one line of text."""
    worst = verdict.defects[0] if verdict.defects else None
    where = ""
    if worst is not None:
        part = f" {worst.component}" if worst.component else ""
        sure = f" ({worst.confidence:.0f} %)" if worst.confidence is not None else ""
        where = f"  worst{part} at x={worst.x} y={worst.y} {worst.w}x{worst.h} px{sure}"
    return (
        f"{verdict.time}  {verdict.line} #{verdict.seq}  {verdict.result:5s}  {shown(verdict.unit)}"
        f"  {verdict.total_s:.2f} s  {verdict.reason}{where}".rstrip()
        + ("" if verdict.result == "ERROR" else warned(verdict.warnings))
    )


def warned(warnings: Iterable[str]) -> str:
    """Warnings at the end of a line; empty where there are none."""
    words = "; ".join(warnings)
    return f"  WARNING: {words}" if words else ""


def watch_verdicts(
    stream: Generator[Verdict, None, None],
    gaps: bool,
    count: int,
    as_json: bool,
    masks: Path | None,
    stop: Callable[[], None],
) -> int:
    """Print until ``count`` (0: no limit) or the stream's end; returns how many came.

    ``gaps``: tell of missed verdicts, where all are watched; a filtered topic skips numbers by design. ``stop`` has the
    stream end at the next verdict.
    """
    if masks is not None:
        masks.mkdir(parents=True, exist_ok=True)
    seen = 0
    try:
        for verdict in stream:
            if verdict.missed and gaps:
                print(f"hisir-edge: {verdict.missed} verdict(s) missed before #{verdict.seq}", file=sys.stderr)
            print(verdict.text.decode() if as_json else line_of(verdict), flush=True)
            if masks is not None and verdict.mask:
                kind = "rle" if verdict.mask.startswith(MAGIC) else "png"
                write_atomic(masks / f"{verdict.epoch[:8]}_{verdict.seq:06d}_mask.{kind}", verdict.mask)
            seen += 1
            if count and seen >= count:
                stop()
                next(stream, None)  # this one is done with
                break
    finally:
        stream.close()
    return seen
