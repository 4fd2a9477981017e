"""Boards, defects and decisions for other tools: CSV, and COCO (annotations, and the pictures that are archived)."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import IO, Any

from hisir_edge.archive.board_file import ArchivedBoard
from hisir_edge.errors import InputError
from hisir_edge.view.history import MOST_ROWS, History, Search
from hisir_edge.view.statistics import NOT_YET, last_words, outcome_of

MOST_EXPORT_BYTES = 4_000_000_000
PIECE_BYTES = 1 << 20
COLUMNS = (
    "line", "epoch", "seq", "time", "unit", "product", "result", "outcome", "score", "defects", "total_s", "blur_px",
    "brightness", "reason",
)  # fmt: skip
FORMULAS = "=+-@\t\r"
"""A spreadsheet takes text that begins so for a formula."""
Fetch = Callable[[str, str, int], ArchivedBoard]
"""Of a line, an epoch and a number; InputError (unknown) where it is not archived."""


def rows_of(history: History, search: Search) -> Iterator[dict[str, Any]]:
    """All boards that a search finds, the newest first, a page at a time; each with its ``said`` and ``outcome``."""
    page, before = history.boards(replace(search, most=MOST_ROWS)), None
    while page:
        for row in page:
            outcome, said = outcome_on(history, row)
            yield {**row, "said": said, "outcome": outcome}
        before = (page[-1]["at"], page[-1]["line"], page[-1]["seq"])
        page = history.boards(replace(search, most=MOST_ROWS, before=before))


def outcome_on(history: History, row: dict[str, Any]) -> tuple[str, dict[int, str]]:
    """What people made of a board, and the last word on each of its defects."""
    said = last_words(history.decisions(row["line"], row["epoch"], row["seq"]))
    return outcome_of(row["result"], row["defects"], said), said


def csv_of(history: History, search: Search) -> Iterator[str]:
    """A table of the boards that a search finds."""
    yield _row(COLUMNS)
    for row in rows_of(history, search):
        time = datetime.fromtimestamp(row["at"], timezone.utc).isoformat(timespec="milliseconds")
        yield _row([time if name == "time" else row[name] for name in COLUMNS])


def _row(values: Any) -> str:
    out = io.StringIO()
    safe = [f"'{v}" if isinstance(v, str) and v[:1] and v[0] in FORMULAS else v for v in values]
    csv.writer(out, lineterminator="\r\n").writerow(safe)
    return out.getvalue()


def coco_of(
    history: History, search: Search, fetch: Fetch, most_bytes: int = MOST_EXPORT_BYTES
) -> tuple[IO[bytes], int]:
    """A temporary ZIP file, and how many boards it leaves out because they are not archived.

    ``annotations.json`` (COCO: boxes, contours, decisions), ``images`` as archived, ``masks`` of boards that have one.
    InputError where it would be larger than ``most_bytes``, and where a line does not answer.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    left_out = 0
    out = tempfile.TemporaryFile()  # noqa: SIM115  # given to the caller, who closes it
    try:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for row in rows_of(history, search):
                try:
                    board = fetch(row["line"], row["epoch"], row["seq"])
                except InputError as error:
                    if error.code != "unknown":
                        raise
                    left_out += 1
                    continue
                with board:
                    _add(archive, board, row, images, annotations)
                if out.tell() > most_bytes:
                    raise InputError(
                        expected=f"an export of up to {most_bytes / 1e9:g} GB",
                        received="more",
                        fix="choose a shorter time",
                    )
            content = {
                "info": {"description": "hisir-edge", "version": "1.0", "left_out": left_out}, "images": images,
                "annotations": annotations, "categories": [{"id": 1, "name": "ANOMALY", "supercategory": "defect"}],
            }  # fmt: skip
            archive.writestr("annotations.json", json.dumps(content))
    except BaseException:
        out.close()
        raise
    out.seek(0)
    return out, left_out


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """A file's bytes, piece by piece; closed at the end."""
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _add(
    archive: zipfile.ZipFile, board: ArchivedBoard, row: dict[str, Any], images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
) -> None:  # fmt: skip
    """One board's pictures, mask and annotations."""
    stem = f"{row['line']}-{row['epoch'][:8]}-{row['seq']:08d}"
    for view in board.facts.views:
        name = f"images/{stem}-{view.picture}"
        archive.writestr(name, board.picture(view))
        h, w = board.frame(view).hw
        images.append(
            {
                "id": len(images) + 1, "file_name": name, "width": w, "height": h, "unit": row["unit"],
                "result": row["result"], "camera": view.camera, "line": row["line"], "epoch": row["epoch"],
                "seq": row["seq"],
            }
        )  # fmt: skip
        annotations += _annotations(board, view.camera, len(images), len(annotations), row["said"])
    if mask := board.mask_png:  # a passed board has none
        archive.writestr(f"masks/{stem}.png", mask)


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
