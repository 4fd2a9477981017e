"""Where on the board a region lies, which part that is, and how sure it is that a good board would not show it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hisir_edge.bundle.manifest import ComponentModel, Manifest
from hisir_edge.inspection.registration.pose import Pose
from hisir_edge.inspection.score import logit_of_score
from hisir_edge.records import Region

LEAST_CONFIDENCE, MOST_CONFIDENCE = 1.0, 100.0


def located(regions: tuple[Region, ...], manifest: Manifest, pose: Pose | None) -> tuple[Region, ...]:
    """The regions with their confidence and, as far as the bundle knows, component and millimetres.

    ``pose``: the camera's pixels -> golden, scaled ones; None where they are the same.
    """
    out = []
    for region in regions:
        x, y, w, h = _on_golden(region.box_xywh, pose, manifest.recipe.scale)
        part = _part_at(manifest.components, x, y, w, h)
        mm = manifest.mm_per_px
        out.append(
            replace(
                region, confidence=confidence_of(region.peak, manifest),
                component=part.designator if part else "", part_number=part.part_number if part else "",
                box_mm=(x * mm, y * mm, w * mm, h * mm) if mm else None,
            )
        )  # fmt: skip
    return tuple(out)


def confidence_of(peak: float, manifest: Manifest) -> float:
    """1 to 100: the chance that a good board shows no region with this peak or a higher one.

    From the false calls a board at the threshold, thinned along the tail of the good boards' peaks that the thresholds
    were derived from (``learn.thresholds``), as a Poisson count. Not the chance that it is a defect, which depends on
    how many boards are defective.
    """
    t = manifest.thresholds
    beyond = float(logit_of_score(peak * t.pixel) - logit_of_score(t.region_peak * t.pixel))
    rate = t.false_calls_per_board * np.exp(-max(beyond, 0.0) / t.tail_scale_logits)
    return round(float(np.clip(100 * np.exp(-rate), LEAST_CONFIDENCE, MOST_CONFIDENCE)), 1)


def _on_golden(box: tuple[int, int, int, int], pose: Pose | None, scale: float) -> tuple[float, float, float, float]:
    """A box of the camera's frame as the upright box around it on the golden image, in unscaled pixels."""
    x, y, w, h = box
    if pose is None:
        return float(x), float(y), float(w), float(h)
    # edges, not pixel centres: half a pixel before the first, half a pixel behind the last
    corners = np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]]) - 0.5
    on_golden = (pose.to_golden(corners) + 0.5) / scale
    (left, top), (right, bottom) = on_golden.min(0), on_golden.max(0)
    return float(left), float(top), float(right - left), float(bottom - top)


def _part_at(parts: tuple[ComponentModel, ...], x: float, y: float, w: float, h: float) -> ComponentModel | None:
    """The part that a box shares most with; of those that it shares as much with, the smallest."""

    def shared(part: ComponentModel) -> float:
        across = min(x + w, part.x + part.width) - max(x, part.x)
        down = min(y + h, part.y + part.height) - max(y, part.y)
        return max(across, 0.0) * max(down, 0.0)

    best = max(parts, key=lambda part: (shared(part), -part.width * part.height), default=None)
    return best if best is not None and shared(best) > 0 else None
