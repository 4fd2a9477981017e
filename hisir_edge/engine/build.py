"""``build-engine``: a training run becomes a bundle. Reads as one sentence: export, quantise, threshold, write."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np

from hisir_edge import __version__
from hisir_edge.arrays import F32, U8
from hisir_edge.engine.bundle import (
    MANIFEST,
    MODEL,
    Manifest,
    RecipeModel,
    ThresholdModel,
    ZoneModel,
    load_bundle,
    replace_folder,
    write_manifest,
    write_memory,
    write_noise,
)
from hisir_edge.engine.calibrate import int8_from_onnx
from hisir_edge.engine.export import onnx_from_net
from hisir_edge.engine.load import engine_from_bundle
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.images import read_rgb
from hisir_edge.learn.appearance import add_sensor_noise
from hisir_edge.learn.corrupt import corrupt_tile
from hisir_edge.learn.memory import load_scaled
from hisir_edge.learn.run import RunRecord, check_pictures, load_memory
from hisir_edge.learn.spots import part_boxes
from hisir_edge.learn.thresholds import (
    AREAS_NETWORK_PX,
    Derived,
    block_peaks,
    check_rate,
    derived_from_peaks,
    logit_of_score,
    noise_from_peaks,
    peaks_by_area,
)
from hisir_edge.learn.train import trained_net
from hisir_edge.line.gain import Zone, inside_zone, noise_in_logits, noise_shape, sensitivity_map
from hisir_edge.line.inspect import Inspector
from hisir_edge.line.light import golden_light, light_of_frame, without_light
from hisir_edge.line.register import anchors_from_golden, register_frame, warp_by_matrix

Precision = Literal["fp32", "int8"]
OnStage = Callable[[str], None]

CALIBRATION_TILES = 96
TILES_PER_BOARD = 24
NOISE_BOARDS = 24


def build_bundle(
    run: Path,
    out: Path,
    precision: Precision,
    product: str,
    false_calls_per_board: float,
    zones: tuple[ZoneModel, ...] = (),
    on_stage: OnStage = lambda stage: None,
) -> Manifest:
    """Build a bundle from a run for ONNX Runtime; ``out`` is replaced only by a finished, loadable bundle."""
    check_rate(false_calls_per_board)
    record, net = trained_net(run)
    check_zones(zones, record)
    check_pictures(record)
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise InputError(
            expected="a new folder or an old bundle", received=f"{out} with other files", fix="choose another --out"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        on_stage("export ONNX")
        onnx_from_net(net, record.settings.tile_px, staged / MODEL)
        memory = load_memory(run)
        write_memory(staged, memory.mean_rgb, memory.deviation)
        write_noise(staged, np.zeros(noise_shape(memory.deviation.shape), np.uint8))
        manifest = _manifest(record, precision, product, false_calls_per_board, zones)
        if precision == "int8":
            on_stage("calibrate int8")
            _quantise(staged, record, manifest)
        on_stage("noise and thresholds from good boards")
        manifest = _with_thresholds(manifest, _thresholds(staged, record, manifest, false_calls_per_board))
        write_manifest(staged, manifest)
        load_bundle(staged)
        staged.chmod(0o755)
        replace_folder(staged, out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return manifest


def check_zones(zones: tuple[ZoneModel, ...], record: RunRecord) -> None:
    """InputError for a zone that covers no pixel of this run's frames: it would protect nothing."""
    h, w = record.frame_hw
    for zone in zones:
        if not inside_zone((h, w), 1.0, Zone(zone.name, zone.polygon, zone.sensitivity)).any():
            raise InputError(
                expected=f"zones that cover pixels of a frame of {w}x{h}",
                received=f"{zone.name}, which covers none",
                fix="draw the polygon on a photo of this camera",
            )


def _manifest(
    record: RunRecord, precision: Precision, product: str, rate: float, zones: tuple[ZoneModel, ...]
) -> Manifest:
    """A manifest with open thresholds (every score counts) until they are derived."""
    s = record.settings
    return Manifest(
        schema_version=2,
        product=product,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        software_version=__version__,
        target="onnxruntime",
        precision=precision,
        backbone=s.backbone,
        width=s.width,
        recipe=RecipeModel(
            frame_width=record.frame_hw[1],
            frame_height=record.frame_hw[0],
            scale=record.scale,
            tile_px=s.tile_px,
            overlap_px=s.overlap_px,
            registered=record.registered,
        ),
        thresholds=ThresholdModel(
            pixel=1.0,
            region_peak=1.0,
            min_area_px=1,
            false_calls_per_board=rate,
            false_calls_upper_bound_95=0.0,
            held_out_boards=len(record.held_out),
            boards_to_prove=1,
        ),
        zones=zones,
        files={},
    )


