"""The first look's network, and what it leaves to the whole one.

It expects, of each region of 16 x 16 px, how high the whole network's score would be (its logarithm). Where that, with
the gain of the place, comes near enough to a call, all tiles that see the region go through the whole network; how near
is measured in the build stage (``engine/cascade``), on planted defects of every class, and stands in the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from hisir_edge.arrays import F32, I64, U8, Bool
from hisir_edge.errors import BundleError, InspectionError
from hisir_edge.geometry.tile import REGION_PX, TilePlan
from hisir_edge.inspection.cascade.planes import PLANES, planes_of_tiles
from hisir_edge.inspection.cpu.onnxruntime import session_options

NEAR = np.ones((3, 3), np.uint8)
SAMPLED = 4
"""Of so many calls of the engine one is of the sample that is looked at before the rest."""
LEAST_SAMPLE = 8
MOST_SUSPICIOUS = 0.9
"""Share of suspicious tiles in the sample from which on the whole network sees all of the board."""


class FirstLook:
    """One loaded network; may be called from several threads."""

    def __init__(self, network: bytes, where: Path) -> None:
        """``network``: an ONNX file's content, of a bundle ``where``; BundleError where it does not load."""
        try:
            self._session = ort.InferenceSession(network, session_options(1), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many types, all of them "this does not load"
            raise BundleError(
                expected=f"a first look that ONNX Runtime {ort.__version__} can load",
                received=f"{where}: {str(error).splitlines()[0][:160]}",
                fix="build the bundle again with build-engine --cascade",
            ) from error

    def expected(self, tiles: U8, cues: U8) -> F32:
        """Tiles (n, 3, t, t), cues (n, 4, t, t) -> logarithm of the highest score expected in each region of 16 px.

        (n, t/16, t/16). InspectionError where the engine fails, or gives what is no number: the frame is then no PASS.
        """
        planes = np.empty((len(tiles), PLANES, *tiles.shape[2:]), np.uint8)
        planes_of_tiles(tiles, cues, planes)
        try:
            (expected,) = self._session.run(None, {"planes": planes})
        except Exception as error:  # ONNX Runtime raises many types
            raise InspectionError(
                expected="the first look to run",
                received=str(error).splitlines()[0][:160],
                fix='verify or rebuild the bundle, or set infer.cascade = "off"',
            ) from error
        wanted = (len(tiles), *(side // REGION_PX for side in tiles.shape[2:]))
        if expected.shape != wanted or not np.isfinite(expected).all():
            raise InspectionError(
                expected=f"finite scores of the first look, {wanted}",
                received="NaN or infinity" if expected.shape == wanted else f"{expected.shape}",
                fix='verify or rebuild the bundle, or set infer.cascade = "off"',
            )
        return np.asarray(expected, np.float32)


@dataclass(frozen=True, slots=True)
class Suspicious:
    """The tiles that the whole network has to see, and the highest calibrated score that is expected beside them."""

    numbers: I64 = field(repr=False)
    expected_beyond: float


def calibrated_on_board(plan: TilePlan, numbers: I64, expected: F32, most_gain: F32) -> F32:
    """The calibrated score (gh, gw) that is expected in each region; the highest where several tiles see it.

    ``expected`` (k, side, side): the first look's logarithms of raw scores of these tiles; ``most_gain`` (gh, gw): the
    highest gain in each region.
    """
    side = plan.tile_px // REGION_PX
    board = np.full(most_gain.shape, -np.inf, np.float32)
    corners = np.array(plan.origins_yx, np.int64)[numbers] // REGION_PX
    for (y, x), logarithms in zip(corners.tolist(), expected, strict=True):
        here = board[y : y + side, x : x + side]
        np.maximum(here, logarithms, out=here)
    return np.asarray(np.exp(board) * most_gain, np.float32)


def sample_of_tiles(numbers: I64, batch: int) -> tuple[I64, I64]:
    """Tiles from all over the board, a call of the engine (``batch``) here and there, and the others; both in order.

    The others are none where the sample would be too small to say anything.
    """
    is_sampled = np.arange(len(numbers)) // batch % SAMPLED == 0
    if is_sampled.sum() < LEAST_SAMPLE:
        return numbers, numbers[:0]
    return numbers[is_sampled], numbers[~is_sampled]


def beside(regions: Bool) -> Bool:
    """Regions (gh, gw) and the eight around each."""
    return np.asarray(cv2.dilate(regions.astype(np.uint8), NEAR) > 0)


def suspicious(plan: TilePlan, numbers: I64, calibrated: F32, look_from: float) -> I64:
    """Which of these tiles the whole network has to see, in their order.

    ``calibrated`` (gh, gw): what is expected in each region; from ``look_from`` on the region, and the eight around it,
    are looked at by every tile that sees one of them. What is no number is looked at.
    """
    near, side = beside(~(calibrated < look_from)), plan.tile_px // REGION_PX
    corners = np.array(plan.origins_yx, np.int64)[numbers] // REGION_PX
    seen = [bool(near[y : y + side, x : x + side].any()) for y, x in corners.tolist()]
    return numbers[np.array(seen, np.bool_)]
