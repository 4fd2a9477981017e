"""``manifest.json`` of a bundle: what it holds, how it was made, and what it may be run with. Schema version 4.

``docs/reference/bundle.schema.json`` is the published JSON Schema, made from these classes by ``make schema``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hisir_edge.bundle.metrics import MetricsModel
from hisir_edge.bundle.revised import ReviewedModel, RevisionModel
from hisir_edge.bundle.variants import MOST_PLACES, PlaceModel
from hisir_edge.images.header import MAX_SIDE_PX
from hisir_edge.registry import TARGETS

SCHEMA_VERSION = 4
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]
UNSEALED = "0" * 64
DEFAULT_MAX_DROP = 0.005

if TYPE_CHECKING:
    Target = str
else:
    Target = Literal[tuple(TARGETS)]


Coordinate = Annotated[float, Field(ge=-32768, le=32768)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RecipeModel(_Record):
    """How frames are cut for this network; sizes in pixels."""

    frame_width: int = Field(gt=0, le=MAX_SIDE_PX)
    frame_height: int = Field(gt=0, le=MAX_SIDE_PX)
    scale: float = Field(gt=0, le=4)
    tile_px: int = Field(gt=0, le=4096)
    overlap_px: int = Field(ge=0)
    registered: bool
    locate: Literal["fixture", "anywhere"] = Field(
        default="fixture", description="how a registered board is found: nearly in place, or anywhere in the frame"
    )
    board_area: tuple[tuple[Coordinate, Coordinate], ...] | None = Field(
        default=None, min_length=3, max_length=256, description="polygon around the board, golden pixels; null: all"
    )
    levels: tuple[int, int] | None = Field(
        default=None,
        description="black and white level of the camera that became 0 and 255; null: all that its format can say",
    )
    grey: bool | None = Field(
        default=None, description="whether the photos were grey, and frames have to be; null: not recorded"
    )


class NotCountedModel(_Record):
    """A place that one good board alone shows: box in golden-image pixels of the camera's frame.

    ``strength`` is its region's, in units of the region threshold.
    """

    picture: str = Field(max_length=255)
    x: Coordinate
    y: Coordinate
    width: float = Field(gt=0, le=32768)
    height: float = Field(gt=0, le=32768)
    strength: float = Field(ge=0)


class ThresholdModel(_Record):
    """The thresholds between PASS and FAIL, and the boards that they were derived from."""

    pixel: float = Field(gt=0)
    region_peak: float = Field(ge=1)
    min_area_px: int = Field(ge=1)
    false_calls_per_board: float = Field(gt=0)
    false_calls_upper_bound_95: float = Field(ge=0)
    held_out_boards: int = Field(ge=1)
    boards_to_prove: int = Field(ge=1)
    tail_scale_logits: float = Field(default=1.0, gt=0, description="peaks of good boards thin by e every so much")
    mass_logits_per_root: float | None = Field(
        default=None, gt=0, description="peak, in logits, that the root of a region's mass is worth; null: nothing"
    )
    mass_logits_at_none: float = Field(default=0.0, description="the same at no mass at all")
    not_counted: tuple[NotCountedModel, ...] = Field(
        default=(), description="what one good board alone showed: no threshold comes from it"
    )


class OpticsPlaceModel(_Record):
    """A place at which frames are measured, golden-image pixels of the camera's frame, and what good boards show."""

    x: Coordinate
    y: Coordinate
    fineness: float = Field(description="logarithm of the ratio of gradient energies, of the picture and blurred")
    strength: float = Field(description="logarithm of the blurred picture's gradient energy over the level's square")
    level: float = Field(description="logarithm of the mean grey level")


class BlurModel(_Record):
    """How much the good boards drop in a measure when they are blurred by a Gaussian of ``blur_px``, camera pixels."""

    blur_px: float = Field(gt=0)
    drop: float = Field(gt=0)


class OpticsModel(_Record):
    """How good boards were taken, and how far a frame may be from that: beyond ``most_`` and ``least_`` is a warning.

    Blur is in pixels of the camera, beyond the good boards'; null where they show too few edges to say. Brightness is
    a ratio to the good boards', white the share of the board at 255.
    """

    places: tuple[OpticsPlaceModel, ...] = Field(default=(), max_length=256)
    blur: tuple[BlurModel, ...] = Field(default=(), max_length=32, description="of fineness, as far as it falls")
    weakening: tuple[BlurModel, ...] = Field(default=(), max_length=32, description="of strength")
    most_weaker: float = Field(default=0.0, ge=0, description="drop of strength that good boards show themselves")
    most_blur_px: float | None = Field(default=None, gt=0)
    lost_blur_px: float | None = Field(default=None, gt=0, description="beyond it a board is not judged")
    least_brightness: float = Field(gt=0)
    most_brightness: float = Field(gt=0)
    most_white_share: float = Field(ge=0, le=1)
    boards: int = Field(ge=1, description="good boards that it comes from")


