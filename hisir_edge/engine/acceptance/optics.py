"""How the good boards were taken: places rich in edges, what they show there, and how far boards differ in it.

Limits are prediction limits (Student's t) of the good boards' own scatter, kept within what is worth a warning and what
no line should go beyond: a few boards that are alike by chance are not to make every frame a warning, and boards that
differ a lot are not to excuse a loose lens.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from scipy.stats import t as student

from hisir_edge.arrays import F64, u8
from hisir_edge.bundle.manifest import BlurModel, OpticsModel, OpticsPlaceModel
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import BoardInspector, board_pixels
from hisir_edge.inspection.optics import COARSE_PX, SIDE_PX, Measured, Places, fineness_of, patches_at
from hisir_edge.inspection.registration.pose import Pose

CELLS = 8
"""Places are looked for in so many rows and columns over the board, the best of each."""
MOST_PLACES, LEAST_PLACES = 32, 6
LEAST_TEXTURE = 4.0
"""Mean square of the blurred gradient (Sobel's sums) that a place needs: below, noise is finer than what it shows."""
BLURS_PX = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
BLURRED_BOARDS = 6
LEAST_STEP = 0.01
MANY_BOARDS = 10
CHANCE = 1e-4
"""How seldom a frame like the good boards' is to be beyond a limit."""
WORTH_BLUR_PX, LOST_BLUR_PX = 0.7, 2.5
"""In pixels of the network: less blur is worth no warning; with more nothing is found any more that is small."""
WORTH_LOG, MOST_LOG = float(np.log(1.10)), float(np.log(1.5))
WORTH_WHITE, MOST_WHITE = 0.005, 0.05


class Survey:
    """Good boards, measured one by one as they are inspected."""

    def __init__(self, inspector: BoardInspector) -> None:
        self.scale = inspector.bundle.recipe.scale
        self.places_xy = _places_of(inspector)
        self.places = Places(inspector.bundle, self.places_xy)
        self.measured: list[Measured] = []
        self.drops: list[F64] = []

    def add(self, image: Pixels, pose: Pose | None) -> None:
        """Measure a good board, its first few blurred as well."""
        one = self.places.measured(image, pose)
        self.measured.append(one)
        if len(self.drops) < BLURRED_BOARDS and len(self.places_xy):
            self.drops.append(self._drops(image, pose))

    def model(self) -> OpticsModel | None:
        """What the bundle says of them; None without a board."""
        if not self.measured:
            return None
        fineness = np.stack([one.fineness for one in self.measured])
        level = np.stack([one.level for one in self.measured])
        there = ~np.isnan(fineness).all(0)
        fineness, level, places = fineness[:, there], level[:, there], self.places_xy[there]
        usual, bright = np.nanmedian(fineness, 0), np.nanmedian(level, 0)
        blur = self._blur() if len(places) >= LEAST_PLACES else ()
        off = np.nanmedian(fineness - usual, 1) if len(places) else np.zeros(len(self.measured))
        brighter = np.nanmedian(level - bright, 1) if len(places) else np.zeros(len(self.measured))
        white = np.array([one.white_share for one in self.measured])
        most_px = self._most_blur_px(off, blur) if blur else None
        margin = float(np.clip(_reach(brighter), WORTH_LOG, MOST_LOG))
        middle = float(np.median(brighter))
        return OpticsModel(
            places=tuple(
                OpticsPlaceModel(x=float(x), y=float(y), fineness=float(f), level=float(b))
                for (x, y), f, b in zip(places.round(1), usual.round(4), bright.round(4), strict=True)
            ),
            blur=blur,
            most_blur_px=None if most_px is None else round(most_px, 3),
            lost_blur_px=None if most_px is None else round(max(LOST_BLUR_PX / self.scale, 1.5 * most_px), 3),
            least_brightness=round(float(np.exp(middle - margin)), 4),
            most_brightness=round(float(np.exp(middle + margin)), 4),
            most_white_share=round(
                min(_highest(white) + float(np.clip(_reach(white), WORTH_WHITE, MOST_WHITE)), 1.0), 5
            ),
            boards=len(self.measured),
        )

    def _most_blur_px(self, off: F64, blur: tuple[BlurModel, ...]) -> float:
        reach = _reach(off) - float(np.median(off))
        natural = float(np.interp(reach, [0.0, *(b.drop for b in blur)], [0.0, *(b.blur_px for b in blur)]))
        return float(np.clip(natural, WORTH_BLUR_PX / self.scale, LOST_BLUR_PX / self.scale))

    def _drops(self, image: Pixels, pose: Pose | None) -> F64:
        """How much less fine the places are by blur, (len(BLURS_PX),)."""
        margin = int(3 * max(BLURS_PX)) // 2 * 2
        where = (pose or self.places.whole).to_frame(self.places.golden_xy)
        large, _ = patches_at(image, where, SIDE_PX + 2 * margin)
        if not len(large):
            return np.full(len(BLURS_PX), np.nan)
        inner = (slice(None), slice(margin, margin + SIDE_PX), slice(margin, margin + SIDE_PX))
        before = fineness_of(u8(np.ascontiguousarray(large[inner])))
        out = []
        for blur_px in BLURS_PX:
            soft = np.stack([u8(cv2.GaussianBlur(one, (0, 0), blur_px)) for one in large])
            out.append(float(np.median(before - fineness_of(u8(np.ascontiguousarray(soft[inner]))))))
        return np.array(out)

    def _blur(self) -> tuple[BlurModel, ...]:
        """By blur the drop of fineness; as far as each step still shows."""
        drops = np.stack(self.drops)
        drops = drops[~np.isnan(drops).any(1)]
        if not len(drops):
            return ()
        found, before = list[BlurModel](), 0.0
        for blur_px, drop in zip(BLURS_PX, np.median(drops, 0), strict=True):
            if drop < before + LEAST_STEP:
                break
            found.append(BlurModel(blur_px=blur_px, drop=round(float(drop), 4)))
            before = float(drop)
        return tuple(found)


def _highest(values: F64) -> float:
    """The highest of a few boards; of many the one below it: a single photo may have been taken otherwise."""
    ordered = np.sort(values)
    return float(ordered[-2] if len(ordered) >= MANY_BOARDS else ordered[-1])


def _reach(values: F64) -> float:
    """How far from their middle one more such value lies at most, but for ``CHANCE``; infinite for a single one.

    Scatter is the median absolute deviation: a board that was taken otherwise does not widen it.
    """
    n = len(values)
    if n < 2:
        return float("inf")
    scatter = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    return float(student.ppf(1 - CHANCE, n - 1) * scatter * np.sqrt(1 + 1 / n))


def _places_of(inspector: BoardInspector) -> F64:
    """Places of the golden image that are rich in edges, (n, 2) golden pixels of the camera's frame."""
    bundle = inspector.bundle
    golden, scale = u8(np.ascontiguousarray(bundle.memory_rgbd[..., :3])), bundle.recipe.scale
    grey = cv2.cvtColor(golden, cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (0, 0), COARSE_PX * scale)
    across, down = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    side = max(round(SIDE_PX * scale), 3)
    # gradients are larger by 1 / scale on the scaled picture than on the camera's
    texture = cv2.blur((across * across + down * down) * np.float32(scale**2), (side, side))
    board = board_pixels(bundle)
    if board is not None:
        inside = cv2.erode(board.astype(np.uint8), np.ones((side, side), np.uint8), borderValue=0)
        texture[inside == 0] = 0
    half = side // 2 + 1
    framed = np.zeros_like(texture)
    framed[half:-half, half:-half] = texture[half:-half, half:-half]
    return _best_of_cells(framed, scale)


def _best_of_cells(texture: np.ndarray, scale: float) -> F64:
    rows, columns = np.nonzero(texture > LEAST_TEXTURE)
    if not len(rows):
        return np.empty((0, 2))
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    ys, xs = np.linspace(top, bottom, CELLS + 1).astype(int), np.linspace(left, right, CELLS + 1).astype(int)
    found = []
    for y0, y1 in itertools.pairwise(ys):
        for x0, x1 in itertools.pairwise(xs):
            cell = texture[y0:y1, x0:x1]
            if cell.size and cell.max() > LEAST_TEXTURE:
                y, x = np.unravel_index(int(cell.argmax()), cell.shape)
                found.append((float(cell[y, x]), x0 + float(x), y0 + float(y)))
    best = np.array([(x, y) for _, x, y in sorted(found, reverse=True)[:MOST_PLACES]])
    return np.asarray((best + 0.5) / scale - 0.5, np.float64)
