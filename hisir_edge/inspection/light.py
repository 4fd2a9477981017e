"""Light: how much brighter or darker a frame is than the golden image, smoothly over the board, per colour.

A lamp that ages or a board that lies higher changes large areas by a few per cent; to the network
that is the same as a stain. So the smooth part of the ratio is measured and taken out, tile by tile.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool, u8
from hisir_edge.errors import InspectionError
from hisir_edge.geometry.tile import TilePlan

CELL_PX = 32
DARKEST, BRIGHTEST = 24, 245
"""Cells outside say more about noise or clipping than about light."""
LEAST_CELLS = 24
WHOLLY, MOSTLY = 0.999, 0.3
"""Shares of a cell that the board covers; a small board has no more cells than those that it covers in part."""
FEWEST_CELLS = 4
"""Of fewer than ``LEAST_CELLS`` cells the light is even, if there are so many."""
GAIN_LIMIT = 1.6
WHITE_FROM, BRIGHTER_LEVEL, BRIGHTEST_LEVEL = 250, 252, 204
"""Levels from which on a component may have been brighter still, noise and compression counted; what 255 becomes in
light that is brighter by more than a per cent, and by a quarter: beyond, white hides too much to be explained."""
WHITE, DULL = 254, 228
"""Levels: all colours from the first on have lost what they were; the board has something to lose up to the second."""
MOST_LOST_SHARE = 0.01
BRIGHTER_LOG_RATIO = 0.05
ROUNDS = 4
OUTLIER_LOG_RATIO = 0.03


@dataclass(frozen=True, slots=True)
class GoldenLight:
    """The golden image by cells, (gh, gw, 3) float64, and the plane basis (gh * gw, 3): 1, x, y in -1..1.

    ``on_board`` (gh * gw,): the cells that lie on the board whole. ``dull`` (sh, sw): 255 where the board, as it is
    sampled, is darker than white, else 0.
    """

    frame_hw: tuple[int, int]
    cells: F64 = field(repr=False)
    basis: F64 = field(repr=False)
    on_board: Bool = field(repr=False)
    dull: U8 = field(repr=False)


SAMPLE_EACH_PX, SAMPLE_FIRST_PX = 4, 2


def is_sampled(hw: tuple[int, int]) -> bool:
    """Whether of a frame so large every fourth row and column will do (64 samples a cell are plenty)."""
    return min(hw) >= 16 * CELL_PX


def _sampled(picture: U8) -> U8:
    each, first = (SAMPLE_EACH_PX, SAMPLE_FIRST_PX) if is_sampled((picture.shape[0], picture.shape[1])) else (1, 0)
    return np.ascontiguousarray(picture[first::each, first::each])


def _cells_of_samples(sampled: U8, hw: tuple[int, int]) -> F64:
    size = (max(hw[1] // CELL_PX, 4), max(hw[0] // CELL_PX, 4))
    return np.asarray(cv2.resize(sampled, size, interpolation=cv2.INTER_AREA), np.float64)


def golden_light(golden_rgb: U8, area: Bool | None = None) -> GoldenLight:
    """The light of a golden image, RGB uint8 (h, w, 3), on the board's area (h, w) alone where one is given."""
    hw, sampled = (golden_rgb.shape[0], golden_rgb.shape[1]), _sampled(golden_rgb)
    cells = _cells_of_samples(sampled, hw)
    gh, gw = cells.shape[:2]
    y, x = np.mgrid[-1 : 1 : gh * 1j, -1 : 1 : gw * 1j]
    basis = np.stack([np.ones(gh * gw), x.ravel(), y.ravel()], 1)
    on_board = np.ones(gh * gw, np.bool_)
    if area is not None:
        share = cv2.resize(area.astype(np.float32), (gw, gh), interpolation=cv2.INTER_AREA)
        wholly = share.ravel() > WHOLLY
        on_board = np.asarray(wholly if wholly.sum() >= 2 * LEAST_CELLS else share.ravel() > MOSTLY, np.bool_)
    dull = u8(cv2.compare(_darkest(sampled), DULL, cv2.CMP_LE))  # type: ignore[call-overload]  # takes a level, too
    if area is not None:
        dull &= _sampled(u8(area.astype(np.uint8) * 255))
    return GoldenLight(hw, cells, basis, on_board, dull)


def _darkest(rgb: U8) -> U8:
    red, green, blue = cv2.split(rgb)
    return u8(cv2.min(cv2.min(red, green), blue))


def light_of_frame(golden: GoldenLight, frame_rgb: U8) -> F64:
    """Log gain planes (3 colours, 3 coefficients) of a registered frame against the golden image.

    A robust fit (iteratively reweighted least squares, Cauchy weights): parts of another lot and
    defects are outliers. InspectionError where the light is too far off to be judged.
    """
    return light_of_samples(golden, _sampled(frame_rgb))


def light_of_samples(golden: GoldenLight, sampled: U8) -> F64:
    """``light_of_frame`` from the registered frame at ``SAMPLE_FIRST_PX`` and each ``SAMPLE_EACH_PX`` on alone."""
    planes = _light_of_cells(golden, _cells_of_samples(sampled, golden.frame_hw))
    _check_not_white(golden, sampled, float(planes[:, 0].mean()))
    return planes


