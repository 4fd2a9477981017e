"""One frame through the line on a GPU: copy in, tiles, engine, ROPS, mask, copy out, all in one stream.

The host registers the frame and measures its light, both from the pixels as the camera gave them; from there on only
addresses are handed on. The raw frame crosses the bus once. What comes back is the mask as bits, a small map of each
region's highest score and, where a bit is set, the scores of those rows.
"""

from __future__ import annotations

import contextlib
import copy
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import Lock, current_thread

import numpy as np
import structlog

from hisir_edge.arrays import U8, Bool
from hisir_edge.bundle.load import Bundle
from hisir_edge.cuda.device import Buffer, Device, Event
from hisir_edge.cuda.readback import (
    crop_of_frame,
    evidence_of_padded,
    fixed_matrices,
    light_planes,
    light_tables,
    rows_of,
    scored_windows,
    windows_in_frame,
    windows_of_bits,
)
from hisir_edge.cuda.rig import LookEngine, LookRig, Rig, uploaded
from hisir_edge.cuda.slot import Slot
from hisir_edge.cuda.tensorrt_engine import DeviceEngine
from hisir_edge.errors import BundleError, HisirEdgeError, InspectionError
from hisir_edge.geometry.tile import scaled_frame
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import BoardInspector, Findings, check_frame
from hisir_edge.inspection.engine import OnSpan
from hisir_edge.inspection.memory.shown import ShownMemory
from hisir_edge.inspection.regions import regions_in_window
from hisir_edge.inspection.registration.pose import Pose, straightened
from hisir_edge.records import Region, StageTimes

log = structlog.get_logger()
MOST_CANDIDATES = 16
"""As in ``kernels.cu``: tiles that may see one region."""
GPU_THREAD = "gpu stream"
"""By what a trace calls the streams, with their handles behind it."""
LOST_AFTER = 2
"""After this many slots in a row that could not be made, the GPU is lost to this process."""


@dataclass
class _Family:
    """State that all siblings share, beside the rig."""

    members: list[CudaInspector] = field(default_factory=list)
    on_span: OnSpan | None = None
    memory: list[Buffer] = field(default_factory=list)
    origin: tuple[Event, float] | None = None
    """An event and when it was over (``time.perf_counter``): the GPU's clock on the host's."""
    unmade: int = 0
    """Slots in a row that could not be made."""
    lock: Lock = field(default_factory=Lock)


