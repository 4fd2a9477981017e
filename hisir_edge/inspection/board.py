"""The steps that every backend shares: the bundle's geometry before the network, the judgement after it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from hisir_edge.arrays import F64, U8, Bool
from hisir_edge.bundle.fit import not_of_these_colours
from hisir_edge.bundle.load import Bundle, Recipe
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.errors import InspectionError
from hisir_edge.geometry.merge_plan import merge_plan_from_tiles
from hisir_edge.geometry.tile import REGION_PX, TilePlan, plan_from_size, scaled_frame, scaled_hw
from hisir_edge.images import is_grey
from hisir_edge.images.pixels import CONVERSIONS, Pixels
from hisir_edge.inspection.engine import OnSpan
from hisir_edge.inspection.gain import Gain, inside_zone
from hisir_edge.inspection.light import golden_light
from hisir_edge.inspection.locate import located
from hisir_edge.inspection.memory.variants import Chooser, tiles_of_places
from hisir_edge.inspection.optics import Beyond, OpticsWatch, watch_of
from hisir_edge.inspection.regions import found_from_regions
from hisir_edge.inspection.registration.finder import finder_from_bundle, outline_of, scaled_polygon
from hisir_edge.inspection.registration.pose import Pose, Registration, local_matrix, pose_from_affine, scaling
from hisir_edge.inspection.verdict import (
    error_judgement,
    fail_closed,
    judgement_from_regions,
    not_judged_by_optics,
)
from hisir_edge.records import BoardPose, Evidence, Judgement, Region, StageTimes


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings of a backend on a frame: the highest calibrated score, regions in frame pixels, their mask (h, w).

    ``variants``: what it shows at each place where good boards differ. ``looked_share``: the share of the tiles that
    the whole network saw.
    """

    score: float
    regions: list[Region] = field(repr=False)
    mask: Bool = field(repr=False)
    registration: Registration | None
    times: StageTimes
    variants: tuple[int, ...] = ()
    evidence: Evidence | None = field(default=None, repr=False)
    looked_share: float = 1.0


