"""What slots of a bundle share on a GPU: engines, arrays that are there once, and how a frame is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hisir_edge.arrays import I64
from hisir_edge.bundle.load import Bundle
from hisir_edge.cuda.device import Buffer, Device, Stream
from hisir_edge.cuda.tensorrt_engine import DeviceEngine
from hisir_edge.geometry.merge_plan import MergePlan
from hisir_edge.geometry.tile import REGION_PX, tiles_from_planes
from hisir_edge.inspection.gain import Gain

STEPS = ("copy in", "tiles", "network", "rops", "mask", "copy out")
"""Steps of a frame on the GPU, in this order."""
LOOKING = (*STEPS[:2], "look", *STEPS[2:])
"""The same where a first look decides what the network sees."""


class LookContext(Protocol):
    """One frame's right to run the first look."""

    def enqueue(self, count: int, planes: int, expected: int, stream: Stream) -> None:
        """Put ``count`` tiles into the stream; InspectionError where the engine refuses.

        Addresses of uint8 (n, 8, t, t) (``cascade.planes``) and float32 (n, t / 16, t / 16), logarithms.
        """
        ...


class LookEngine(Protocol):
    """A first look on the GPU: ``batch`` tiles at most a call."""

    batch: int

    def context(self) -> LookContext:
        """Another frame's; within ``Device.active``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRig:
    """What slots share of a first look. ``level``: the calibrated score to look from; ``look_from``: on the GPU."""

    engine: LookEngine
    level: np.float32
    look_from: Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Arrays that are on the GPU once a bundle. Tiles are numbered as they are run; ``cues``: see ``half_planes``."""

    origins_yx: Buffer
    cues: Buffer
    candidate: Buffer
    cell: Buffer
    border: Buffer
    gain: Buffer
    most_gain: Buffer

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """All of them, to give them back."""
        return (
            self.origins_yx, self.cues, self.candidate, self.cell, self.border, self.gain, self.most_gain,
        )  # fmt: skip


def uploaded(
    device: Device, bundle: Bundle, merge: MergePlan, numbers: I64, gain: Gain, tiles: int, half_planes: bool
) -> Shared:
    """What frames of a bundle share, on the GPU: ``numbers`` are the tiles that are run, ``tiles`` those with room."""
    plan, n, t = merge.plan, len(numbers), merge.plan.tile_px
    cues = bundle.memory
    if not half_planes:
        cues = np.zeros((max(tiles, 1), 4, t, t), np.uint8)
        tiles_from_planes(plan, bundle.memory, numbers, cues)
    position = np.full(len(plan.origins_yx), -1, np.int32)
    position[numbers] = np.arange(n)
    candidate = np.where(merge.candidate >= 0, position[merge.candidate], -1).astype(np.int32)
    origins = np.array(plan.origins_yx, np.int32)[numbers] if n else np.zeros((1, 2), np.int32)
    whole = gain.window(0, plan.frame_hw[0], 0, plan.frame_hw[1])
    upload = device.upload
    return Shared(
        origins_yx=upload(origins), cues=upload(cues), candidate=upload(candidate), cell=upload(merge.cell),
        border=upload(merge.border), gain=upload(whole), most_gain=upload(gain.most),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """Facts that slots share: ``tiles`` are run in ``calls`` of ``per_call``; ``frame_hw``: the camera's."""

    device: Device
    engine: DeviceEngine
    merge: MergePlan
    frame_hw: tuple[int, int]
    tiles: int
    calls: int
    per_call: int
    lit: bool
    shared: Shared
    records: list[bool]
    """Whether the work of a frame is recorded as a graph; of all slots, the first that fails decides."""
    own_cues: bool = False
    """Whether frames differ in their cues: then each slot has its own."""
    look: LookRig | None = None
    """The first look, where frames have one."""

    @property
    def tile_px(self) -> int:
        """Side of a tile."""
        return self.merge.plan.tile_px

    @property
    def regions_a_tile(self) -> int:
        """Regions of 16 x 16 px in a tile."""
        return (self.tile_px // REGION_PX) ** 2
