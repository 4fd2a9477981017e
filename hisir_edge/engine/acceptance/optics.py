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

from hisir_edge.arrays import F32, F64, U8, Bool, u8
from hisir_edge.bundle.manifest import BlurModel, OpticsModel, OpticsPlaceModel
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import BoardInspector, board_pixels
from hisir_edge.inspection.optics import (
    COARSE_PX,
    SIDE_PX,
    Measured,
    Places,
    blur_of_drop,
    corners_at,
    measures_of,
)
from hisir_edge.inspection.registration.pose import Pose

CELLS = 8
"""Places are looked for in so many rows and columns over the board, the best of each."""
MOST_PLACES, LEAST_PLACES = 32, 6
APART_PX = 48
LEAST_TEXTURE = 4.0
"""Mean square of the blurred gradient (Sobel's sums) that a place needs: below, noise is finer than what it shows."""
BLURS_PX = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0)
BLURRED_BOARDS = 6
LEAST_STEP = 0.01
MANY_BOARDS = 10
CHANCE = 1e-4
"""How seldom a frame like the good boards' is to be beyond a limit."""
WORTH_BLUR_PX, LOST_BLUR_PX = 1.0, 2.5
"""In pixels of the network: less blur is worth no warning; with more nothing is found any more that is small."""
WORTH_LOG, MOST_LOG = float(np.log(1.10)), float(np.log(1.5))
WORTH_WHITE, MOST_WHITE = 0.005, 0.05
WORTH_WEAKER, MOST_WEAKER = 0.3, 1.0
"""Of strength: good boards differ in contrast; more than that is blur."""
NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Of edges it answers little, of noise much (Immerkaer 1996, Computer Vision and Image Understanding 64)."""


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
        found = np.stack([(one.fineness, one.strength, one.level) for one in self.measured])  # (boards, 3, places)
        white = np.array([one.white_share for one in self.measured])
        there = ~np.isnan(found[:, 0]).all(0)
        found, places = found[:, :, there], self.places_xy[there]
        found = found[~np.isnan(found[:, 0]).all(1)]  # a board whose places lie outside of its frame says nothing
        usual = np.nanmedian(found, 0) if found.size else np.zeros((3, len(places)))
        off = np.nanmedian(found - usual, 2) if found.size else np.zeros((1, 3))  # (boards, 3)
        enough = len(places) >= LEAST_PLACES
        weaker = float(np.clip(_reach(off[:, 1]) - np.median(off[:, 1]), WORTH_WEAKER, MOST_WEAKER))
        blur, weakening = (self._steps(measure) if enough else () for measure in (0, 1))
        weakening = tuple(step for step in weakening if step.drop > weaker)
        most_px = self._most_blur_px(off[:, 0], blur, weakening)
        margin, middle = float(np.clip(_reach(off[:, 2]), WORTH_LOG, MOST_LOG)), float(np.median(off[:, 2]))
        most_white = _highest(white) + float(np.clip(_reach(white), WORTH_WHITE, MOST_WHITE))
        watched = most_px is not None
        return OpticsModel(
            places=tuple(
                OpticsPlaceModel(x=float(x), y=float(y), fineness=float(f), strength=float(e), level=float(b))
                for (x, y), (f, e, b) in zip(places.round(1), usual.T.round(4), strict=True)
            ),
            blur=blur if watched else (),
            weakening=weakening if watched else (),
            most_weaker=round(weaker, 4),
            most_blur_px=None if most_px is None else round(most_px, 3),
            lost_blur_px=None if most_px is None else round(max(LOST_BLUR_PX / self.scale, 1.2 * most_px), 3),
            least_brightness=round(float(np.exp(middle - margin)), 4),
            most_brightness=round(float(np.exp(middle + margin)), 4),
            most_white_share=round(min(most_white, 1.0), 5),
            boards=len(self.measured),
        )

    def _most_blur_px(self, off: F64, blur: tuple[BlurModel, ...], weakening: tuple[BlurModel, ...]) -> float | None:
        """The blur beyond which a frame is unlike good boards; None where blur that matters would not be seen."""
        lost_px = LOST_BLUR_PX / self.scale
        if max((step.blur_px for step in (*blur, *weakening)), default=0.0) < 2 * lost_px:
            return None
        natural = blur_of_drop(blur, _reach(off) - float(np.median(off)))
        return float(np.clip(natural, WORTH_BLUR_PX / self.scale, lost_px))

    def _drops(self, image: Pixels, pose: Pose | None) -> F64:
        """How much the places drop in fineness and strength by blur, (len(BLURS_PX), 2)."""
        where = (pose or self.places.whole).to_frame(self.places.golden_xy)
        side = self.places.side_px
        corners, seen = corners_at(image.hw, where, side)
        if not seen.any():
            return np.full((len(BLURS_PX), 2), np.nan)
        sharp, pieces = [], []
        for x, y in corners[seen].tolist():
            left, top = max(x - side, 0), max(y - side, 0)  # what lies around it is blurred into it
            large = Pixels(u8(image.data[top : y + 2 * side, left : x + 2 * side]), image.pixel_format).grey()
            size = (max(round(large.shape[1] * self.scale), 1), max(round(large.shape[0] * self.scale), 1))
            small = large if self.scale == 1.0 else u8(cv2.resize(large, size, interpolation=cv2.INTER_AREA))
            pieces.append((small, round((x - left) * self.scale), round((y - top) * self.scale)))
            sharp.append(_cut(*pieces[-1]))
        noise = float(np.median([_noise_of(patch) for patch in sharp]))
        before, rng = measures_of(u8(np.stack(sharp)))[:2], np.random.default_rng(len(self.drops))
        out = []
        for blur_px in BLURS_PX:
            soft = [_cut(u8(cv2.GaussianBlur(piece, (0, 0), blur_px)), x, y) for piece, x, y in pieces]
            # a lens blurs the board, not the noise of the sensor
            grain = rng.normal(0, noise, (len(soft), SIDE_PX, SIDE_PX))
            noisy = u8(np.clip(np.rint(np.stack(soft) + grain), 0, 255).astype(np.uint8))
            out.append(np.median(before - measures_of(noisy)[:2], 1))
        return np.array(out)

    def _steps(self, measure: int) -> tuple[BlurModel, ...]:
        """By blur the drop of a measure, as far as it falls: the picture's noise ends that of fineness."""
        drops = np.stack(self.drops)[..., measure] if self.drops else np.empty((0, len(BLURS_PX)))
        drops = drops[~np.isnan(drops).any(1)]
        if not len(drops):
            return ()
        found, highest, falling = list[BlurModel](), 0.0, np.median(drops, 0)
        for blur_px, drop in zip(BLURS_PX, falling.tolist(), strict=True):
            if drop > highest + LEAST_STEP:
                found.append(BlurModel(blur_px=round(blur_px / self.scale, 3), drop=round(drop, 4)))
                highest = drop
        return tuple(found)


