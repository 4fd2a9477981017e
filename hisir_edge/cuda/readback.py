"""Data that comes back from the GPU, and measurements before a frame goes there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import structlog

from hisir_edge.arrays import F32, F64, I64, U8, Bool, u8
from hisir_edge.cuda.reference import fixed_point
from hisir_edge.geometry.tile import REGION_PX, TilePlan, scaled_hw
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.gain import Gain
from hisir_edge.inspection.light import (
    SAMPLE_EACH_PX,
    SAMPLE_FIRST_PX,
    GoldenLight,
    gains_from_light,
    is_sampled,
    light_of_frame,
    light_of_samples,
    tables_of_gains,
)
from hisir_edge.inspection.memory.variants import Crop
from hisir_edge.inspection.registration.pose import Pose, pose_from_affine, positions, scaling, straightened
from hisir_edge.inspection.windows import MOST_WINDOWS, Box, apart, evidence_of_map
from hisir_edge.records import Evidence

log = structlog.get_logger()


def windows_of_bits(bits: U8, frame_hw: tuple[int, int]) -> list[Box]:
    """Boxes around what is set in a mask of bits (h, ceil(w / 8)): none cuts a region, and no two touch."""
    h, w = frame_hw
    if not bits.any():
        return []
    rows, columns = -(-h // REGION_PX), -(-w // REGION_PX)
    padded = np.zeros((rows * REGION_PX, columns * 2), np.uint8)
    padded[:h, : bits.shape[1]] = bits
    cells = u8(padded.reshape(rows, REGION_PX, columns, 2).max((1, 3)) > 0)
    count, _, stats, _ = cv2.connectedComponentsWithStats(cells, connectivity=8)
    boxes = []
    for x, y, wide, high, _ in stats[1:count].tolist():
        bottom, right = min((y + high) * REGION_PX, h), min((x + wide) * REGION_PX, w)
        boxes.append((y * REGION_PX, bottom, x * REGION_PX, right))
    if len(boxes) > MOST_WINDOWS:
        tops, bottoms, lefts, rights = zip(*boxes, strict=True)
        boxes = [(min(tops), max(bottoms), min(lefts), max(rights))]
    return [frame for _, frame in apart(boxes, frame_hw, None, frame_hw)]


def rows_of(windows: list[Box], height: int) -> Bool:
    """The rows (h,) of a frame that windows cover."""
    rows: Bool = np.zeros(height, np.bool_)
    for y0, y1, _, _ in windows:
        rows[y0:y1] = True
    return rows


def scored_windows(windows: list[Box], bits: U8, values: F32) -> list[tuple[int, int, F32]]:
    """Windows (y, x, scores) of the scores (h, w) where a bit (h, ceil(w / 8)) is set, 0 elsewhere."""
    found = []
    for y0, y1, x0, x1 in windows:
        inside = np.unpackbits(bits[y0:y1, x0 // 8 : -(-x1 // 8)], axis=1)[:, : x1 - x0]
        found.append((y0, x0, np.where(inside > 0, values[y0:y1, x0:x1], np.float32(0))))
    return found


def windows_in_frame(
    windows: list[tuple[int, int, F32]], pose: Pose, scale: float, frame_hw: tuple[int, int]
) -> list[tuple[int, int, F32]]:
    """Windows (y, x, scores, 0 below 1) of a straightened frame as windows of the frame that it was made of.

    ``pose``: the camera's pixels -> golden, scaled ones. Each pixel takes the score of the nearest one.
    """
    straight = np.zeros(frame_hw, np.float32)
    boxes = []
    for y, x, window in windows:
        h, w = window.shape
        straight[y : y + h, x : x + w] = window
        edges = [(side - 0.5) * scale - 0.5 for side in (y, y + h, x, x + w)]
        top, bottom, left, right = np.floor(edges[0]), np.ceil(edges[1]) + 1, np.floor(edges[2]), np.ceil(edges[3]) + 1
        gh, gw = scaled_hw(frame_hw, scale)
        boxes.append((max(int(top), 0), min(int(bottom), gh), max(int(left), 0), min(int(right), gw)))
    out = []
    for _, box in apart(boxes, scaled_hw(frame_hw, scale), pose, frame_hw):
        where = (positions(pose.to_golden, box) + np.float32(0.5)) / np.float32(scale) - np.float32(0.5)
        window = cv2.remap(straight, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        out.append((box[0], box[2], np.asarray(window, np.float32)))
    return out


def fixed_matrices(pose: Pose | None, scale: float) -> tuple[I64, I64]:
    """In the kernels' fixed point: golden pixels -> those that cross, and the camera's pixels -> golden ones.

    ``pose``: an affine one of the frame scaled by ``scale``, None: it is straight.
    """
    to_frame = np.array([[1.0, 0, 0], [0, 1.0, 0]]) if pose is None else cv2.invertAffineTransform(pose.affine)
    to_golden = scaling(scale) if pose is None else pose.of_frame(scaling(scale)).affine
    return fixed_point(np.asarray(to_frame, np.float64)), fixed_point(np.asarray(to_golden, np.float64))


def crop_of_frame(work: Pixels, pose: Pose | None) -> Crop:
    """Crops of the straightened frame, each made by itself; ``pose``: an affine one, None: the frame is straight."""

    def crop(box_xywh: tuple[int, int, int, int]) -> U8:
        x, y, w, h = box_xywh
        corners = np.array([(x, y), (x + w, y), (x, y + h), (x + w, y + h)], np.float64)
        on_frame = corners if pose is None else pose.to_frame(corners)
        # of the frame as it came no more than the box, with room for a mosaic's neighbours
        (left, top), (right, bottom) = np.floor(on_frame.min(0)) - 4, np.ceil(on_frame.max(0)) + 4
        left, top = int(np.clip(left, 0, work.hw[1] - 2)) // 2 * 2, int(np.clip(top, 0, work.hw[0] - 2)) // 2 * 2
        piece = work.data[top : max(int(bottom), top + 2), left : max(int(right), left + 2)]
        to_golden = np.eye(3) if pose is None else pose.matrix
        from_piece = np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1.0]])
        to_box = np.array([[1.0, 0, -x], [0, 1.0, -y], [0, 0, 1.0]])
        return straightened(Pixels(piece, work.pixel_format).rgb, Pose(to_box @ to_golden @ from_piece), (h, w))

    return crop


def light_planes(light: GoldenLight, plan: TilePlan, work: Pixels, pose: Pose | None) -> F64:
    """Log gain planes (3, 3) of a frame's light, as on a CPU, but from few of its pixels.

    ``pose``: an affine one; None: the frame is straight.
    """
    pose = pose_from_affine(np.array([[1.0, 0, 0], [0, 1.0, 0]])) if pose is None else pose
    if is_sampled(plan.frame_hw):
        return light_of_samples(light, light_samples(work, pose.affine))
    return light_of_frame(light, straightened(work.rgb, pose, plan.frame_hw))


def light_tables(planes: F64, plan: TilePlan) -> U8:
    """Per tile the tables that take a frame's light out."""
    return tables_of_gains(gains_from_light(plan, planes))


