"""The stream of training tiles: random places of registered good boards, corrupted in worker processes.

Workers are spawned, not forked (OpenCV's and torch's thread pools do not survive a fork), read the
boards through a memory-mapped file, so that all share one copy, and never load torch.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from hisir_edge.arrays import F64, I64, U8, u8
from hisir_edge.bundle.write import memory_as_shipped
from hisir_edge.corruption.appearance import add_sensor_noise, compressed, vary_appearance
from hisir_edge.corruption.corrupt import corrupt_tile, region_weights
from hisir_edge.corruption.spots import largest_part, part_boxes
from hisir_edge.images import picture_file
from hisir_edge.inspection.light import gains_at, tables_of_gains
from hisir_edge.inspection.registration.finder import inside_outline, outline_of
from hisir_edge.inspection.registration.pose import Pose
from hisir_edge.learn.data.memory import GoodBoards
from hisir_edge.learn.data.statistics import BoardMemory
from hisir_edge.learn.review.tiles import SHARE, Focus, ReviewedTiles, with_patch
from hisir_edge.processes import die_with_parent

JITTER_PX = 0.45
JITTER_DEG = 0.06
LOOSE_PX = 2.5
LOOSE_DEG = 0.7
LIGHT_LEFT = 0.35
JPEG_SHARE, JPEG_QUALITIES = 0.2, (60, 95)
"""Of the tiles so many came through a JPEG of these qualities: cameras and archives compress as they are set."""
BATCHES_AHEAD = 4
PLACE_STEP_PX = 8
LEAST_BOARD_SHARE = 0.1
"""Tiles to learn from show so much of the board at least."""


class TileBatch(NamedTuple):
    """uint8 arrays: tile and clean (N, 3, t, t), cue (N, 4, t, t), mask (N, 1, t, t) of 0/1.

    ``weight`` (N, 1, t, t): how much each pixel counts in the gate's loss, in units of 1 / ``WEIGHT_GAIN``; 0 off the
    board, where nothing counts.
    """

    tile: U8
    cue: U8
    clean: U8
    mask: U8
    weight: U8


class Stream(Protocol):
    """Where tiles come from; pickled to the processes that make them."""

    def batch_of(self, number: int) -> TileBatch:
        """A batch; the same number gives the same one."""
        ...


class CorruptedTiles:
    """Numbered batches; a number and the seed fix a batch, whichever process makes it.

    The boards' frames are written to ``frames_file``, and their memories beside it where each has one of its own, and
    read back through the page cache, so that all processes share one copy.
    """

    def __init__(
        self,
        frames_file: Path,
        boards: GoodBoards,
        tile_px: int,
        batch: int,
        seed: int,
        memory_of: Callable[[int], BoardMemory] | None = None,
        reviewed: ReviewedTiles | None = None,
        share: float = SHARE,
    ) -> None:
        """``memory_of``: the memory that each of the boards is learnt beside; None: the boards' own, for all.

        ``reviewed``: what people have said, shown by a ``share`` of the tiles.
        """
        self.frames_file, self.tile_px, self.batch, self.seed = frames_file, tile_px, batch, seed
        self.poses, self.lights, memory = boards.poses, boards.lights, boards.memory
        # what light is left after the line has taken the rest out, as a share of what a lamp does
        self.drift = LIGHT_LEFT if boards.registered else 1.0
        self.jitter_px, self.jitter_deg = (JITTER_PX, JITTER_DEG) if boards.registered else (LOOSE_PX, LOOSE_DEG)
        self.cue = memory_as_shipped(memory.mean_rgb, memory.deviation)
        self.boxes = part_boxes(memory.mean_rgb, largest_px=largest_part(tile_px))
        hw = (memory.mean_rgb.shape[0], memory.mean_rgb.shape[1])
        self.on_board: U8 = np.ones(hw, np.uint8)
        self.places: I64 | None = None
        if boards.area is not None:
            self.on_board = u8(inside_outline(hw, outline_of(hw, boards.area)).astype(np.uint8))
            self.places = places_on_board(self.on_board, tile_px)
        self.ignored, self.variants = boards.ignored, boards.variants
        self.reviewed, self.share = reviewed, share
        self.frames: U8 | None = None
        stored = picture_file(frames_file, (len(boards.frames), *boards.frames[0].shape))
        for slot, frame in zip(stored, boards.frames, strict=True):
            slot[:] = frame
        self.cues_file = None if memory_of is None else frames_file.with_suffix(".cues.npy")
        self.cues: U8 | None = None
        if self.cues_file is not None and memory_of is not None:
            cues = picture_file(self.cues_file, (len(boards.frames), *self.cue.shape))
            for number, slot in enumerate(cues):
                own = memory_of(number)
                slot[:] = memory_as_shipped(own.mean_rgb, own.deviation)

    @property
    def files(self) -> list[Path]:
        """What the processes share: the boards' frames, and their memories where each has one of its own."""
        return [file for file in (self.frames_file, self.cues_file) if file is not None]

    def with_files(self, files: list[Path]) -> CorruptedTiles:
        """The same stream from files that lie elsewhere, on another machine."""
        other = copy.copy(self)
        other.frames_file, other.cues_file = files[0], files[1] if self.cues_file is not None else None
        other.frames = other.cues = None
        return other

    def remove_files(self) -> None:
        """Remove what the processes shared; there are no more batches then."""
        for file in self.files:
            file.unlink(missing_ok=True)

    def batch_of(self, number: int) -> TileBatch:
        """Batch ``number`` of the stream."""
        if self.frames is None:
            self.frames = np.load(self.frames_file, mmap_mode="r")
            self.cues = None if self.cues_file is None else np.load(self.cues_file, mmap_mode="r")
        rng = np.random.default_rng([self.seed, number])
        made = [self._one(rng, self.frames) for _ in range(self.batch)]
        self._compress(np.random.default_rng([self.seed, number, JPEG_QUALITIES[0]]), made)
        tile, cue, clean, mask, on_board = (np.stack(column) for column in zip(*made, strict=True))
        nchw = [np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (tile, cue, clean)]
        weight = np.stack([region_weights(m) for m in mask]) * on_board
        return TileBatch(nchw[0], nchw[1], nchw[2], np.ascontiguousarray(mask[:, None]), weight[:, None])

    @staticmethod
    def _compress(rng: np.random.Generator, made: list[tuple[U8, U8, U8, U8, U8]]) -> None:
        """Some of the tiles that the network sees; what it is to give back stays as it was."""
        for place, (tile, *others) in enumerate(made):
            if rng.random() < JPEG_SHARE:
                seen = compressed(tile, int(rng.integers(*JPEG_QUALITIES)))
                made[place] = (seen, *others)  # type: ignore[assignment]

    def reviewed_batches(self, first: int, count: int) -> list[TileBatch]:
        """Batches from number ``first`` on, each tile of which shows what people have reviewed."""
        before, self.share = self.share, 1.0
        made = [self.batch_of(first + number) for number in range(count)]
        self.share, self.frames, self.cues = before, None, None  # opened anew by each process
        return made

    def _one(self, rng: np.random.Generator, frames: U8) -> tuple[U8, U8, U8, U8, U8]:
        t = self.tile_px
        focus = self._focus(rng)
        number = int(rng.integers(len(frames))) if focus is None or focus.board is None else focus.board
        y, x = self._place(rng, frames[number]) if focus is None else self._around(rng, focus, frames[number])
        crop = self._crop(rng, frames[number], self.poses[number], y, x)
        centre = np.array([[y + t / 2, x + t / 2]])
        even = u8(cv2.LUT(crop, tables_of_gains(gains_at(self.lights[number], frames.shape[1:3], centre))[0]))
        clean = vary_appearance(rng, even, self.drift)
        other = frames[int(rng.integers(len(frames)))]
        donor_y, donor_x = self._place(rng, other)
        donor = other[donor_y : donor_y + t, donor_x : donor_x + t]
        inside = (
            (self.boxes[:, 0] >= x) & (self.boxes[:, 1] >= y)
            & (self.boxes[:, 0] + self.boxes[:, 2] <= x + t) & (self.boxes[:, 1] + self.boxes[:, 3] <= y + t)
        )  # fmt: skip
        cue = (self.cue if self.cues is None else u8(self.cues[number]))[y : y + t, x : x + t].copy()
        self.variants.put_into(cue, (y, x), number)
        made = corrupt_tile(rng, clean, donor, self.boxes[inside] - np.array([x, y, 0, 0], np.int32))
        if focus is not None and focus.patch is not None:
            made = with_patch(rng, made, focus.patch, (y, x))
        on_board = self._counting(number, y, x)
        return (
            add_sensor_noise(rng, made.tile),
            cue,
            made.clean,
            made.mask * on_board,
            on_board,
        )

    def _focus(self, rng: np.random.Generator) -> Focus | None:
        """What people have said of a place, for this share of the tiles."""
        if self.reviewed is None or rng.random() >= self.share:
            return None
        return self.reviewed.draw(rng)

    def _around(self, rng: np.random.Generator, focus: Focus, frame: U8) -> tuple[int, int]:
        """Upper left corner y, x of a tile that shows a place, anywhere in it."""
        h, w = frame.shape[:2]
        off_y, off_x = (self.tile_px * float(v) for v in rng.uniform(0.1, 0.9, 2))
        y, x = round(focus.y - off_y), round(focus.x - off_x)
        return min(max(y, 0), h - self.tile_px), min(max(x, 0), w - self.tile_px)

    def _counting(self, number: int, y: int, x: int) -> U8:
        """Where a tile (t, t) of a board counts, 1, and where not, 0."""
        t = self.tile_px
        counting = self.on_board[y : y + t, x : x + t]
        boxes = [box for board, box in self.ignored if board == number]
        if boxes:
            counting = counting.copy()
            for left, top, w, h in boxes:
                counting[max(top - y, 0) : max(top + h - y, 0), max(left - x, 0) : max(left + w - x, 0)] = 0
        return counting

    def _place(self, rng: np.random.Generator, frame: U8) -> tuple[int, int]:
        """Upper left corner y, x of a tile that shows some of the board."""
        h, w = frame.shape[:2]
        if self.places is None:
            return int(rng.integers(h - self.tile_px + 1)), int(rng.integers(w - self.tile_px + 1))
        y, x = self.places[int(rng.integers(len(self.places)))] + rng.integers(PLACE_STEP_PX, size=2)
        return min(int(y), h - self.tile_px), min(int(x), w - self.tile_px)

    def _crop(self, rng: np.random.Generator, frame: U8, pose: Pose, y: int, x: int) -> U8:
        """The tile as registration would leave it, about half a pixel off; interpolated once, as on the line.

        Loose objects, which nothing registers, lie by some pixels differently each time.
        """
        t = self.tile_px
        turn = float(rng.normal(0, self.jitter_deg))
        jitter = np.asarray(cv2.getRotationMatrix2D((t / 2, t / 2), turn, 1.0), np.float64)
        jitter[:, 2] += rng.normal(0, self.jitter_px, 2)
        to_golden = pose.affine if pose.is_affine else _tile_matrix(pose, y, x, t)
        m = jitter[:, :2] @ to_golden
        m[:, 2] += jitter[:, 2] - jitter[:, :2] @ (x, y)
        out = cv2.warpAffine(frame, m, (t, t), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return out.astype(np.uint8, copy=False)


def places_on_board(on_board: U8, tile_px: int) -> I64:
    """Upper left corners (n, 2), y and x, of tiles that show enough of a board (h, w) of 0/1."""
    share = cv2.boxFilter(
        on_board, cv2.CV_32F, (tile_px, tile_px), anchor=(0, 0), normalize=True, borderType=cv2.BORDER_CONSTANT
    )
    h, w = on_board.shape
    allowed = share[: h - tile_px + 1 : PLACE_STEP_PX, : w - tile_px + 1 : PLACE_STEP_PX]
    return np.argwhere(allowed >= min(LEAST_BOARD_SHARE, float(allowed.max()))) * PLACE_STEP_PX


def _tile_matrix(pose: Pose, y: int, x: int, t: int) -> F64:
    """The matrix (2, 3), frame pixels -> golden pixels, that comes closest to a pose within one tile."""
    across = np.linspace(0, t - 1, 5)
    golden = np.array([(x + dx, y + dy) for dx in across for dy in across])
    frame = np.column_stack([pose.to_frame(golden), np.ones(len(golden))])
    fitted, *_ = np.linalg.lstsq(frame, golden, rcond=None)
    return np.asarray(fitted.T, np.float64)


_worker_stream: Stream | None = None


def _start_worker(stream: Stream, parent_pid: int) -> None:
    global _worker_stream
    die_with_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the trainer ends its workers
    cv2.setNumThreads(1)
    _worker_stream = stream


def _make(number: int) -> TileBatch:
    if _worker_stream is None:
        raise RuntimeError("a tile worker was used before it was started")
    return _worker_stream.batch_of(number)


def batches_from_stream(stream: Stream, first: int, workers: int, stride: int = 1) -> Generator[TileBatch, None, None]:
    """Endless batches ``first``, ``first + stride``, ... in order, made ahead in ``workers`` processes (0: here)."""
    if workers == 0:
        number = first
        while True:
            yield stream.batch_of(number)
            number += stride
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (stream, os.getpid()))
    try:
        ahead: deque[Future[TileBatch]] = deque()
        for number in range(first, first + BATCHES_AHEAD * workers * stride, stride):
            ahead.append(pool.submit(_make, number))
        number = first + len(ahead) * stride
        while True:
            yield ahead.popleft().result()
            ahead.append(pool.submit(_make, number))
            number += stride
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
