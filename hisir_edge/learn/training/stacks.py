"""The stream of tiles to pretrain on: each from a product of its own, beside a memory made of some of its other boards.

A stack of drawn boards is photographed here, tile by tile: one camera, sharpness, colour and registration error for all
boards of a sample, light of its own for each. The memory is what the line would have: median and trimmed deviation
of 3 to 13 boards, never of the one that is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I32, U8, u8
from hisir_edge.corruption.appearance import NOISE_BANK, compressed
from hisir_edge.corruption.corrupt import corrupt_tile, region_weights
from hisir_edge.corruption.spots import largest_part, part_boxes
from hisir_edge.errors import InputError
from hisir_edge.learn.data.statistics import memory_of_stack
from hisir_edge.learn.data.tiles import TileBatch

FEWEST, MOST = 3, 13
SHOWN = 2
HELD_OUT_SHARE = 0.05
NEAREST_SHARE = 0.2
"""Samples whose memory is of the boards most alike the one looked at: a variant that was chosen."""
OFF_BOARD_SHARE = 0.12
SHINY_SHARE = 0.5
"""Samples whose bright grey places shine otherwise on each board."""
LEAST_BEND_PX = 0.15
LOOSE_SHARE = 0.08
"""Samples of objects that nothing registers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """What all boards of one sample have in common; lengths in pixels, levels of 255."""

    tone: U8
    mix: F32
    turns: int
    mirrored: bool
    zoom: float
    blur_px: float
    noise: float
    jitter_px: float
    strain: float
    bend_px: float
    bend_cell_px: int
    shine: float
    light: float
    bayer: bool
    jpeg: int


def camera_from(rng: np.random.Generator) -> Camera:
    """One camera and one way to lay boards."""
    gamma = float(np.exp(rng.normal(0, 0.22)))
    black, white = rng.uniform(0, 24), rng.uniform(215, 262)
    tone = black + (white - black) * (np.arange(256) / 255.0) ** gamma
    mix = np.eye(3) + rng.normal(0, 0.12, (3, 3)) * (rng.random() < 0.7)
    if rng.random() < 0.4:
        mix = mix[rng.permutation(3)]
    if rng.random() < 0.1:
        mix[:] = mix.mean(0)  # a grey camera
    loose = rng.random() < LOOSE_SHARE
    return Camera(
        tone=u8(np.clip(np.round(tone), 0, 255).astype(np.uint8)),
        mix=np.asarray(mix / np.maximum(mix.sum(1, keepdims=True), 0.5), np.float32),
        turns=int(rng.integers(4)),
        mirrored=bool(rng.random() < 0.5),
        zoom=float(rng.uniform(0.85, 1.35)),
        blur_px=float(rng.uniform(0.3, 1.1)),
        noise=float(np.exp(rng.uniform(np.log(0.4), np.log(4.0)))),
        jitter_px=float(rng.uniform(1, 3.5)) if loose else float(np.exp(rng.normal(np.log(0.35), 0.5))),
        strain=float(np.exp(rng.uniform(np.log(2e-4), np.log(4e-3)))),
        bend_px=float(np.exp(rng.uniform(np.log(0.05), np.log(2.2)))),
        bend_cell_px=int(rng.integers(20, 90)),
        shine=float(rng.uniform(0, 90)) if rng.random() < SHINY_SHARE else 0.0,
        light=float(rng.uniform(0.2, 1.0)),
        bayer=bool(rng.random() < 0.25),
        jpeg=int(rng.integers(55, 97)) if rng.random() < 0.25 else 0,
    )


