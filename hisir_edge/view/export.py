"""Boards, defects and decisions for other tools: CSV, and COCO (annotations, and the pictures that are archived)."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from hisir_edge.archive.board_file import ArchivedBoard
from hisir_edge.errors import InputError
from hisir_edge.view.history import History
from hisir_edge.view.statistics import NOT_YET, Range, judged_by_people, outcome_of

MOST_BOARDS = 5000
COLUMNS = (
    "line", "epoch", "seq", "time", "unit", "product", "result", "outcome", "score", "defects", "total_s", "blur_px",
    "brightness", "reason",
)  # fmt: skip
FORMULAS = "=+-@\t\r"
"""A spreadsheet takes text that begins so for a formula."""
Fetch = Callable[[str, str, int], ArchivedBoard]
"""Of a line, an epoch and a number; InputError where it is not archived."""


def csv_of(history: History, asked: Range) -> Iterator[str]:
    """Rows of all boards, the oldest first."""
    said = judged_by_people(history, asked)
    yield _row(COLUMNS)
    for row in _boards(history, asked):
        outcome = outcome_of(row["result"], row["defects"], said.get((row["line"], row["epoch"], row["seq"]), {}))
        yield _row([row.get(name, outcome) for name in COLUMNS])


def _boards(history: History, asked: Range) -> list[dict[str, Any]]:
    where, values = asked.where
    return history.query(
        "SELECT line, epoch, seq, strftime('%Y-%m-%dT%H:%M:%fZ', at, 'unixepoch') AS time, unit, product, result, "
        f"score, defects, total_s, blur_px, brightness, reason FROM verdict v WHERE {where} ORDER BY at",
        values,
    )


def _row(values: Any) -> str:
    out = io.StringIO()
    safe = [f"'{v}" if isinstance(v, str) and v[:1] and v[0] in FORMULAS else v for v in values]
    csv.writer(out, lineterminator="\r\n").writerow(safe)
    return out.getvalue()


def coco_of(history: History, asked: Range, fetch: Fetch) -> bytes:
    """A ZIP file: ``annotations.json`` (COCO: boxes, contours, decisions), and ``images``, as archived.

    Boards that are not archived are left out. InputError for more than ``MOST_BOARDS``.
    """
    boards = _boards(history, asked)
    if len(boards) > MOST_BOARDS:
        raise InputError(
            expected=f"at most {MOST_BOARDS} boards at a time", received=str(len(boards)), fix="choose a shorter time"
        )
    said = judged_by_people(history, asked)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for row in boards:
            key = (row["line"], row["epoch"], row["seq"])
            try:
                board = fetch(*key)
            except InputError:
                continue
            with board:
                for view in board.facts.views:
                    name = f"images/{row['line']}-{row['seq']:08d}-{view.picture}"
                    archive.writestr(name, board.picture(view))
                    h, w = board.frame(view).hw
                    images.append(
                        {
                            "id": len(images) + 1, "file_name": name, "width": w, "height": h, "unit": row["unit"],
                            "result": row["result"], "camera": view.camera, "line": row["line"], "epoch": row["epoch"],
                            "seq": row["seq"],
                        }
                    )  # fmt: skip
                    annotations += _annotations(board, view.camera, len(images), len(annotations), said.get(key, {}))
                archive.writestr(f"masks/{row['line']}-{row['seq']:08d}.png", board.mask_png)
        content = {
            "info": {"description": "hisir-edge", "version": "1.0"}, "images": images, "annotations": annotations,
            "categories": [{"id": 1, "name": "ANOMALY", "supercategory": "defect"}],
        }  # fmt: skip
        archive.writestr("annotations.json", json.dumps(content))
    return out.getvalue()


def _annotations(
    board: ArchivedBoard, camera: str, image: int, before: int, said: dict[int, str]
) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for inspection in json.loads(board.verdict)["InspectedUnits"][0]["Inspections"]:
        if inspection["InspectionName"] != camera:
            continue
        for defect in inspection["DefectsFound"]:
            px, number = defect["RegionOfInterest"]["px"], defect["Priority"]
            out.append(
                {
                    "id": before + len(out) + 1, "image_id": image, "category_id": 1, "iscrowd": 0,
                    "bbox": [px["x"], px["y"], px["w"], px["h"]], "area": defect["vision"]["area_px"],
                    "segmentation": [[value for point in px["contour"] for value in point]],
                    "score": defect["vision"]["peak"], "decision": said.get(number, said.get(0, NOT_YET)),
                }
            )  # fmt: skip
    return out