class ZoneModel(_Record):
    """A named polygon in golden-image pixels of the camera's frame; sensitivity 0 ignores it, 2 alarms at half.

    ``outside``: the zone is all that the polygon leaves out, such as what lies off the board.
    """

    name: str = Field(min_length=1, max_length=64)
    polygon: tuple[tuple[Coordinate, Coordinate], ...] = Field(min_length=3, max_length=256)
    sensitivity: float = Field(ge=0, le=100)
    outside: bool = False


class ComponentModel(_Record):
    """A part of the board: upright box in golden-image pixels of the camera's frame."""

    designator: str = Field(min_length=1, max_length=64)
    x: Coordinate
    y: Coordinate
    width: float = Field(gt=0, le=32768)
    height: float = Field(gt=0, le=32768)
    part_number: str = Field(default="", max_length=64)


class TensorModel(_Record):
    """An input or output of a compiled engine; -1 stands for the number of tiles."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class EngineModel(_Record):
    """A compiled TensorRT engine and all that it is bound to."""

    file: str
    version: str
    gpu_arch: tuple[str, ...]
    gpu: str
    driver: str
    profile_tiles: tuple[int, int, int]
    version_compatible: bool
    hardware_compatible: str
    inputs: tuple[TensorModel, ...]
    outputs: tuple[TensorModel, ...]
    network_layers: dict[str, int]


class CalibrationModel(_Record):
    """Calibration of int8; ``calibration.json`` in the bundle has the list, every range and every layer's cost."""

    method: str
    images: int = Field(ge=1)
    list_sha256: Sha256
    tiles: int = Field(ge=1)
    method_errors: dict[str, float]
    kept_float: tuple[str, ...]
    int8_convolutions: int = Field(ge=0)
    float_convolutions: int = Field(ge=0)


class JudgedOnModel(_Record):
    """The machine that the acceptance gate ran on; other processors may round 8-bit products otherwise."""

    onnxruntime: str
    int8_instructions: str


class CascadeModel(_Record):
    """The first look, ``first_look.onnx``, and what it was proven on: planted defects that the whole network calls.

    The whole network sees tiles where ``look_from`` times the region threshold or more is expected, there or beside.
    """

    look_from: float = Field(gt=0, le=1)
    most_residual_px: float = Field(ge=0, description="frames that are registered worse are looked at everywhere")
    boards: int = Field(ge=1, description="good boards that it was proven on, with planted defects")
    planted: int = Field(ge=1, description="planted defects")
    called: int = Field(ge=1, description="of these, that the whole network calls")
    called_by_class: dict[str, int]
    waved: Literal[0] = Field(description="called defects that would be lost")
    waved_upper_bound_95: float = Field(gt=0, le=1, description="share of them, with 95 % confidence")
    looked_share_good: float = Field(ge=0, le=1, description="share of good boards' tiles that are looked at")


class PlantModel(_Record):
    """A planted defect of the self-test, in frame pixels: a patch of the picture copied to where it does not belong.

    ``negative``: its colours turned over (255 - value) as well, which no board shows.
    """

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    from_x: int = Field(ge=0)
    from_y: int = Field(ge=0)
    negative: bool = False


class SelfTestModel(_Record):
    """The self-test before the daemon is ready: ``image`` must PASS, and FAIL at every one of ``plants``."""

    image: str
    plants: tuple[PlantModel, ...] = Field(min_length=1, max_length=16)


class Manifest(_Record):
    """``manifest.json``, schema version 4.

    ``seal_sha256``: hash of everything else in the file (``bundle.integrity.seal_of``), so that a value changed by hand
    or by a bad disk is noticed.
    """

    schema_version: Literal[4]
    product: str
    created_at: str
    software_version: str
    target: Target
    precision: Literal["fp32", "fp16", "int8"]
    backbone: str
    width: int
    recipe: RecipeModel
    thresholds: ThresholdModel
    zones: tuple[ZoneModel, ...] = ()
    variants: tuple[PlaceModel, ...] = Field(
        default=(), max_length=MOST_PLACES, description="places where good boards differ; pictures: variants.png"
    )
    mm_per_px: float | None = Field(default=None, gt=0, le=100)
    components: tuple[ComponentModel, ...] = Field(default=(), max_length=20000)
    engine: EngineModel | None = None
    calibration: CalibrationModel | None = None
    metrics: MetricsModel | None = None
    optics: OpticsModel | None = None
    judged_on: JudgedOnModel | None = None
    self_test: SelfTestModel
    cascade: CascadeModel | None = Field(default=None, description="null: the whole network sees every tile")
    reviewed: ReviewedModel | None = Field(default=None, description="null: trained without reviewed boards")
    revision: RevisionModel | None = Field(default=None, description="null: as it was built")
    files: dict[FileName, Sha256]
    seal_sha256: Sha256 = UNSEALED
