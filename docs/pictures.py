"""Make the pictures of README.md and docs/ from the demonstration: make demo; python docs/pictures.py."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import U8, u8
from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.registration.finder import finder_from_memory
from hisir_edge.inspection.registration.pose import straightened
from hisir_edge.inspection.rops import Rops
from hisir_edge.sim.mat import Loose, board_on_mat, lay_matrix, mat_picture
from hisir_edge.sim.render import board_from_seed, draw_board

ROOT = Path(__file__).resolve().parents[1]
DEMO, OUT = ROOT / "build" / "demo", Path(__file__).parent / "images"
LOOSE, FRAME_WH = Loose(shift_px=140, turn_deg=9, scale_share=0.03, tilt_share=0.05), (1600, 1200)
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
    save("found-board.jpg", found_board())


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


def found_board() -> U8:
    """A rendered board laid by hand, outlined where it is found; and as it is inspected."""
    board_wh, mat = LOOSE.board_wh(FRAME_WH), mat_picture(7, FRAME_WH)
    middle = np.array([[1, 0, (FRAME_WH[0] - board_wh[0]) / 2], [0, 1, (FRAME_WH[1] - board_wh[1]) / 2], [0, 0, 1.0]])
    boards = [draw_board(board_from_seed(7, seed, board_wh)) for seed in (1, 2)]
    golden = board_on_mat(boards[0], mat, middle)
    frame = board_on_mat(boards[1], mat, lay_matrix(4, LOOSE, FRAME_WH))
    (left, top), (w, h) = middle[:2, 2], board_wh
    area = ((left, top), (left + w, top), (left + w, top + h), (left, top + h))
    finder = finder_from_memory("anywhere", golden, np.zeros(golden.shape[:2], np.uint8), area)
    if finder is None:
        sys.exit("expected a finder")
    pose = finder.find(Pixels(frame)).pose
    straight = straightened(frame, pose, (FRAME_WH[1], FRAME_WH[0]))
    outline = np.round(pose.to_frame(np.array(area))).astype(np.int32)
    marked = cv2.polylines(frame.copy(), [outline], True, (255, 0, 0), 5)
    gap = np.full((FRAME_WH[1], 16, 3), 255, np.uint8)
    both = np.hstack([marked, gap, straight])[..., ::-1]
    return u8(cv2.resize(both, (960, 960 * both.shape[0] // both.shape[1]), interpolation=cv2.INTER_AREA))


def save(name: str, picture: U8) -> None:
    """As JPEG."""
    cv2.imwrite(str(OUT / name), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