class StackTiles:
    """Numbered batches, as ``CorruptedTiles`` has them; a number and the seed fix a batch.

    ``files``: stacks (boards, h, w, 3) uint8 as .npy. The last twentieth of them are held out.
    """

    def __init__(self, files: tuple[Path, ...], tile_px: int, batch: int, seed: int, held_out: bool = False) -> None:
        kept = max(round(len(files) * HELD_OUT_SHARE), 1)
        self.files = files[-kept:] if held_out else files[:-kept]
        if not self.files or batch % SHOWN:
            raise InputError(
                expected=f"two stacks of boards or more, and a batch that {SHOWN} divides",
                received=f"{len(files)} stacks, a batch of {batch}",
                fix="draw more products, or change --batch",
            )
        self.tile_px, self.batch, self.seed = tile_px, batch, seed
        self.opened: dict[Path, U8] = {}

    def batch_of(self, number: int) -> TileBatch:
        """Batch ``number`` of the stream."""
        rng = np.random.default_rng([self.seed, 40, number])
        made = [one for _ in range(self.batch // SHOWN) for one in self._pair(rng)]
        tile, cue, clean, mask, on_board = (np.stack(column) for column in zip(*made, strict=True))
        nchw = [np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (tile, cue, clean)]
        weight = np.stack([region_weights(m) for m in mask]) * on_board
        return TileBatch(nchw[0], nchw[1], nchw[2], np.ascontiguousarray(mask[:, None]), weight[:, None])

    def _pair(self, rng: np.random.Generator) -> list[tuple[U8, U8, U8, U8, U8]]:
        boards, camera = self._stack(rng), camera_from(rng)
        order = rng.permutation(len(boards))
        count = int(rng.integers(FEWEST, min(MOST, len(boards) - SHOWN) + 1))
        there = _place(rng, boards.shape[1:3], self.tile_px, camera)
        remembered = [self._seen(rng, boards[i], there, camera) for i in order[SHOWN : SHOWN + count]]
        shown = [self._seen(rng, boards[i], there, camera, even=False) for i in order[:SHOWN]]
        if rng.random() < NEAREST_SHARE and count >= 2 * FEWEST:
            shown = shown[:1] * SHOWN
            far = [float(cv2.absdiff(one, shown[0]).mean()) for one in remembered]
            remembered = [remembered[i] for i in np.argsort(far)[: count // 2]]
        golden, deviation = memory_of_stack(np.stack(remembered))
        cue = np.dstack([golden, deviation])
        boxes: I32 = part_boxes(golden, largest_px=largest_part(self.tile_px))
        elsewhere = _place(rng, boards.shape[1:3], self.tile_px, camera)
        donor = self._seen(rng, boards[order[-1]], elsewhere, camera)
        on_board = _board_of(rng, self.tile_px)
        out = []
        for clean in shown:
            made = corrupt_tile(rng, clean, donor, boxes)
            tile = _with_noise(rng, made.tile, camera.noise)
            tile = compressed(tile, camera.jpeg) if camera.jpeg else tile
            out.append((tile, cue, made.clean, made.mask * on_board, on_board))
        return out

    def _stack(self, rng: np.random.Generator) -> U8:
        path = self.files[int(rng.integers(len(self.files)))]
        if path not in self.opened:
            self.opened[path] = u8(np.load(path, mmap_mode="r"))
        return self.opened[path]

    def _seen(self, rng: np.random.Generator, board: U8, there: F64, camera: Camera, even: bool = True) -> U8:
        """A board's tile (t, t, 3), as registered; ``even``: without noise of the sensor left out."""
        t = self.tile_px
        off = np.eye(3)
        off[:2, :2] += rng.normal(0, camera.strain, (2, 2))
        off[:2, 2] = rng.normal(0, camera.jitter_px, 2) + (t / 2 - off[:2, :2] @ (t / 2, t / 2))
        crop = _shone(rng, _warped(rng, board, off @ there, t, camera), camera)
        crop = u8(cv2.transform(cv2.LUT(crop, camera.tone), camera.mix))
        lit = _lit(rng, crop, camera.light)
        if camera.bayer:
            lit = _through_bayer(lit)
        blur = camera.blur_px * float(rng.uniform(0.8, 1.25))
        lit = u8(cv2.GaussianBlur(lit, (0, 0), blur)) if blur > 0.35 else lit
        return _with_noise(rng, lit, camera.noise) if even else lit


def _place(rng: np.random.Generator, hw: tuple[int, ...], tile_px: int, camera: Camera) -> F64:
    """The matrix (3, 3) from a board's pixels to those of a tile somewhere on it."""
    half = tile_px / 2
    reach = min(half / camera.zoom, hw[0] / 2, hw[1] / 2)
    y, x = rng.uniform(reach, hw[0] - reach), rng.uniform(reach, hw[1] - reach)
    turn = camera.turns * np.pi / 2
    c, s = camera.zoom * np.cos(turn), camera.zoom * np.sin(turn)
    flip = -1.0 if camera.mirrored else 1.0
    linear = np.array([[c * flip, -s], [s * flip, c]])
    out = np.eye(3)
    out[:2, :2], out[:2, 2] = linear, half - linear @ (x, y)
    return out


def _smooth(rng: np.random.Generator, side: int, cell: int, planes: int) -> F32:
    """Smooth noise (side, side, planes) of deviation near 1, cells of so many pixels."""
    coarse = rng.standard_normal((side // cell + 3, side // cell + 3, planes)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def _warped(rng: np.random.Generator, board: U8, to_tile: F64, t: int, camera: Camera) -> U8:
    """A tile of a board, bent a little: parts lie and stand a little otherwise on each board."""
    if camera.bend_px < LEAST_BEND_PX:
        matrix = np.asarray(to_tile[:2], np.float64)
        return u8(cv2.warpAffine(board, matrix, (t, t), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))
    back = np.linalg.inv(to_tile)
    at = np.arange(t, dtype=np.float32)
    bend = _smooth(rng, t, camera.bend_cell_px, 2) * np.float32(camera.bend_px)
    x, y = at[None, :] + bend[..., 0], at[:, None] + bend[..., 1]
    b = back.astype(np.float32)
    xs, ys = b[0, 0] * x + b[0, 1] * y + b[0, 2], b[1, 0] * x + b[1, 1] * y + b[1, 2]
    return u8(cv2.remap(board, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))


def _shone(rng: np.random.Generator, tile: U8, camera: Camera) -> U8:
    """Metal and gloss, all that is bright and grey, mirror something else on each board."""
    if not camera.shine:
        return tile
    brightest, darkest = tile.max(2), tile.min(2)
    share = np.clip((darkest.astype(np.float32) - 90) / 70, 0, 1) * ((brightest - darkest) < 40)
    glint = _smooth(rng, tile.shape[0], int(rng.integers(8, 30)), 1) * share * np.float32(camera.shine * 0.5)
    return u8(np.clip(tile + glint[..., None], 0, 255).astype(np.uint8))


def _lit(rng: np.random.Generator, tile: U8, drift: float) -> U8:
    """Light that is left after the line has taken out what it can; white that clipped stays darker than it was."""
    t = tile.shape[0]
    taken = float(np.exp(rng.normal(0, 0.1)))
    left = np.exp(rng.normal(0, 0.022 * drift) + rng.normal(0, 0.008 * drift, 3))
    slope = rng.uniform(-0.012, 0.012, 2) * drift
    ramp = np.linspace(-1, 1, t, dtype=np.float32)
    field = (1 + ramp[None, :, None] * slope[0] + ramp[:, None, None] * slope[1]) * (left * taken).astype(np.float32)
    raw = np.minimum(tile * field.astype(np.float32), np.float32(255))
    return u8(np.clip(raw * np.float32(1 / taken) + np.float32(rng.normal(0, 0.6 * drift)), 0, 255).astype(np.uint8))


def _through_bayer(tile: U8) -> U8:
    """What a sensor behind a mosaic of filters makes of a tile."""
    mosaic = np.ascontiguousarray(tile[..., 1])
    mosaic[0::2, 0::2] = tile[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = tile[1::2, 1::2, 2]
    return u8(cv2.demosaicing(mosaic, cv2.COLOR_BayerRGGB2RGB))


def _with_noise(rng: np.random.Generator, tile: U8, sigma: float) -> U8:
    start = int(rng.integers(NOISE_BANK.size - tile.size))
    noise = NOISE_BANK[start : start + tile.size].reshape(tile.shape) * np.float32(sigma)
    noise += tile
    return u8(np.clip(np.rint(noise, noise), 0, 255).astype(np.uint8))


def _board_of(rng: np.random.Generator, tile_px: int) -> U8:
    """Where a tile (t, t) shows the board, 1: mostly everywhere, else on one side of a line."""
    out = np.ones((tile_px, tile_px), np.uint8)
    if rng.random() < OFF_BOARD_SHARE:
        edge = int(rng.integers(tile_px // 4, tile_px))
        out[edge:] = 0
        out = np.rot90(out, int(rng.integers(4)))
    return u8(np.ascontiguousarray(out))


def stack_files(folder: Path) -> tuple[Path, ...]:
    """The stacks of a folder, in order; InputError where there is none."""
    files = tuple(sorted(folder.glob("*.npy")))
    if not files:
        raise InputError(
            expected=f"stacks of drawn boards in {folder}", received="none", fix="repeat the pretrain command"
        )
    return files
