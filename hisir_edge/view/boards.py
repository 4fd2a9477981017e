"""Archived boards and their bundles as the page shows them: tiles of the frame, the golden board and the map.

All three lie in the frame's own pixels, so that they can be laid over each other; each in levels of half the size.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

import cv2
import numpy as np

from hisir_edge.archive.board_file import ArchivedBoard, View
from hisir_edge.archive.judge_again import JudgeAgain
from hisir_edge.arrays import F32, U8, u8
from hisir_edge.bundle.files import MANIFEST
from hisir_edge.bundle.load import Bundle, load_bundle
from hisir_edge.errors import InputError
from hisir_edge.inspection.registration.pose import Pose, positions
from hisir_edge.inspection.windows import pose_of_evidence
from hisir_edge.mes.stored import stored_file
from hisir_edge.transport.control_client import Asker

TILE_PX = 512
LEAST_LEVEL_PX = 256
JPEG_QUALITY = 88
MOST_FILE_BYTES, MOST_PICTURE_BYTES = 200_000_000, 400_000_000
"""Of archived boards as they are, and of their pictures, kept in memory."""
MOST_BUNDLES = 8
Kept = TypeVar("Kept")


class Cache(Generic[Kept]):
    """What was made last, up to so many bytes; one thread makes a thing, others wait for it."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes = most_bytes, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Kept, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], tuple[Kept, int]]) -> Kept:
        """What is kept under a key, made where it is not; ``make``: it and its bytes."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    return self._kept[key][0]
            try:
                made, size = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self._kept[key] = made, size
                self._bytes += size
                while self._bytes > self._most and len(self._kept) > 1:
                    _, (_, gone) = self._kept.popitem(last=False)
                    self._bytes -= gone
            return made


@dataclass(frozen=True, slots=True)
class Pyramid:
    """A picture and its halves, RGB (h, w, 3) or with alpha (h, w, 4), the largest first."""

    levels: tuple[U8, ...] = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """Of all levels."""
        return sum(level.nbytes for level in self.levels)

    def tile(self, level: int, x: int, y: int) -> bytes:
        """A tile as JPEG, or PNG where it has alpha. ``level``: 0 is the smallest. InputError where there is none."""
        if not 0 <= level < len(self.levels):
            raise _none("level")
        picture = self.levels[len(self.levels) - 1 - level]
        tile = picture[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX]
        if x < 0 or y < 0 or not tile.size:
            raise _none("tile")
        if tile.shape[2] == 4:
            ok, data = cv2.imencode(".png", cv2.cvtColor(tile, cv2.COLOR_RGBA2BGRA), (cv2.IMWRITE_PNG_COMPRESSION, 1))
        else:
            ok, data = cv2.imencode(
                ".jpg", cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
            )
        if not ok:
            raise _none("tile that can be encoded")
        return data.tobytes()


def pyramid_of(picture: U8) -> Pyramid:
    """Each level half of the one before, until one fits into ``LEAST_LEVEL_PX``."""
    levels = [picture]
    while max(levels[-1].shape[:2]) > LEAST_LEVEL_PX:
        h, w = levels[-1].shape[:2]
        levels.append(u8(cv2.resize(levels[-1], ((w + 1) // 2, (h + 1) // 2), interpolation=cv2.INTER_AREA)))
    return Pyramid(tuple(levels))


def _none(what: str) -> InputError:
    return InputError(expected=f"a {what} that is there", received="none", fix="load the page again", code="unknown")


class Boards:
    """Archived boards of one line, fetched when they are looked at.

    ``connect``: a connection to its control socket; ``stop``: whether to wait for no more answers.
    """

    def __init__(self, connect: Callable[[], Asker], scratch: Path, stop: Callable[[], bool] = lambda: False) -> None:
        self._connect, self._scratch, self._stop = connect, scratch, stop
        self._files: Cache[bytes] = Cache(MOST_FILE_BYTES)
        self._pictures: Cache[Pyramid] = Cache(MOST_PICTURE_BYTES)
        self._bundles: Cache[Bundle] = Cache(MOST_BUNDLES)
        self._judges: Cache[JudgeAgain] = Cache(MOST_BUNDLES)

    def fetched(self, epoch: str, seq: int) -> bytes:
        """A board's file; InputError where the line has none."""

        def fetch() -> tuple[bytes, int]:
            with self._connect() as asker:
                _, data = stored_file(asker, {"do": "archived_board", "epoch": epoch, "seq": seq}, stop=self._stop)
            return data, len(data)

        return self._files.get((epoch, seq), fetch)

    def opened(self, epoch: str, seq: int) -> ArchivedBoard:
        """A board, opened."""
        return ArchivedBoard(self.fetched(epoch, seq), f"board {seq}")

    def pyramid(self, epoch: str, seq: int, number: int, kind: str) -> Pyramid:
        """The ``kind`` (frame, golden, map) of a board's camera ``number``, in the frame's pixels.

        ``flat``: the golden image as zones see it, in its own pixels of the frame's size.
        """
        makers = {"frame": self._frame, "golden": self._golden, "map": self._map, "flat": self._flat}
        if kind not in makers:
            raise _none("picture")

        def make() -> tuple[Pyramid, int]:
            with self.opened(epoch, seq) as board:
                if not 0 <= number < len(board.facts.views):
                    raise _none("camera")
                made = pyramid_of(makers[kind](board, board.facts.views[number]))
            return made, made.size_bytes

        return self._pictures.get((epoch, seq, number, kind), make)

    def bundle(self, product: str, camera: str, sha256: str) -> Bundle:
        """The bundle that inspected a board; InputError where the line does not have it any more."""

        def fetch() -> tuple[Bundle, int]:
            with self._connect() as asker, TemporaryDirectory(dir=self._scratch) as folder:
                request = {"do": "bundle_file", "product": product, "camera": camera, "bundle_sha256": sha256}
                try:
                    _, manifest = stored_file(asker, request, stop=self._stop)
                except InputError as error:
                    if error.code != "unknown":
                        raise
                    raise _gone(sha256) from error
                if hashlib.sha256(manifest).hexdigest() != sha256:
                    raise _gone(sha256)
                (Path(folder) / MANIFEST).write_bytes(manifest)
                for name in json.loads(manifest)["files"]:
                    _, data = stored_file(asker, {**request, "file": name}, stop=self._stop)
                    (Path(folder) / Path(name).name).write_bytes(data)
                return load_bundle(Path(folder)), 1

        return self._bundles.get((product, camera, sha256), fetch)

    def bundle_now(self, product: str, camera: str) -> Bundle:
        """The bundle that a camera's frames of a product are inspected with now."""
        with self._connect() as asker:
            request = {"do": "bundle_file", "product": product, "camera": camera, "most": 1}
            answer, _ = asker.ask(request, stop=self._stop)
        return self.bundle(product, camera, answer["bundle_sha256"])

    def judge(self, bundle: Bundle) -> JudgeAgain:
        """Judges boards of a bundle again; one thread at a time."""
        return self._judges.get(bundle.manifest_sha256, lambda: (JudgeAgain(bundle), 1))

    def bundle_of(self, board: ArchivedBoard, view: View) -> Bundle:
        """The bundle of a board's camera."""
        verdict: dict[str, Any] = json.loads(board.verdict)
        seen = {
            one["InspectionName"]: one["vision"]["bundle_sha256"] for one in verdict["InspectedUnits"][0]["Inspections"]
        }
        return self.bundle(board.facts.product, view.camera, seen.get(view.camera, board.facts.bundle_sha256))

    def _frame(self, board: ArchivedBoard, view: View) -> U8:
        return board.frame(view).rgb

    def _golden(self, board: ArchivedBoard, view: View) -> U8:
        """The golden image as this board lies in its frame."""
        bundle, evidence = self.bundle_of(board, view), board.evidence(view)
        golden = np.ascontiguousarray(bundle.memory_rgbd[..., :3])
        pose = None if evidence is None else pose_of_evidence(evidence)
        h, w = bundle.recipe.frame_hw
        return u8(_in_frame(golden, pose, (h, w), cv2.INTER_LINEAR))

    def _flat(self, board: ArchivedBoard, view: View) -> U8:
        bundle = self.bundle_of(board, view)
        golden = np.ascontiguousarray(bundle.memory_rgbd[..., :3])
        return u8(_in_frame(golden, None, bundle.recipe.frame_hw, cv2.INTER_LINEAR))

    def _map(self, board: ArchivedBoard, view: View) -> U8:
        """The calibrated map, in colours with alpha: clear below a quarter of the pixel threshold."""
        bundle, evidence = self.bundle_of(board, view), board.evidence(view)
        h, w = bundle.recipe.frame_hw
        if evidence is None:
            return u8(np.zeros((h, w, 4), np.uint8))
        calibrated = self.judge(bundle).calibrated(evidence)
        steps = u8(np.clip(calibrated * (STEPS_AT_CALL / bundle.thresholds.region_peak), 0, 255).astype(np.uint8))
        coloured = _in_frame(steps, pose_of_evidence(evidence), (h, w), cv2.INTER_LINEAR)
        return u8(np.dstack([cv2.cvtColor(cv2.applyColorMap(coloured, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB),
                             np.where(coloured > 8, np.maximum(coloured, 90), 0).astype(np.uint8)]))  # fmt: skip


def _gone(sha256: str) -> InputError:
    return InputError(
        expected="the bundle that inspected this board",
        received=f"none {sha256[:12]}... on the line any more",
        fix="look at a newer board",
        code="unknown",
    )


STEPS_AT_CALL = 160.0
"""Brightness of the map's picture at the strength from which a region is called."""


def _in_frame(picture: U8, pose: Pose | None, frame_hw: tuple[int, int], how: int) -> U8 | F32:
    """A picture of the scaled golden image in the frame's pixels."""
    h, w = frame_hw
    if pose is None:
        return picture if picture.shape[:2] == frame_hw else u8(cv2.resize(picture, (w, h), interpolation=how))
    if pose.is_affine:
        flags = how | cv2.WARP_INVERSE_MAP
        return u8(cv2.warpAffine(picture, np.asarray(pose.affine), (w, h), flags=flags))
    return u8(cv2.remap(picture, positions(pose.to_golden, (0, h, 0, w)), None, how))  # type: ignore[call-overload]
