"""Make the pictures of README.md and docs/explanation from the demonstration: make demo; python docs/pictures.py."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import U8, u8
from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.images import read_rgb
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.rops import Rops

ROOT = Path(__file__).resolve().parents[1]
DEMO, OUT = ROOT / "build" / "demo", Path(__file__).parent / "images"
BOARD, BOX_XYWH = 6, (740, 1120, 400, 300)
"""The board with a tombstoned part, and the cut-out around it."""
QUALITY = 82


def main() -> None:
    """The judged board, whole; and the steps of the inspection around its defect."""
    OUT.mkdir(exist_ok=True)
    overlay = cv2.imread(str(next((DEMO / "overlays").glob(f"*board_{BOARD:02d}*"))))
    save("judged-board.jpg", cv2.resize(overlay, (960, 703), interpolation=cv2.INTER_AREA))  # type: ignore[arg-type]
    bundle = load_bundle(ROOT / "engines" / "demo")
    inspector = CpuInspector(bundle, engine_from_bundle(bundle), Rops)
    frame = read_rgb(DEMO / "boards" / f"board_{BOARD:02d}.png")
    judgement, scores = inspector.inspect_with_map(frame)
    inspector.close()
    if scores is None or judgement.mask is None:
        sys.exit(f"expected a verdict; got {judgement.reason}")
    save("tiles.jpg", tiles_over(inspector, frame[..., ::-1]))
    golden = np.ascontiguousarray(bundle.memory_rgbd[..., :3])
    heat = cv2.applyColorMap(np.clip(scores * 64, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    marked = frame[..., ::-1].copy()
    contours, _ = cv2.findContours(judgement.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(marked, contours, -1, (0, 0, 255), 2)
    x, y, w, h = BOX_XYWH
    panels = [cut[y : y + h, x : x + w] for cut in (frame[..., ::-1], golden[..., ::-1], heat, marked)]
    gap = np.full((h, 8, 3), 255, np.uint8)
    save("inspection-steps.jpg", np.hstack([part for panel in panels for part in (panel, gap)][:-1]))


def tiles_over(inspector: CpuInspector, frame_bgr: U8) -> U8:
    """The frame, small, with the tiles' borders; every second one is lighter, so that overlaps show."""
    out = frame_bgr.copy()
    side = inspector.plan.tile_px
    for number, (top, left) in enumerate(inspector.plan.origins_yx):
        if number % 2:
            window = out[top : top + side, left : left + side]
            window[:] = np.minimum(window * 0.75 + 64, 255).astype(np.uint8)
        cv2.rectangle(out, (left, top), (left + side, top + side), (255, 255, 255), 6)
    return u8(cv2.resize(out, (960, 703), interpolation=cv2.INTER_AREA))


def save(name: str, picture: U8) -> None:
    """As JPEG."""
    cv2.imwrite(str(OUT / name), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
