"""What people say beyond the line's own calls: places that it missed; all reviewed boards, for the next training."""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from typing import IO, Any

from hisir_edge.errors import InputError
from hisir_edge.view.history import History
from hisir_edge.view.statistics import CONFIRMED, FALSE_CALL, NOT_YET, REPAIRED, last_words

SCHEMA = "hisir-edge/reviewed/1.0"
MOST_MISSED, MOST_CORNERS, MOST_BOARDS = 50, 200, 5000
LEAST_AREA_PX = 2.0
MOST_EXPORT_BYTES = 4_000_000_000
KINDS = {CONFIRMED: "confirmed", FALSE_CALL: "false call", REPAIRED: "repaired", NOT_YET: "open"}
ESCAPE = "escape"
Fetch = Callable[[str, str, int], bytes]
"""The archived file of a line's epoch and number; InputError (unknown) where it is not archived."""


def missed_on(history: History, line: str, epoch: str, seq: int) -> list[dict[str, Any]]:
    """The places that people drew on a board: ``id``, ``camera``, ``polygon`` in frame pixels, ``operator``, ``at``."""
    rows = history.query(
        "SELECT id, camera, polygon, operator, at FROM missed WHERE line = ? AND epoch = ? AND seq = ? ORDER BY id",
        (line, epoch, seq),
    )
    return [{**row, "polygon": json.loads(row["polygon"])} for row in rows]


def polygon_from_json(raw: Any, hw: tuple[int, int]) -> list[list[float]]:
    """Corners in a frame (h, w); InputError for anything else."""
    try:
        if any(isinstance(value, bool) or not isinstance(value, int | float) for corner in raw for value in corner):
            raise ValueError("numbers")
        corners = [[float(x), float(y)] for x, y in raw]
        inside = all(-1 <= x <= hw[1] and -1 <= y <= hw[0] for x, y in corners)
        if not 3 <= len(corners) <= MOST_CORNERS or not inside or not _area(corners) >= LEAST_AREA_PX:
            raise ValueError(f"3 to {MOST_CORNERS} corners around a place within {hw[1]}x{hw[0]}")
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            expected="a polygon in the frame's pixels", received=str(error)[:200], fix="draw it again"
        ) from error
    return corners


def _area(corners: list[list[float]]) -> float:
    following = [*corners[1:], corners[0]]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, following, strict=True))) / 2


def draw_missed(history: History, board: dict[str, Any], camera: str, polygon: list[list[float]], who: str) -> int:
    """Keep a place that a line missed; a board that had passed is an escape from then on."""
    line, epoch, seq = board["line"], board["epoch"], board["seq"]
    if len(missed_on(history, line, epoch, seq)) >= MOST_MISSED:
        raise InputError(expected=f"up to {MOST_MISSED} places on a board", received="more", fix="remove one")
    number = history.change(
        "INSERT INTO missed (line, epoch, seq, camera, polygon, operator, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (line, epoch, seq, camera, json.dumps(polygon), who, time.time()),
    )
    if board["result"] == "PASS" and _word(history, line, epoch, seq) != CONFIRMED:
        history.decide(line, epoch, seq, 0, CONFIRMED, ESCAPE, who)
    return number


def remove_missed(history: History, board: dict[str, Any], number: int, who: str) -> None:
    """Forget a place; after the last one the board is no escape any more."""
    line, epoch, seq = board["line"], board["epoch"], board["seq"]
    history.change("DELETE FROM missed WHERE id = ? AND line = ? AND epoch = ? AND seq = ?", (number, line, epoch, seq))
    if missed_on(history, line, epoch, seq):
        return
    last = [one for one in history.decisions(line, epoch, seq) if one["defect"] == 0][-1:]
    if board["result"] == "PASS" and last and (last[0]["verification"], last[0]["detail"]) == (CONFIRMED, ESCAPE):
        history.decide(line, epoch, seq, 0, NOT_YET, "", who)