def _with_thresholds(manifest: Manifest, derived: Derived) -> Manifest:
    t = derived.thresholds
    values = {
        "pixel": t.pixel,
        "region_peak": t.region_peak,
        "min_area_px": t.min_area_px,
        "false_calls_upper_bound_95": derived.upper_bound,
        "boards_to_prove": derived.boards_to_prove,
    }
    return manifest.model_copy(update={"thresholds": manifest.thresholds.model_copy(update=values)})


def _quantise(staged: Path, record: RunRecord, manifest: Manifest) -> None:
    write_manifest(staged, manifest)
    memory = load_bundle(staged).memory_rgbd
    tiles, cues = _calibration_tiles(record, memory)
    quantised = staged / "int8.onnx"
    int8_from_onnx(staged / MODEL, tiles, cues, quantised)
    quantised.replace(staged / MODEL)


def _calibration_tiles(record: RunRecord, memory: U8) -> tuple[U8, U8]:
    """Tiles (n, 3, t, t) and cues (n, 4, t, t) from training boards, half of them corrupted."""
    t = record.settings.tile_px
    rng = np.random.default_rng([record.settings.seed, 4242])
    boxes = part_boxes(memory[..., :3], largest_px=int(t * 0.86))
    boards = -(-CALIBRATION_TILES // TILES_PER_BOARD)
    chosen = rng.permutation(len(record.train))[:boards]
    tiles, cues = [], []
    for number in chosen:
        frame = _golden_frame(Path(record.train[int(number)]), record, memory)
        for i in range(TILES_PER_BOARD):
            y, x = int(rng.integers(frame.shape[0] - t + 1)), int(rng.integers(frame.shape[1] - t + 1))
            tile = frame[y : y + t, x : x + t]
            if i % 2:
                inside = (boxes[:, :2] >= (x, y)).all(1) & (boxes[:, :2] + boxes[:, 2:] <= (x + t, y + t)).all(1)
                donor = np.roll(frame, (t // 2, t // 3), (0, 1))[y : y + t, x : x + t]
                tile = corrupt_tile(rng, tile, donor, boxes[inside] - np.array([x, y, 0, 0], np.int32)).tile
            tiles.append(add_sensor_noise(rng, tile).transpose(2, 0, 1))
            cues.append(memory[y : y + t, x : x + t].transpose(2, 0, 1))
    return np.stack(tiles), np.stack(cues)


def _golden_frame(path: Path, record: RunRecord, memory: U8) -> U8:
    frame = load_scaled(path, record.frame_hw, record.scale)
    if not record.registered:
        return frame
    golden = memory[..., :3]
    moved = warp_by_matrix(frame, register_frame(anchors_from_golden(golden), frame).matrix)
    return without_light(moved, light_of_frame(golden_light(golden), moved))


def _thresholds(staged: Path, record: RunRecord, manifest: Manifest, rate: float) -> Derived:
    """The very engine of this bundle on good boards: many show the noise, held-out ones set the thresholds."""
    write_manifest(staged, manifest)
    bundle = load_bundle(staged)
    inspector = Inspector(bundle, engine_from_bundle(bundle))
    noise = noise_from_peaks([block_peaks(_as_logits(_scores(inspector, path))) for path in _noise_boards(record)])
    write_noise(staged, noise)
    areas_px = tuple(round(area / record.scale**2) for area in AREAS_NETWORK_PX)
    hw = inspector.plan.frame_hw
    noisy, sensitivity = noise_in_logits(noise, hw), sensitivity_map(hw, record.scale, bundle.zones)
    peaks, zoned = [], []
    for path in record.held_out:
        scores = _scores(inspector, path).copy()
        # what zones hide is not to set the threshold of the rest; what they magnify is the engineer's own choice
        peaks.append(peaks_by_area(_as_logits(scores * np.minimum(sensitivity, 1)) - noisy, AREAS_NETWORK_PX))
        if (sensitivity > 1).any():
            zoned.append(peaks_by_area(_as_logits(scores * sensitivity) - noisy, AREAS_NETWORK_PX))
    return derived_from_peaks(peaks, rate, areas_px, zoned=zoned or None)


def _noise_boards(record: RunRecord) -> list[str]:
    """Held-out boards and as many training ones as keep the total at ``NOISE_BOARDS``."""
    rng = np.random.default_rng([record.settings.seed, 64])
    wanted = max(NOISE_BOARDS - len(record.held_out), 0)
    chosen = rng.permutation(len(record.train))[:wanted]
    return [*record.held_out, *(record.train[int(i)] for i in chosen)]


def _as_logits(scores: F32) -> F32:
    return np.asarray(logit_of_score(scores), np.float32)


def _scores(inspector: Inspector, path: str) -> F32:
    """Raw scores of a good board, valid until the next call; InputError names a board that cannot be inspected."""
    try:
        return inspector.golden_map(read_rgb(Path(path))).scores
    except InspectionError as error:
        raise InputError(
            expected=f"the good board {path} to be inspected",
            received=str(error),
            fix="remove the picture and train again",
        ) from error
