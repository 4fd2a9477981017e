"""The records that travel along the line; frozen, so that a stage can never change another's input."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from hisir_edge.arrays import F32, F64, I32, U8, Bool
from hisir_edge.images.pixels import Pixels

MAX_REGIONS = 256
"""The most that a judgement lists."""


class Result(str, Enum):
    """The outcome of one trigger. ERROR is never a PASS."""

    PASS = "PASS"
    FAIL = "FAIL"
    ERROR = "ERROR"


class Answer(str, Enum):
    """The answer to another machine's call: seen here too, not seen here, or a person has to look."""

    CONFIRMED = "confirmed"
    FALSE = "false"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A place of a board that another inspection machine called: box in pixels of the frame.

    ``kind`` and ``component``: what it says of it. ``truth``: ``real`` or ``false`` as a person has said, else empty.
    """

    id: str
    box_xywh: tuple[int, int, int, int]
    kind: str = ""
    component: str = ""
    truth: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A piece of a board's picture: upper left corner in pixels of the frame, and which calls lie on it.

    ``image``: None until it is read. ``moved`` (2, 3): pixels of the frame, as they came, to where it lies on the
    golden image, None: there; ``fault``: why it could not be laid there.
    """

    file: str
    calls: tuple[str, ...]
    at_xy: tuple[int, int]
    image: Pixels | None = field(default=None, repr=False)
    moved: F64 | None = field(default=None, repr=False, compare=False)
    fault: str = ""
    layer: int = 0
    """Crops that lie on each other are inspected one after the other, each layer as a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSheet:
    """Another machine's calls of one board, as a file delivered them. ``picture``: a file, empty where crops came.

    ``sha256``: of calls and pictures. ``is_named``: the calls say which ``unit`` it is, not the file's name alone.
    """

    delivery: str
    sha256: str
    unit: str = ""
    is_named: bool = False
    product: str = ""
    picture: str = ""
    calls: tuple[Call, ...] = ()
    crops: tuple[Crop, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredCall:
    """``score``: the strongest that was seen at the place, 1.0 is called; None where nothing was judged."""

    call: Call
    answer: Answer
    score: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One image of one board as the camera gave it; ``rgb``: uint8 (h, w, 3), made of it when it is asked for."""

    image: Pixels = field(repr=False)
    source: str
    frame_id: int
    unit: str
    grabbed_at_ns: int
    device_timestamp_ns: int | None = None
    white_share: float | None = None
    """The share of its components at 255, which may have been brighter than can be said; None: not counted."""
    more: tuple[Frame, ...] = field(default=(), repr=False)
    """Frames of further cameras that look at the same board."""
    sheet: CallSheet | None = None
    """Another machine's calls of this board, that wait for an answer."""
    layers: tuple[Pixels, ...] = field(default=(), repr=False)
    """Further images of the board, where its crops lie on each other."""

    @property
    def rgb(self) -> U8:
        """See above."""
        return self.image.rgb