def light_samples(work: Pixels, matrix: F64) -> U8:
    """The registered frame, RGB, at the pixels by which light is measured; ``matrix``: frame -> golden pixels."""
    (h, w), each, first = work.hw, SAMPLE_EACH_PX, SAMPLE_FIRST_PX
    size = (-(-(w - first) // each), -(-(h - first) // each))
    to_samples: Any = np.array([[1 / each, 0, -first / each], [0, 1 / each, -first / each]])
    whole: Any = to_samples @ np.vstack([matrix, (0.0, 0.0, 1.0)])
    picture = work.half_rgb() if work.is_mosaic else work.data
    if work.is_mosaic:  # pixel x of the half picture lies at 2 x + 0.5
        whole = whole @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    out = u8(cv2.warpAffine(picture, whole, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return out if work.is_mosaic else Pixels(out, work.pixel_format).rgb


def evidence_of_padded(fetch: Callable[[], F32], plan: TilePlan, gain: Gain, pose: Pose | None) -> Evidence | None:
    """What a judgement came from (``evidence_of_map``), of the whole map (padded h, padded w) of raw scores.

    None where it cannot be fetched: it is kept beside a verdict, never instead of one. What is wrong with the GPU the
    next frame will show.
    """
    try:
        whole = fetch()
        h, w = plan.frame_hw
        rows, columns = (side // REGION_PX for side in whole.shape)
        cell_max: F32 = whole.reshape(rows, REGION_PX, columns, REGION_PX).max((1, 3))
        return evidence_of_map(whole[:h, :w], cell_max[: gain.most.shape[0], : gain.most.shape[1]], gain, pose)
    except Exception as error:
        log.warning("no evidence of a frame", reason=f"{type(error).__name__}: {error}")
        return None
