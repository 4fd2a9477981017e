"""Deliveries of another inspection machine, made from test boards: calls where their masks are, and at good places."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.images import header_of_picture


def boxes_of_mask(mask: Path, grow_px: int = 8) -> list[tuple[int, int, int, int]]:
    """Boxes x, y, w, h around the defects of a mask, those that touch as one, each a little larger."""
    picture = (cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8)
    joined = cv2.dilate(picture, np.ones((2 * grow_px + 1,) * 2, np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    return [(int(x), int(y), int(w), int(h)) for x, y, w, h, _ in stats[1:count]]


def good_boxes(
    rng: np.random.Generator, within: tuple[int, int, int, int], real: list[tuple[int, int, int, int]], count: int
) -> list[tuple[int, int, int, int]]:
    """Boxes at random within x, y, w, h, of parts' sizes, none of which meets a real one."""
    x0, y0, width, height = within
    found: list[tuple[int, int, int, int]] = []
    while len(found) < count:
        w, h = (int(side) for side in rng.integers(width // 40, width // 10, 2))
        x, y = int(rng.integers(x0, x0 + width - w)), int(rng.integers(y0, y0 + height - h))
        if not any(x < a + c + 40 and a < x + w + 40 and y < b + d + 40 and b < y + h + 40 for a, b, c, d in real):
            found.append((x, y, w, h))
    return found


def rows_of_board(
    data: Path, picture: Path, rng: np.random.Generator, false_calls: int = 4,
    within: tuple[int, int, int, int] | None = None,
) -> list[dict]:  # fmt: skip
    """The calls of one test picture, with their truth."""
    real = []
    for mask in sorted((data / "ground_truth" / picture.parent.name).glob(f"{picture.stem}[._]*")):
        real += boxes_of_mask(mask)
    h, w = header_of_picture(picture).upright_hw
    boxes = [(box, "real", picture.parent.name) for box in real]
    boxes += [(box, "false", "good") for box in good_boxes(rng, within or (0, 0, w, h), real, false_calls)]
    return [
        {"id": str(n), "x": x, "y": y, "w": w, "h": h, "class": kind, "truth": truth}
        for n, ((x, y, w, h), truth, kind) in enumerate(boxes, 1)
    ]


def deliver(folder: Path, name: str, picture: Path, rows: list[dict], **board) -> Path:
    """Put a board into a folder as a well-behaved machine does: the picture first, the calls by a rename."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(picture, folder / f"{name}{picture.suffix}")
    calls = folder / f"{name}.json"
    draft = folder / f".{name}.draft"
    draft.write_text(json.dumps({"calls": rows, **board}))
    draft.replace(calls)
    return calls


def delivered_boards(data: Path, folder: Path, seed: int = 0, **more) -> dict[str, list[dict]]:
    """Every test board of a data set, delivered: name -> its calls."""
    rng = np.random.default_rng(seed)
    found = {}
    for picture in sorted((data / "test").glob("*/*.png")):
        name = f"{picture.parent.name}-{picture.stem}"
        found[name] = rows_of_board(data, picture, rng, **more)
        deliver(folder, name, picture, found[name], unit=name)
    return found


def deliver_crops(folder: Path, name: str, picture: Path, rows: list[dict], shift: tuple[int, int] = (0, 0)) -> None:
    """Put a board into a folder as crops around its calls, which were cut ``shift`` px beside their coordinates."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = np.asarray(cv2.imread(str(picture)))
    out = []
    for row in rows:
        x0, y0 = max(row["x"] - 40, 0), max(row["y"] - 40, 0)
        x1, y1 = min(row["x"] + row["w"] + 40, whole.shape[1]), min(row["y"] + row["h"] + 40, whole.shape[0])
        moved = np.roll(whole, shift[::-1], (0, 1))
        file = f"{name}-{row['id']}.png"
        cv2.imwrite(str(folder / file), moved[y0:y1, x0:x1])
        out.append({**row, "crop": file, "crop_x": x0, "crop_y": y0})
    (folder / f"{name}.json").write_text(json.dumps({"calls": out}))


def answers_of(folder: Path) -> dict[str, dict]:
    """What was answered so far: name -> the file."""
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
