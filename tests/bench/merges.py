"""What merging does to masks where tiles overlap, for docs/decisions/0011: the same tile results, merged in every way.

    python tests/bench/merges.py BUNDLE DATA

Each way at thresholds as they are in the bundle (they differ by less than a per cent between ways). Within the bands
that two or more tiles see: overlap of mask and truth (IoU, all defects together), regions a defect is broken into, and
pixel pairs across a line at which tiles can meet where one is in the mask and the other is not, although the truth does
not change there, less the same half a region beside.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from ablation import Remembering

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.images import read_mask, read_rgb
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.regions import regions_from_map
from hisir_edge.learn.data.datasets import test_items
from hisir_edge.learn.evaluation.merge_baselines import MERGES, merge_from_name


def seams(mask: np.ndarray, truth: np.ndarray, where: np.ndarray) -> int:
    """Breaks across grid lines in ``where``, less breaks between them."""
    total = 0
    for axis in (0, 1):
        jump = (np.diff(mask.astype(np.int8), axis=axis) != 0) & (np.diff(truth.astype(np.int8), axis=axis) == 0)
        inside = where[1:] & where[:-1] if axis == 0 else where[:, 1:] & where[:, :-1]
        lines = np.arange(jump.shape[axis]) % REGION_PX
        for sign, line in ((1, REGION_PX - 1), (-1, REGION_PX // 2 - 1)):
            total += sign * int(np.compress(lines == line, jump & inside, axis=axis).sum())
    return total


def main() -> None:
    """Print a Markdown table."""
    bundle = load_bundle(Path(sys.argv[1]))
    engine = Remembering(engine_from_bundle(bundle))
    items = test_items(Path(sys.argv[2]))
    print(
        "| merge | IoU within overlaps | regions a defect | seams | false regions, good boards |\n|---|---|---|---|---|"
    )
    for name in MERGES:
        engine.rewind()
        inspector = CpuInspector(bundle, engine, merge_from_name(name))
        h, w = inspector.plan.frame_hw
        seen_twice = cv2.resize(
            inspector.merge_plan.contested.astype(np.uint8),
            inspector.plan.padded_hw[::-1],
            interpolation=cv2.INTER_NEAREST,
        )[:h, :w].astype(bool)
        both = either = pieces = defects = breaks = false = 0
        for item in items:
            frame = read_rgb(item.image)
            judgement, scores = inspector.inspect_with_map(frame)
            if scores is None:
                continue
            if item.mask is None:
                false += judgement.regions_total
                continue
            truth = read_mask(item.mask)
            mask = regions_from_map(scores, bundle.thresholds).mask
            both += int((mask & truth & seen_twice).sum())
            either += int(((mask | truth) & seen_twice).sum())
            breaks += seams(mask, truth, seen_twice)
            _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            count, parts = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
            for part in range(1, count):
                touching = set(np.unique(labels[parts == part]).tolist()) - {0}
                if touching:
                    defects, pieces = defects + 1, pieces + len(touching)
        print(
            f"| {name} | {both / max(either, 1):.4f} | {pieces / max(defects, 1):.3f} | {breaks} | {false} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
