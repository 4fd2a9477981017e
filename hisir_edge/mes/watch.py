"""Prints verdicts as they come (``hisir-edge watch``)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hisir_edge.images import write_atomic
from hisir_edge.mes.subscribe import subscribe
from hisir_edge.mes.whole import Line, subscribe_whole


def line_of(body: dict[str, Any]) -> str:
    """One verdict as one line of text."""
    worst = body["regions"][0] if body["regions"] else None
    where = f"  worst at x={worst['x']} y={worst['y']} {worst['w']}x{worst['h']} px" if worst else ""
    return (
        f"{body['time']}  {body['line']} #{body['seq']}  {body['result']:5s}  {body['unit']}"
        f"  {body['times_s']['total']:.2f} s  {body['reason']}{where}"
    ).rstrip()


def watch_verdicts(
    endpoint: str,
    topic: str,
    count: int,
    timeout_s: float | None,
    as_json: bool,
    masks: Path | None,
    stop: Callable[[], bool],
    whole: tuple[Line, Path] | None = None,
) -> int:
    """Print until ``count`` (0: no limit), ``timeout_s`` of silence or ``stop``; returns how many came.

    ``whole``: a line and a cursor file, for every verdict since the last time.
    """
    if masks is not None:
        masks.mkdir(parents=True, exist_ok=True)
    seen = 0
    stream = (
        subscribe_whole(whole[0], whole[1], timeout_s, stop) if whole else subscribe(endpoint, topic, timeout_s, stop)
    )
    try:
        for verdict in stream:
            # a filtered topic skips numbers by design, so gaps only mean a loss when all are watched
            if verdict.missed and topic == "verdict/":
                print(f"hisir-edge: {verdict.missed} verdict(s) missed before #{verdict.body['seq']}", file=sys.stderr)
            print(json.dumps(verdict.body) if as_json else line_of(verdict.body), flush=True)
            if masks is not None and verdict.mask_png:
                write_atomic(
                    masks / f"{verdict.body['epoch'][:8]}_{verdict.body['seq']:06d}_mask.png", verdict.mask_png
                )
            seen += 1
            if count and seen >= count:
                break
    finally:
        stream.close()
    return seen