class BoardInspector(ABC):
    """A bundle ready to inspect frames, one at a time; siblings share what is loaded and inspect others meanwhile."""

    batch: int
    """Tiles a call of the engine at most, and from how many threads it is called."""
    callers: int

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        recipe = bundle.recipe
        self.plan = plan_from_size(scaled_hw(recipe.frame_hw, recipe.scale), recipe.tile_px, recipe.overlap_px)
        self.gain = Gain(self.plan.frame_hw, recipe.scale, bundle.thresholds, bundle.noise, bundle.zones)
        inspected = _tiles_to_inspect(self.plan, self.gain)
        self.numbers = np.flatnonzero(inspected)
        self.merge_plan = merge_plan_from_tiles(self.plan, inspected)
        golden = bundle.memory_rgbd[..., :3]
        self.finder = finder_from_bundle(bundle)
        self._middle_xy = outline_of(self.plan.frame_hw, scaled_polygon(bundle.area, recipe.scale)).mean(0)
        self.light = golden_light(golden, board_pixels(bundle)) if recipe.registered else None
        self._tiles_of_places = tiles_of_places(bundle.places, self.plan.origins_yx, self.plan.tile_px)
        seen = [n for n, tiles in enumerate(self._tiles_of_places) if np.isin(tiles, self.numbers).any()]
        self.chooser = Chooser(bundle.places, self.plan.frame_hw, seen)
        self._watch: OpticsWatch | None = None
        self._beyond: Beyond = "warning"
        self._keeps_evidence = self._of_called_only = self._looks_everywhere = False
        self._is_guarded = True

    def look_first(self, guarded: bool = True) -> bool:
        """From now on let the whole network see only what the bundle's first look finds suspicious.

        A frame that was taken or lies otherwise than the good boards is looked at everywhere, and so is every frame
        where that cannot be told (``watch_optics``), unless it is not ``guarded``: for benchmarks and self-tests.
        False: the bundle, or this backend, has no first look. BundleError for one that does not load.
        """
        return False

    def watch_optics(self, beyond: Beyond = "warning") -> None:
        """From now on say of each frame how it was taken, and make what lies beyond the good boards' limits this.

        A frame that is far beyond them is an ERROR, unless that is to be ignored. Siblings that exist go on as they
        are; a bundle of before has no limits.
        """
        self._watch, self._beyond = watch_of(self.bundle), beyond

    def keep_evidence(self, called_only: bool = False) -> None:
        """From now on give what each judgement came from, where the backend has it; siblings that exist do not.

        ``called_only``: of frames with a region that is called.
        """
        self._keeps_evidence, self._of_called_only = True, called_only

    @property
    def lost(self) -> bool:
        """Whether what it runs on is lost to this process: from here on everything is an ERROR, until a new one."""
        return False

    @abstractmethod
    def sibling(self) -> BoardInspector:
        """Another one for the same bundle, with frame buffers of its own."""

    @abstractmethod
    def close(self, wait: bool = True) -> None:
        """End its threads and free what the GPU holds, for all siblings; ``wait`` until they have ended."""

    @abstractmethod
    def span(self, what: str, start: float, end: float) -> None:
        """Report a span of this thread's work to the trace (``time.perf_counter``)."""

    @abstractmethod
    def trace(self, on_span: OnSpan | None) -> None:
        """Set the callback of ``span``, for all siblings; None: no trace."""

    @abstractmethod
    def _find(self, image: Pixels) -> Findings:
        """Regions over the pixel threshold on a frame; InspectionError for a wrong frame or a void result."""

    def inspect(self, frame: U8 | Pixels) -> Judgement:
        """The judgement of one frame, RGB (h, w, 3) or as its camera gave it; ERROR for what cannot be judged."""
        return fail_closed(partial(self._inspected, frame), error_judgement)

    def _inspected(self, frame: U8 | Pixels) -> Judgement:
        image = frame if isinstance(frame, Pixels) else Pixels(frame)
        judged = self._judged(image)
        if judged.looked_share < 1 and self._is_guarded and self._is_unusual(judged):
            self._looks_everywhere = True
            try:
                again = self._judged(image)
            finally:
                self._looks_everywhere = False
            judged = replace(again, times=replace(again.times, total_s=again.times.total_s + judged.times.total_s))
        return judged

    def _is_unusual(self, judged: Judgement) -> bool:
        """Whether a frame was taken, or lies, as no good board that the first look was proven on."""
        cascade, watch = self.bundle.manifest.cascade, self._watch
        if cascade is None or watch is None or judged.optics is None:
            return True
        usual = (judged.registration_residual_px or 0.0) <= cascade.most_residual_px  # also where it is no number
        return not usual or bool(judged.warnings) or bool(watch.faults(judged.optics))

    @property
    def _may_wave(self) -> bool:
        """Whether the first look may leave something of a frame out.

        Of one that may be soft nothing is. Who keeps what judgements came from looks everywhere: boards are judged
        again under lower thresholds.
        """
        tells_blur = self._watch is not None and self._watch.model.most_blur_px is not None
        return not (self._looks_everywhere or self._keeps_evidence or (self._is_guarded and not tells_blur))

    def _judged(self, image: Pixels) -> Judgement:
        start = time.perf_counter()
        try:
            findings = self._find(image)
        except InspectionError as error:
            return self._not_found(image, error)
        registration = findings.registration
        found = found_from_regions(findings.regions, findings.mask)
        found = replace(found, regions=located(found.regions, self.bundle.manifest, self.pose_of_camera(registration)))
        residual_px = registration.residual_px if registration else None
        lay = None if registration is None else board_pose(registration, self._middle_xy, self.bundle.recipe.scale)
        times = replace(findings.times, total_s=time.perf_counter() - start)
        judged = judgement_from_regions(found, findings.score, times, residual_px, lay, findings.variants)
        judged = replace(judged, evidence=findings.evidence, looked_share=findings.looked_share)
        return self._as_taken(judged, image, self.pose_of_camera(registration))

    def _not_found(self, image: Pixels, error: InspectionError) -> Judgement:
        """The ERROR of a frame that was not inspected, with how it was taken where that can be said.

        Where boards lie about as the golden image shows them, places are found without a pose: that a lens has fallen
        off or a lamp is dead is not to look like a board that is not there.
        """
        judged, recipe = error_judgement(str(error)), self.bundle.recipe
        if self._watch is None or recipe.locate == "anywhere":
            return judged
        try:
            check_frame(image, recipe)
        except InspectionError:  # of another size or kind: there is nothing to measure
            return judged
        seen = self._watch.seen(image, None)
        faults = () if self._beyond == "off" else self._watch.faults(seen)
        beside = "".join(f"; besides: {fault.words}" for fault in faults)
        return replace(judged, reason=judged.reason + beside, optics=seen, warnings=faults)

    def _as_taken(self, judged: Judgement, image: Pixels, pose: Pose | None) -> Judgement:
        """A judgement with what the frame's optics make of it."""
        if self._watch is None:
            return judged
        start = time.perf_counter()
        seen = self._watch.seen(image, pose)
        faults = () if self._beyond == "off" else self._watch.faults(seen)
        took_s = time.perf_counter() - start
        self.span("optics", start, start + took_s)
        times = replace(judged.times, judge_s=judged.times.judge_s + took_s, total_s=judged.times.total_s + took_s)
        judged = replace(judged, optics=seen, warnings=faults, times=times)
        if faults and (self._beyond == "error" or self._watch.is_lost(seen)):
            return not_judged_by_optics(judged)
        return judged

    def pose_of(self, image: Pixels) -> Pose | None:
        """The pose of a frame's pixels on the golden, scaled ones; None where they are the same.

        InspectionError where the board is not found.
        """
        if self.finder is None:
            return self.pose_of_camera(None)
        work = image if self.bundle.recipe.scale == 1.0 else Pixels(scaled_frame(image.rgb, self.bundle.recipe.scale))
        return self.pose_of_camera(self.finder.find(work))

    def pose_of_camera(self, registration: Registration | None) -> Pose | None:
        """The pose of the camera's pixels on the golden, scaled ones; None where they are the same."""
        scale = self.bundle.recipe.scale
        if registration is None:
            return None if scale == 1.0 else pose_from_affine(scaling(scale))
        return registration.pose if scale == 1.0 else registration.pose.of_frame(scaling(scale))


