"""Looks that a line saves behind another inspection machine, and what it lets through, on test boards with masks.

    python tests/bench/second_gate.py DATA BUNDLE WORK --seeds 0 1 2 --false-calls 4 --crops

Calls are made from the masks (real) and from random good places of the board (false), the places anew for each seed.
``--crops``: the same calls, delivered as crops around them instead of whole pictures, cut where the board lies.
Prints a Markdown table by seed, and what was let through.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.calls import deliver, deliver_crops, rows_of_board

from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.config.from_files import CallsSource
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.line.offline import answer_deliveries
from hisir_edge.mes.answers import LEVELS, Counted, count_answers


def good_within(bundle_folder: Path) -> tuple[int, int, int, int]:
    """Where on the golden image the board surely lies: the box of its area, a tenth smaller on each side."""
    bundle = load_bundle(bundle_folder)
    h, w = bundle.recipe.frame_hw
    corners = np.array(bundle.area if bundle.area is not None else [[0, 0], [w, h]], float)
    (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
    return int(x0 + (x1 - x0) / 10), int(y0 + (y1 - y0) / 10), int((x1 - x0) * 0.8), int((y1 - y0) * 0.8)


def straight(data: Path, bundle_folder: Path, work: Path) -> Path:
    """The test boards and their masks as another machine has them that has found the board."""
    bundle = load_bundle(bundle_folder)
    inspector = inspector_from_bundle(bundle)
    (h, w), out = bundle.recipe.frame_hw, work / "straight"
    shutil.rmtree(out, ignore_errors=True)
    for picture in sorted((data / "test").glob("*/*")):
        pose = inspector.pose_of(Pixels(read_rgb(picture)))
        matrix = np.eye(3) if pose is None else pose.matrix
        for path in (picture, *(data / "ground_truth" / picture.parent.name).glob(f"{picture.stem}[._]*")):
            target = (out / path.relative_to(data)).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), cv2.warpPerspective(np.asarray(cv2.imread(str(path))), matrix, (w, h)))
    inspector.close()
    return out


def counted(data: Path, bundle: Path, work: Path, seed: int, false_calls: int, crops: bool) -> tuple[Counted, float]:
    """What the answers come to, and seconds a board."""
    rng, within, folder = np.random.default_rng(seed), good_within(bundle), work / "in"
    for one in (folder, work / "out"):
        shutil.rmtree(one, ignore_errors=True)
    for picture in sorted((data / "test").glob("*/*")):
        rows = rows_of_board(data, picture, rng, false_calls, within)
        name = f"{picture.parent.name}-{picture.stem}"
        if crops:
            deliver_crops(folder, name, picture, rows, tuple(rng.integers(-6, 7, 2)))
        else:
            deliver(folder, name, picture, rows)
    source = CallsSource(type="calls", folder=str(folder), settle_s=0, wait_s=0)
    start = time.perf_counter()
    found = [one for _, one in answer_deliveries(bundle, source, work / "out")]
    return count_answers(found), (time.perf_counter() - start) / len(found)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--false-calls", type=int, default=4)
    parser.add_argument("--crops", action="store_true")
    asked = parser.parse_args()
    data = straight(asked.data, asked.bundle, asked.work) if asked.crops else asked.data
    print("| seed | calls | false, answered false | real: confirmed, unsure, let through | boards without look | s |")
    print("|---|---|---|---|---|---|")
    for seed in asked.seeds:
        one, seconds = counted(data, asked.bundle, asked.work, seed, asked.false_calls, asked.crops)
        false, real = one.known("false"), one.known("real")
        kinds = [one.by_answer.get(("real", answer), 0) for answer in ("confirmed", "unsure", "false")]
        saved, boards = one.by_answer.get(("false", "false"), 0), f"{one.boards_without_look} of {one.boards}"
        told = f"{kinds[0]}, {kinds[1]}, {kinds[2]} of {real}"
        print(f"| {seed} | {one.calls} | {saved} of {false} | {told} | {boards} | {seconds:.2f} |")
        for delivery, call, kind in one.let_through:
            print(f"  let through: {delivery}, call {call}, {kind}")
        print("  false_below: " + ", ".join(f"{level} {one.at[level]}" for level in LEVELS))


if __name__ == "__main__":
    main()