def _check_not_white(golden: GoldenLight, sampled: U8, log_gain: float) -> None:
    """InspectionError where brighter light has made so much of a board white that what it was is lost."""
    if log_gain < BRIGHTER_LOG_RATIO:
        return
    white = cv2.bitwise_and(cv2.compare(_darkest(sampled), WHITE, cv2.CMP_GE), golden.dull)  # type: ignore[call-overload]
    share = cv2.countNonZero(white) / max(cv2.countNonZero(golden.dull), 1)
    if share > MOST_LOST_SHARE:
        raise InspectionError(
            expected=f"at most {MOST_LOST_SHARE:.0%} of the board white where good boards are not",
            received=f"{share:.1%}, in light {np.expm1(log_gain):.0%} brighter",
            fix="lower the exposure, or check lamp and aperture",
        )


def _light_of_cells(golden: GoldenLight, cells: F64) -> F64:
    planes = np.zeros((3, 3))
    for colour in range(3):
        expected, seen = golden.cells[..., colour].ravel(), cells[..., colour].ravel()
        usable = (expected > DARKEST) & (expected < BRIGHTEST) & (seen > 1) & (seen < BRIGHTEST) & golden.on_board
        few = usable.sum() < LEAST_CELLS
        if usable.sum() < FEWEST_CELLS or (few and golden.on_board.all()):
            continue
        ratio, basis = np.log(seen[usable] / expected[usable]), golden.basis[usable]
        plane = np.array([np.median(ratio), 0.0, 0.0])
        if few:
            planes[colour] = plane
            continue
        for _ in range(ROUNDS):
            weight = 1 / (1 + ((ratio - basis @ plane) / OUTLIER_LOG_RATIO) ** 2)
            weighted = basis * weight[:, None]
            plane = np.linalg.solve(weighted.T @ basis + 1e-9 * np.eye(3), weighted.T @ ratio)
        planes[colour] = plane
    furthest = float(np.exp(np.abs(planes).sum(1).max()))
    if furthest > GAIN_LIMIT:
        raise InspectionError(
            expected=f"light within a factor of {GAIN_LIMIT:g} of the golden image",
            received=f"a factor of {furthest:.2f}, {'brighter' if planes[:, 0].mean() > 0 else 'darker'}",
            fix="check lamp, aperture and exposure",
        )
    return planes


def gains_from_light(plan: TilePlan, planes: F64) -> F32:
    """Per tile and colour what levels are multiplied by, (n, 3), to take the light at the tile's middle out."""
    centres = np.array(plan.origins_yx, np.float64) + plan.tile_px / 2
    return gains_at(planes, plan.frame_hw, centres)


def gains_at(planes: F64, frame_hw: tuple[int, int], centres_yx: F64) -> F32:
    """Factors (n, 3) that take out the light at the places (n, 2) of a registered frame."""
    h, w = frame_hw
    x, y = centres_yx[:, 1] / w * 2 - 1, centres_yx[:, 0] / h * 2 - 1
    log_gain = planes @ np.stack([np.ones(len(x)), x, y])
    return np.asarray(np.exp(-log_gain.T), np.float32)


def explain_white(tiles: U8, cues: U8, gains: F32) -> None:
    """Take what went white in brighter light for as bright as the board memory, where that is brighter than white now.

    ``tiles`` (n, 3, t, t), their light already taken out, are changed; ``cues`` (n, 4, t, t): the board memory, its
    colours first; ``gains`` (n, 3): what the tiles' levels were multiplied by. White says only that it was that bright
    or brighter. What is darker in memory stays as it is: a splash of solder is white where the board is green. As
    ``kernels.cu`` has it.
    """
    tops = np.rint(gains * np.float32(255))
    brighter = (tops <= BRIGHTER_LEVEL) & (tops >= BRIGHTEST_LEVEL)
    for number in np.flatnonzero(brighter.any(1)).tolist():
        for c in np.flatnonzero(brighter[number]).tolist():
            plane, memory = tiles[number, c], cues[number, c]
            level = int(np.rint(gains[number, c] * np.float32(WHITE_FROM)))
            white = cv2.compare(plane, level, cv2.CMP_GE)  # type: ignore[call-overload]
            cv2.copyTo(cv2.max(plane, memory), white, plane)


def tables_of_gains(gains: F32) -> U8:
    """Look-up tables (n, 1, 256, 3) of gains (n, 3): each level times its gain in float32, rounded to the even one.

    OpenCV's ``convertScaleAbs`` by the same gain gives the same.
    """
    levels = np.arange(256, dtype=np.float32)[None, :, None] * gains[:, None, :]
    return np.ascontiguousarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)[:, None])


def without_light(rgb: U8, planes: F64, frame_hw: tuple[int, int] | None = None, y0: int = 0) -> U8:
    """A registered frame (h, w, 3) with its light taken out pixel by pixel.

    ``frame_hw``: where these are rows from ``y0`` on of such a frame.
    """
    h, w = frame_hw if frame_hw is not None else (rgb.shape[0], rgb.shape[1])
    y, x = np.linspace(-1, 1, h, dtype=np.float32), np.linspace(-1, 1, w, dtype=np.float32)
    out = np.empty_like(rgb)
    across = np.exp(-(planes[:, 0] + x[:, None] * planes[:, 1])).astype(np.float32)
    for row in range(0, len(rgb), 256):
        end = min(row + 256, len(rgb))
        down = np.exp(-y[y0 + row : y0 + end, None] * planes[:, 2]).astype(np.float32)
        piece = rgb[row:end] * across[None] * down[:, None]
        out[row:end] = np.clip(np.round(piece), 0, 255).astype(np.uint8)
    return out