def board_pose(registration: Registration, middle_xy: F64, scale: float) -> BoardPose:
    """How a board lay; ``middle_xy`` (2,): its middle on the golden image, in the network's pixels."""
    pose = registration.pose
    shift = (pose.to_frame(middle_xy[None])[0] - middle_xy) / scale
    step = local_matrix(pose, middle_xy)
    return BoardPose(
        shift_x_px=float(shift[0]),
        shift_y_px=float(shift[1]),
        turn_deg=float(np.rad2deg(np.arctan2(step[1, 0] - step[0, 1], step[0, 0] + step[1, 1]))),
        scale=float(np.sqrt(abs(np.linalg.det(step)))),
        inliers=registration.inliers,
        inlier_share=registration.inlier_share,
    )


def board_pixels(bundle: Bundle) -> Bool | None:
    """The pixels (h, w) of the scaled golden image that the board covers; None: all of them."""
    if bundle.area is None:
        return None
    hw = scaled_hw(bundle.recipe.frame_hw, bundle.recipe.scale)
    return inside_zone(hw, bundle.recipe.scale, Zone("board", bundle.area, 1.0))


def in_flight(inspector: BoardInspector, count: int) -> list[BoardInspector]:
    """An inspector and as many siblings as it takes for ``count`` frames at a time."""
    return [inspector, *(inspector.sibling() for _ in range(count - 1))]


def _tiles_to_inspect(plan: TilePlan, gain: Gain) -> Bool:
    """Which tiles (n,) see anything outside the ignored zones; the others are not run."""
    side = plan.tile_px // REGION_PX
    cells = [(y // REGION_PX, x // REGION_PX) for y, x in plan.origins_yx]
    return np.array([gain.most[y : y + side, x : x + side].any() for y, x in cells])


def _alike(data: U8) -> bool:
    """Whether it is a picture of three channels that are alike: a grey photo, stored in colour."""
    return data.ndim == 3 and data.shape[2] == 3 and is_grey(data)


def check_frame(image: Pixels, recipe: Recipe) -> None:
    """InspectionError unless it is a frame of uint8 in the bundle's size and colours, with its format's channels."""
    frame_hw, is_mono = recipe.frame_hw, image.pixel_format == "Mono8"
    if recipe.grey is False and is_mono:
        raise not_of_these_colours(False, image.pixel_format)
    if recipe.grey and not is_mono and not (image.pixel_format == "RGB8" and _alike(image.data)):
        raise not_of_these_colours(True, image.pixel_format)
    data, channels = image.data, CONVERSIONS[image.pixel_format][0]
    if data.dtype != np.uint8 or data.ndim < 2 or data.shape[2:] != (() if channels == 1 else (channels,)):
        raise InspectionError(
            expected="8-bit RGB frames" if image.pixel_format == "RGB8" else f"{image.pixel_format} frames",
            received=f"{data.dtype} of shape {data.shape}",
            fix="set the camera's pixel format",
        )
    if image.hw != frame_hw:
        raise InspectionError(
            expected=f"a frame of {frame_hw[1]}x{frame_hw[0]}, for which the bundle was built",
            received=f"{image.hw[1]}x{image.hw[0]}",
            fix="set the camera to that size, or build a bundle from frames of this size",
        )