def _cut(piece: U8, x: int, y: int) -> U8:
    """The patch (SIDE_PX, SIDE_PX) at a place of a piece; by a pixel or two of scaling it may lie at its edge."""
    y, x = (max(min(at, end - SIDE_PX), 0) for at, end in ((y, piece.shape[0]), (x, piece.shape[1])))
    patch = piece[y : y + SIDE_PX, x : x + SIDE_PX]
    return u8(np.pad(patch, ((0, SIDE_PX - patch.shape[0]), (0, SIDE_PX - patch.shape[1])), mode="edge"))


def _noise_of(patch: U8) -> float:
    """Standard deviation of a patch's noise, levels; the median, so that edges have little part in it."""
    answer = cv2.filter2D(patch.astype(np.float32), cv2.CV_32F, NOISE_MASK)[1:-1, 1:-1]
    return float(np.median(np.abs(answer)) / 0.6745 / 6.0)


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
    """Places of the golden image that are rich in edges, (n, 2) golden pixels of the camera's frame.

    In the network's pixels: what a scaled network does not see need not be sharp.
    """
    bundle = inspector.bundle
    golden, scale = u8(np.ascontiguousarray(bundle.memory_rgbd[..., :3])), bundle.recipe.scale
    grey = cv2.cvtColor(golden, cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (0, 0), COARSE_PX)
    across, down = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    side = SIDE_PX
    texture = cv2.blur(across * across + down * down, (side, side))
    board = board_pixels(bundle)
    board = np.ones(texture.shape, np.bool_) if board is None else board
    inside = cv2.erode(board.astype(np.uint8), np.ones((side, side), np.uint8), borderValue=0)
    texture[inside == 0] = 0
    half = side // 2 + 1
    framed = np.zeros_like(texture)
    framed[half:-half, half:-half] = texture[half:-half, half:-half]
    return _best_of_cells(np.asarray(framed, np.float32), board, scale)


def _best_of_cells(texture: F32, board: Bool, scale: float) -> F64:
    """One place in each cell of the board: a part alone is not to speak for all of it."""
    rows, columns = np.nonzero(board.any(1))[0], np.nonzero(board.any(0))[0]
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    ys, xs = np.linspace(top, bottom, CELLS + 1).astype(int), np.linspace(left, right, CELLS + 1).astype(int)
    found = []
    for y0, y1 in itertools.pairwise(ys):
        for x0, x1 in itertools.pairwise(xs):
            cell = texture[y0:y1, x0:x1]
            if cell.size and cell.max() > LEAST_TEXTURE:
                y, x = np.unravel_index(int(cell.argmax()), cell.shape)
                found.append((float(cell[y, x]), x0 + float(x), y0 + float(y)))
    kept = list[tuple[float, float]]()
    for _, x, y in sorted(found, reverse=True):
        if all(abs(x - a) + abs(y - b) >= APART_PX for a, b in kept):
            kept.append((x, y))
    best = np.array(kept[:MOST_PLACES]).reshape(-1, 2)
    return np.asarray((best + 0.5) / scale - 0.5, np.float64)