class CudaInspector(BoardInspector):
    """A bundle on a GPU; see ``BoardInspector``. ``device`` and ``engine`` are shared by all siblings."""

    def __init__(
        self, bundle: Bundle, device: Device, make_engine: Callable[[], DeviceEngine],
        make_look: Callable[[], LookEngine] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(bundle)
        self._make_look = make_look
        depth = len(self.merge_plan.candidate)
        if depth > MOST_CANDIDATES:
            raise BundleError(
                expected=f"at most {MOST_CANDIDATES} tiles over one place", received=str(depth),
                fix="build a bundle with a smaller overlap",
            )  # fmt: skip
        self.device, self.callers = device, 1
        self._family = _Family([self])
        with device.active():
            engine, n = make_engine(), len(self.numbers)
            calls = -(-n // engine.batch)
            self.batch = -(-n // max(calls, 1))
            self.rig = Rig(
                device=device, engine=engine, merge=self.merge_plan, frame_hw=bundle.recipe.frame_hw, tiles=n,
                calls=calls, per_call=self.batch, lit=self.light is not None,
                shared=uploaded(
                    device, bundle, self.merge_plan, self.numbers, self.gain, calls * self.batch, engine.half_planes
                ),
                records=[not engine.captures], own_cues=bool(bundle.places),
            )  # fmt: skip
            self._slot: Slot | None = Slot(self.rig) if n else None
        self._memory = ShownMemory(self.chooser, bundle.memory)

    def look_first(self, guarded: bool = True) -> bool:
        """See ``BoardInspector.look_first``: in the frame's stream; the slot is made anew."""
        cascade = self.bundle.manifest.cascade
        if self._make_look is None or cascade is None or self.rig.engine.half_planes or not len(self.numbers):
            return False
        self._is_guarded = guarded
        if self.rig.look is None:
            level = np.float32(cascade.look_from * self.bundle.thresholds.region_peak)
            with self.device.active():
                look = LookRig(engine=self._make_look(), level=level, look_from=self.device.upload(np.array([level])))
                self._family.memory.append(look.look_from)
                self.rig = replace(self.rig, look=look)
                if self._slot is not None:
                    self._slot.free()
                self._slot = Slot(self.rig)
        return True

    @property
    def lost(self) -> bool:
        """See ``BoardInspector.lost``."""
        return self._family.unmade >= LOST_AFTER

    def sibling(self) -> CudaInspector:
        """See ``BoardInspector.sibling``: a stream, context and memory of its own."""
        other = copy.copy(self)
        other._slot = None
        other._memory = ShownMemory(self.chooser, self.bundle.memory)
        with self.device.active():
            other._slot = Slot(self.rig) if len(self.numbers) else None
        self._family.members.append(other)
        return other

    def close(self, wait: bool = True) -> None:
        """See ``BoardInspector.close``; what hangs keeps its memory."""
        if not wait:
            return
        with self.device.active():
            for one in self._family.members:
                if one._slot is not None:
                    one._slot.free()
                    one._slot = None
            self.device.free(*self.rig.shared.buffers, *self._family.memory)
            self._family.memory.clear()

    def span(self, what: str, start: float, end: float) -> None:
        """See ``BoardInspector.span``."""
        if (tell := self._family.on_span) is not None:
            tell(current_thread().name, what, start, end)

    def trace(self, on_span: OnSpan | None) -> None:
        """See ``BoardInspector.trace``: the GPU's work is reported as one thread for each stream."""
        if on_span is not None:
            with self.device.active():
                event = self.device.event(timed=True)
                event.record(self.device.stream())
                event.wait()
                self._family.origin = event, time.perf_counter()
        self._family.on_span = on_span

    def _find(self, image: Pixels) -> Findings:
        """See ``BoardInspector``."""
        check_frame(image, self.bundle.recipe)
        t0 = time.perf_counter()
        work = self._as_it_crosses(image)
        registration = self.finder.find(work) if self.finder is not None else None
        pose = registration.pose if registration is not None else None
        bent: Pose | None = None
        if pose is not None and not pose.is_affine:  # the kernels warp by one (2, 3) matrix
            work = Pixels(straightened(work.rgb, pose, self.plan.frame_hw))
            bent, pose = self.pose_of_camera(registration), None
        light = None if self.light is None else light_planes(self.light, self.plan, work, pose)
        tables = None if light is None else light_tables(light, self.plan)
        self._memory.show(crop_of_frame(work, pose), light)
        t1 = time.perf_counter()
        mask: Bool = np.zeros(image.hw, np.bool_)
        if not len(self.numbers):  # all of the board is ignored
            times = StageTimes(register_s=t1 - t0)
            return Findings(0.0, [], mask, registration, times, self._memory.chosen)
        try:
            with self._current_device():
                slot = self._ready_slot()
                self._fill(slot, work, pose, tables)
                t2 = time.perf_counter()
                looks_first = slot.look is not None and self._may_wave
                slot.run(work.pixel_format, self._family.on_span is not None, looks_first)
                share, beyond = slot.grown(self.numbers) if looks_first else (1.0, 0.0)
                t3 = time.perf_counter()
                regions, strongest = self._regions(slot, mask, bent)
                wanted = self._keeps_evidence and (regions or not self._of_called_only)
                camera = self.pose_of_camera(registration)
                kept = evidence_of_padded(slot.fetch_map, self.plan, self.gain, camera) if wanted else None
        except Exception as error:
            self._drop_slot(error)  # whatever it was: the next frame gets a stream, context and memory of its own
            if isinstance(error, HisirEdgeError):
                raise
            raise InspectionError(
                expected="the GPU to do a frame's work", received=f"{type(error).__name__}: {error}",
                fix="see the driver's log (dmesg)",
            ) from error  # fmt: skip
        t4 = time.perf_counter()
        for what, start, end in (("register", t0, t1), ("fill", t1, t2), ("gpu", t2, t3), ("judge", t3, t4)):
            self.span(what, start, end)
        self._tell_steps(slot)
        times = StageTimes(register_s=t1 - t0, tile_s=t2 - t1, infer_s=t3 - t2, judge_s=t4 - t3)
        score = max(float(slot.host.small.max()), strongest, beyond)
        return Findings(score, regions, mask, registration, times, self._memory.chosen, kept, share)

    @contextlib.contextmanager
    def _current_device(self) -> Iterator[None]:
        """``Device.active``; a GPU that cannot even be made current is one on which no slot can be made."""
        active = self.device.active()
        try:
            active.__enter__()
        except Exception:
            with self._family.lock:
                self._family.unmade += 1
            raise
        try:
            yield
        finally:
            active.__exit__(None, None, None)

    def _as_it_crosses(self, image: Pixels) -> Pixels:
        """The frame as the GPU gets it: raw, or scaled for the network, which takes all three colours."""
        scale = self.bundle.recipe.scale
        return image if scale == 1.0 else Pixels(scaled_frame(image.rgb, scale))

    def _ready_slot(self) -> Slot:
        """The slot, made again after a failure; failures in a row are counted."""
        if self._slot is None:
            try:
                self._slot = Slot(self.rig)
            except Exception:
                with self._family.lock:
                    self._family.unmade += 1
                raise
            with self._family.lock:
                self._family.unmade = 0
        return self._slot

    def _drop_slot(self, error: BaseException) -> None:
        """Free what the slot has; also what the failure's traceback would keep for later, when no GPU is active."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        try:
            with self.device.active():
                slot.free()
                cause: BaseException | None = error
                while cause is not None:
                    traceback.clear_frames(cause.__traceback__)
                    cause = cause.__cause__ or cause.__context__
        except Exception as failure:
            log.warning("a slot of the GPU could not be freed", error=f"{type(failure).__name__}: {failure}")

    def _fill(self, slot: Slot, work: Pixels, pose: Pose | None, tables: U8 | None) -> None:
        matrices = fixed_matrices(pose, self.bundle.recipe.scale)
        slot.fill(work.data, work.pixel_format, *matrices, None if tables is None else tables[self.numbers])
        if (own := slot.own_cues) is not None:
            own.show(slot.stream, self._memory.planes, self._memory.chosen, self.numbers, self._tiles_of_places)

    def _regions(self, slot: Slot, mask: Bool, bent: Pose | None) -> tuple[list[Region], float]:
        """Regions of the frame, added to its mask, from the mask and the scores that the GPU made; the highest peak.

        ``bent``: the camera's pose where the GPU was given a straightened frame.
        """
        frame_hw = self.bundle.recipe.frame_hw
        windows = windows_of_bits(slot.host.bits, frame_hw)
        if not windows:
            return [], 0.0
        slot.fetch_values(rows_of(windows, len(mask)))
        found = scored_windows(windows, slot.host.bits, slot.host.values)
        if bent is not None:
            found = windows_in_frame(found, bent, self.bundle.recipe.scale, frame_hw)
        seen = [regions_in_window(window, self.bundle.thresholds, (y, x), mask) for y, x, window in found]
        return [region for one in seen for region in one.called], max((one.strongest for one in seen), default=0.0)

    def _tell_steps(self, slot: Slot) -> None:
        """The GPU's own times of a traced frame, on the host's clock."""
        origin, tell = self._family.origin, self._family.on_span
        if origin is None or tell is None or not slot.marks:
            return
        with self.device.active():
            at = [origin[1] + mark.seconds_since(origin[0]) for mark in slot.marks]
        for step, start, end in zip(slot.steps, at[:-1], at[1:], strict=True):
            tell(f"{GPU_THREAD} {slot.stream.handle:#x}", step, start, end)

    def network_seconds(self) -> float:
        """Seconds that the engine alone takes for the tiles of the last frame."""
        slot = self._slot
        if slot is None:
            raise InspectionError(expected="a frame to be inspected first", received="none", fix="inspect one")
        with self.device.active():
            start = time.perf_counter()
            slot.enqueue_network()
            slot.done.record(slot.stream)
            slot.done.wait()
            return time.perf_counter() - start