def reviewed_of(
    history: History, line: str, product: str, since: float, fetch: Fetch, most_bytes: int = MOST_EXPORT_BYTES
) -> tuple[IO[bytes], dict[str, int]]:
    """A temporary ZIP file of a product's reviewed boards on a line, and how many places of each kind are in it.

    The newest ``MOST_BOARDS``. A board on which all was taken back is in it, too: what was said before does not count
    any more. ``left_out`` counts boards that are not archived any more; they are listed without their file. InputError
    where it would be too large.
    """
    keys = history.query(
        "SELECT epoch, seq, unit, result FROM verdict v WHERE line = ? AND product = ? AND at >= ? AND ("
        "EXISTS (SELECT 1 FROM decision d WHERE d.line = v.line AND d.epoch = v.epoch AND d.seq = v.seq) OR "
        "EXISTS (SELECT 1 FROM missed m WHERE m.line = v.line AND m.epoch = v.epoch AND m.seq = v.seq)) "
        "ORDER BY at DESC LIMIT ?",
        (line, product, since, MOST_BOARDS),
    )
    counts = dict.fromkeys((*KINDS.values(), ESCAPE, "boards", "left_out"), 0)
    boards: list[dict[str, Any]] = []
    out = tempfile.TemporaryFile()  # noqa: SIM115  # given to the caller, who closes it
    try:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for row in reversed(keys):
                places = _places(history, line, row)
                decided = any(place["kind"] != "open" for place in places)
                name = f"boards/{row['epoch'][:8]}-{row['seq']:010d}.zip" if decided else ""
                if name and not _added(archive, name, partial(fetch, line, row["epoch"], row["seq"])):
                    counts["left_out"] += 1
                    name = ""
                boards.append(
                    {
                        "line": line, "epoch": row["epoch"], "seq": row["seq"], "unit": row["unit"], "file": name,
                        "places": places,
                    }
                )  # fmt: skip
                counts["boards"] += bool(name)
                for place in places if name else ():
                    counts[place["kind"]] += 1
                if out.tell() > most_bytes:
                    raise InputError(
                        expected=f"an export of up to {most_bytes / 1e9:g} GB",
                        received="more",
                        fix="choose a shorter time",
                    )
            archive.writestr("reviewed.json", json.dumps({"schema": SCHEMA, "product": product, "boards": boards}))
    except BaseException:
        out.close()
        raise
    out.seek(0)
    return out, counts


def _added(archive: zipfile.ZipFile, name: str, fetch: Callable[[], bytes]) -> bool:
    """Whether a board's file could be added: it is archived still."""
    try:
        archive.writestr(name, fetch())
    except InputError as error:
        if error.code != "unknown":
            raise
        return False
    return True


def _word(history: History, line: str, epoch: str, seq: int) -> str:
    return last_words(history.decisions(line, epoch, seq)).get(0, NOT_YET)


def _places(history: History, line: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """What was called on a board, and what people said of each; then what they drew."""
    epoch, seq = row["epoch"], row["seq"]
    decisions = history.decisions(line, epoch, seq)
    said, who = last_words(decisions), {one["defect"]: one["operator"] for one in decisions}
    out: list[dict[str, Any]] = []
    board = history.board(line, epoch, seq)
    body = {"InspectedUnits": [{"Inspections": []}]} if board is None else board["body"]
    for inspection in body["InspectedUnits"][0]["Inspections"]:
        for defect in inspection["DefectsFound"]:
            number, px = defect["Priority"], defect["RegionOfInterest"]["px"]
            word = said.get(number, NOT_YET)
            named = number if word != NOT_YET else 0
            out.append(
                {
                    "camera": inspection["InspectionName"], "kind": KINDS[said.get(named, NOT_YET)],
                    "polygon": px["contour"], "who": who.get(named, ""),
                }
            )  # fmt: skip
    if row["result"] == "PASS" and said.get(0, NOT_YET) in (NOT_YET, FALSE_CALL):
        return out  # it was taken back, or rejected, that this board is bad
    out += [
        {"camera": missed["camera"], "kind": ESCAPE, "polygon": missed["polygon"], "who": missed["operator"]}
        for missed in missed_on(history, line, epoch, seq)
    ]
    return out