@dataclass(frozen=True, slots=True, kw_only=True)
class GrabFault:
    """A frame that should have come but cannot be judged: lost, incomplete, unreadable, overrun."""

    source: str
    frame_id: int
    unit: str
    reason: str
    grabbed_at_ns: int
    boards: int | None = 1
    """Number of boards whose frames it stands for; None: unknown."""
    sheet: CallSheet | None = None
    """See ``Frame``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A defect: box in frame pixels, area, peak of the anomaly map (1.0 = pixel threshold), contour (n, 2).

    Where the region's mass is worth a higher peak (``bundle.thresholds.MassRule``), ``peak`` is that.

    ``view`` names the camera where several look at a board; pixels are that camera's. ``confidence``, 1 to 100: how
    rarely a good board shows such a peak (``inspection.locate``). ``component``: reference designator; ``box_mm``: x,
    y, w, h on the board, where the bundle knows them.
    """

    box_xywh: tuple[int, int, int, int]
    area_px: int
    peak: float
    contour_xy: tuple[tuple[int, int], ...] = field(repr=False)
    view: str = ""
    confidence: float = 100.0
    component: str = ""
    part_number: str = ""
    box_mm: tuple[float, float, float, float] | None = None
    call: str = ""
    """Of a call of another machine's that is unsure: its id; there is no mask of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Seconds spent per stage on one frame."""

    register_s: float = 0.0
    tile_s: float = 0.0
    infer_s: float = 0.0
    merge_s: float = 0.0
    judge_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardPose:
    """How a board lay: its middle and its turn against the golden image, in pixels of the frame.

    ``scale``: its size against the golden image's. ``inliers``: the patches of the golden image that agree with it,
    ``inlier_share`` of those that were looked for.
    """

    shift_x_px: float
    shift_y_px: float
    turn_deg: float
    scale: float
    inliers: int
    inlier_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """How a frame was taken: pixels of blur beyond the good boards', brightness against theirs, share of white.

    None where the board shows too few edges to say; ``white_share``: of the board's pixels those at 255.
    """

    blur_px: float | None
    brightness: float | None
    white_share: float


@dataclass(frozen=True, slots=True)
class OpticsFault:
    """What of a frame's optics is beyond the good boards': ``kind`` is blur, brightness or white."""

    kind: str
    words: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a judgement came from, so that it can be made again with other thresholds and zones, without a network.

    ``scores`` (n, 18, 18): raw scores of those regions of the scaled golden image that come near the pixel threshold,
    each with a rim of a pixel; ``cells_yx`` (n, 2): which regions of 16 x 16 px; ``highest`` (n,): the highest score of
    each, also beyond the image's edge. ``matrix`` (3, 3) and ``bend`` (rows,
    columns, 2): the pose of the camera's pixels on the scaled golden ones (``inspection.registration.pose.Pose``), None
    each where there is none.
    """

    cells_yx: I32 = field(repr=False)
    scores: F32 = field(repr=False)
    highest: F32 = field(repr=False)
    matrix: F64 | None = field(default=None, repr=False)
    bend: F32 | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The judgement of one board, without its sequence number.

    ``mask`` is frame-sized bool (None for ERROR); ``score`` is the highest peak (see ``Region``);
    ``regions_total`` counts what was found even where ``regions`` is cut to its limit.
    """

    result: Result
    reason: str
    score: float | None
    regions: tuple[Region, ...]
    regions_total: int
    mask: Bool | None = field(repr=False)
    times: StageTimes = StageTimes()
    registration_residual_px: float | None = None
    board_pose: BoardPose | None = None
    variants: tuple[int, ...] = ()
    """What the board shows at each place of the bundle where good boards differ."""
    optics: Optics | None = None
    warnings: tuple[OpticsFault, ...] = ()
    """What was unusual and did not make it an ERROR."""
    evidence: Evidence | None = field(default=None, repr=False)
    """Where the inspector was asked to keep it."""
    looked_share: float = 1.0
    """The share of the tiles that the whole network saw; the first look found nothing to look at in the others."""
    views: tuple[View, ...] = ()
    """One for each camera where several look at a board; then ``mask`` has theirs one below the other."""
    calls: tuple[AnsweredCall, ...] = ()
    """Another machine's calls of this board, answered."""
    elsewhere: int = 0
    """Regions that no call lies on."""


@dataclass(frozen=True, slots=True)
class View:
    """The judgement of one camera's frame, where several cameras look at a board."""

    source: str
    frame_id: int
    frame_hw: tuple[int, int]
    bundle_sha256: str
    judgement: Judgement = field(repr=False)
    white_share: float | None = None
    """See ``Frame``."""


def by_camera(item: Frame | GrabFault, judgement: Judgement) -> list[tuple[str, Judgement]]:
    """Each camera's name and its judgement of the board."""
    return [(view.source, view.judgement) for view in judgement.views] or [(item.source, judgement)]
