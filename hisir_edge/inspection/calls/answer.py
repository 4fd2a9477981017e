"""Answers to another machine's calls: confirmed, false, or unsure, which a person looks at.

False is said only where the whole place was judged and nothing on it comes near what would be called. Whatever else
there is, a place that zones leave out, a box beyond the picture, a board that was not judged, is unsure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hisir_edge.arrays import F64, Bool
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.geometry.box import BoxXYWH, meet
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.calls.crops import RIM_PX, moved_box
from hisir_edge.inspection.gain import Gain
from hisir_edge.inspection.locate import located
from hisir_edge.inspection.registration.pose import Pose
from hisir_edge.inspection.rops import KEPT_FROM
from hisir_edge.inspection.verdict import result_of
from hisir_edge.inspection.windows import PATCH_PX, pose_of_evidence
from hisir_edge.inspection.windows import RIM_PX as EVIDENCE_RIM_PX
from hisir_edge.mes.answers import NEAR
from hisir_edge.records import (
    MAX_REGIONS,
    Answer,
    AnsweredCall,
    Call,
    CallSheet,
    Crop,
    Evidence,
    Judgement,
    Region,
    Result,
)

EDGE_PX = 1e-3


@dataclass(frozen=True, slots=True)
class CallRules:
    """``false_below``: of what would be called; ``margin_px`` of the frame; ``elsewhere``: also other regions FAIL."""

    false_below: float
    margin_px: int
    elsewhere: bool


def answered(
    layers: Sequence[Judgement], sheet: CallSheet, rules: CallRules, gain: Gain, manifest: Manifest
) -> Judgement:
    """A board's judgement with each call answered; FAIL where a call is not false, or something else was found.

    ``layers``: the judgements of its frame, or of the frames that its crops make. An unsure call is one more region, so
    that it is shown where regions are: its box, its score, and no mask.
    """
    parts = [
        _answered(one, replace(sheet, calls=_calls_on(n, sheet)), rules, gain, manifest) for n, one in enumerate(layers)
    ]
    for part in parts:
        if part.result is Result.ERROR:
            return unanswered(part, sheet, part.reason)
    first, order = parts[0], [call.id for call in sheet.calls]
    calls = sorted((one for part in parts for one in part.calls), key=lambda one: order.index(one.call.id))
    if len(parts) == 1:
        return replace(first, calls=tuple(calls))
    regions = sorted((region for part in parts for region in part.regions), key=lambda region: -region.peak)
    total = sum(part.regions_total for part in parts)
    unsure, masks = sum(one.answer is Answer.UNSURE for one in calls), [p.mask for p in parts if p.mask is not None]
    return replace(
        first, result=result_of([total]), reason=_reason(total - unsure, unsure), calls=tuple(calls),
        regions=tuple(regions[:MAX_REGIONS]), regions_total=total, score=max(part.score or 0.0 for part in parts),
        mask=np.logical_or.reduce(masks), elsewhere=sum(part.elsewhere for part in parts),
    )  # fmt: skip


def _calls_on(layer: int, sheet: CallSheet) -> tuple[Call, ...]:
    """The calls that a layer answers: of a crop on it, or on none."""
    crops = {call.id: _crop_of(call, sheet) for call in sheet.calls}
    return tuple(call for call in sheet.calls if (0 if (crop := crops[call.id]) is None else crop.layer) == layer)


def _answered(judged: Judgement, sheet: CallSheet, rules: CallRules, gain: Gain, manifest: Manifest) -> Judgement:
    if judged.result is Result.ERROR or judged.mask is None:
        return unanswered(judged, sheet, judged.reason)
    hw = judged.mask.shape
    where = {call.id: _on_frame(call, sheet) for call in sheet.calls}
    within = {call.id: _within(call, sheet, hw) for call in sheet.calls}
    boxes = {call.id: _grown(where[call.id], rules.margin_px, within[call.id]) for call in sheet.calls}
    looked = _Looked(judged, gain, manifest)
    calls = tuple(
        looked.answer(
            call, _fault_of(call, sheet, where[call.id], within[call.id]), where[call.id], boxes[call.id], rules
        )
        for call in sheet.calls
    )
    mask = judged.mask
    touched = [any(_meets(region, box, mask) for box in boxes.values()) for region in judged.regions]
    others = judged.regions_total - sum(touched)
    if others and not rules.elsewhere and judged.regions_total == len(judged.regions):
        judged = _of_calls_alone(judged, touched)
    unsure = [_region_of(one, where[one.call.id], hw, manifest) for one in calls if one.answer is Answer.UNSURE]
    pose = None if judged.evidence is None else pose_of_evidence(judged.evidence)
    total = judged.regions_total + len(unsure)
    return replace(
        judged, result=result_of([total]), reason=_reason(judged.regions_total, len(unsure)),
        regions=(*judged.regions, *located(tuple(unsure), manifest, pose))[:MAX_REGIONS], regions_total=total,
        calls=calls, elsewhere=others,
    )  # fmt: skip


def unanswered(judged: Judgement, sheet: CallSheet, reason: str) -> Judgement:
    """A judgement under which every call is unsure."""
    calls = tuple(AnsweredCall(call=call, answer=Answer.UNSURE, score=None, reason=reason) for call in sheet.calls)
    return replace(judged, calls=calls)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was seen on a frame, and how what is seen is weighed."""

    judged: Judgement
    gain: Gain
    manifest: Manifest

    def answer(self, call: Call, fault: str, box: BoxXYWH, grown: BoxXYWH, rules: CallRules) -> AnsweredCall:
        """The answer to a call in a box of the frame; ``grown``: with its margin; ``fault``: why there is none."""
        mask, called_from = self.judged.mask, self.manifest.thresholds.region_peak
        if mask is None or (fault and not grown[2] * grown[3]):
            return AnsweredCall(call=call, answer=Answer.UNSURE, score=None, reason=fault or "no mask")
        peaks = [region.peak for region in self.judged.regions if _meets(region, grown, mask)]
        score = max(peaks) / called_from if peaks else None
        if self.judged.evidence is not None:
            seen = _highest(self.judged.evidence, grown, self.gain, self.manifest.recipe.scale)
            score = max(seen, float(KEPT_FROM), *peaks) / called_from
        if not fault and _piece(mask, grown).any():
            return AnsweredCall(call=call, answer=Answer.CONFIRMED, score=score)
        reason = fault or self._why_unsure(box, mask.shape)
        if not reason and score is not None and score < rules.false_below:  # a score that is no number is not below
            return AnsweredCall(call=call, answer=Answer.FALSE, score=score)
        return AnsweredCall(call=call, answer=Answer.UNSURE, score=score, reason=reason or NEAR)

    def _why_unsure(self, box: BoxXYWH, hw: tuple[int, ...]) -> str:
        """Why nothing can be said of a box (without its margin); empty: something can."""
        x, y, w, h = box
        if x < 0 or y < 0 or x + w > hw[1] or y + h > hw[0]:
            return "reaches beyond the picture"
        if self.judged.evidence is None:
            return "the board differs nearly everywhere"
        whole = _golden_box(box, pose_of_evidence(self.judged.evidence), self.manifest.recipe.scale)
        y0, y1, x0, x1 = _cut(whole, self.gain.hw)
        if whole != (y0, y1, x0, x1):
            return "reaches beyond what was inspected of the board"
        return "" if (self.gain.window(y0, y1, x0, x1) > 0).all() else "lies where nothing is inspected"


def _highest(evidence: Evidence, box: BoxXYWH, gain: Gain, scale: float) -> float:
    """The highest calibrated score in a box of the frame; 0 where nothing of it came near. NaN where a score is."""
    y0, y1, x0, x1 = _cut(_golden_box(box, pose_of_evidence(evidence), scale), gain.hw)
    best = 0.0
    inner = slice(EVIDENCE_RIM_PX, PATCH_PX - EVIDENCE_RIM_PX)
    for (row, column), scores in zip(evidence.cells_yx.tolist(), evidence.scores, strict=True):
        top, left = row * REGION_PX, column * REGION_PX
        ya, yb, xa, xb = max(y0, top), min(y1, top + REGION_PX), max(x0, left), min(x1, left + REGION_PX)
        if ya >= yb or xa >= xb:
            continue
        piece = scores[inner, inner][ya - top : yb - top, xa - left : xb - left] * gain.window(ya, yb, xa, xb)
        best = float(np.maximum(best, piece.max()))  # keeps what is no number
    return best


def _golden_box(box: BoxXYWH, pose: Pose | None, scale: float) -> tuple[int, int, int, int]:
    """y0, y1, x0, x1 on the scaled golden image and beyond it: the upright box around a box of the frame."""
    x, y, w, h = box
    corners: F64 = np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]], np.float64) - 0.5
    on_golden = (corners + 0.5) * scale if pose is None else pose.to_golden(corners) + 0.5
    # what lies on an edge but for rounding lies on it
    (left, top) = np.floor(on_golden.min(0) + EDGE_PX).astype(int)
    (right, bottom) = np.ceil(on_golden.max(0) - EDGE_PX).astype(int)
    return int(top), int(bottom), int(left), int(right)


def _cut(box: tuple[int, int, int, int], hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """What of a box lies on the golden image."""
    y0, y1, x0, x1 = box
    return max(y0, 0), min(y1, hw[0]), max(x0, 0), min(x1, hw[1])


def _on_frame(call: Call, sheet: CallSheet) -> BoxXYWH:
    """A call's box where it lies on the frame that was inspected: crops are moved to their places."""
    crop = _crop_of(call, sheet)
    return call.box_xywh if crop is None else moved_box(call.box_xywh, crop)


def _crop_of(call: Call, sheet: CallSheet) -> Crop | None:
    return next((crop for crop in sheet.crops if call.id in crop.calls), None)


def _fault_of(call: Call, sheet: CallSheet, box: BoxXYWH, within: BoxXYWH) -> str:
    """What is wrong with a call's crop: that it could not be laid, or that the call reaches beyond it."""
    crop = _crop_of(call, sheet)
    if crop is None or crop.fault:
        return "" if crop is None else crop.fault
    inside = box[0] >= within[0] and box[1] >= within[1]
    inside = inside and box[0] + box[2] <= within[0] + within[2] and box[1] + box[3] <= within[1] + within[3]
    return "" if inside else f"reaches to the edge of its crop, or beyond it: {RIM_PX} px of that are not looked at"


def _within(call: Call, sheet: CallSheet, hw: tuple[int, ...]) -> BoxXYWH:
    """Where a call may be looked for: in the frame, or in its crop without its rim."""
    crop = _crop_of(call, sheet)
    if crop is None:
        return 0, 0, hw[1], hw[0]
    if crop.image is None or crop.fault:
        return 0, 0, 0, 0
    h, w = crop.image.hw
    x, y, w, h = moved_box((*crop.at_xy, w, h), crop)
    return x + RIM_PX, y + RIM_PX, w - 2 * RIM_PX, h - 2 * RIM_PX


def _grown(box: BoxXYWH, margin_px: int, within: BoxXYWH) -> BoxXYWH:
    x0, y0 = max(box[0] - margin_px, within[0]), max(box[1] - margin_px, within[1])
    x1 = min(box[0] + box[2] + margin_px, within[0] + within[2])
    y1 = min(box[1] + box[3] + margin_px, within[1] + within[3])
    return x0, y0, max(x1 - x0, 0), max(y1 - y0, 0)


def _piece(mask: Bool, box: BoxXYWH) -> Bool:
    x, y, w, h = box
    return mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]


def _meets(region: Region, box: BoxXYWH, mask: Bool) -> bool:
    """Whether something of a region lies in a box."""
    if not meet(region.box_xywh, box):
        return False
    (ax, ay, aw, ah), (bx, by, bw, bh) = region.box_xywh, box
    x0, y0, x1, y1 = max(ax, bx), max(ay, by), min(ax + aw, bx + bw), min(ay + ah, by + bh)
    return bool(_piece(mask, (x0, y0, x1 - x0, y1 - y0)).any())


def _of_calls_alone(judged: Judgement, touched: list[bool]) -> Judgement:
    """Without the regions that no call lies on."""
    kept = tuple(region for region, is_called in zip(judged.regions, touched, strict=True) if is_called)
    mask: Bool = np.zeros_like(judged.mask)
    if kept and judged.mask is not None:
        _, labels = cv2.connectedComponents(judged.mask.astype(np.uint8), connectivity=8)
        numbers = {int(labels[region.contour_xy[0][1], region.contour_xy[0][0]]) for region in kept} - {0}
        mask = np.isin(labels, list(numbers))
    score = max((region.peak for region in kept), default=0.0)
    return replace(judged, regions=kept, regions_total=len(kept), mask=mask, score=score)


def _region_of(one: AnsweredCall, box: BoxXYWH, hw: tuple[int, ...], manifest: Manifest) -> Region:
    """A call as a region, cut to the frame; of one that lies beyond it the nearest pixel."""
    x, y = min(max(box[0], 0), hw[1] - 1), min(max(box[1], 0), hw[0] - 1)
    w, h = max(min(box[0] + box[2], hw[1]) - x, 1), max(min(box[1] + box[3], hw[0]) - y, 1)
    corners = ((x, y), (x + w - 1, y), (x + w - 1, y + h - 1), (x, y + h - 1))
    peak = (one.score or 0.0) * manifest.thresholds.region_peak
    return Region(box_xywh=(x, y, w, h), area_px=w * h, peak=peak, contour_xy=corners, call=one.call.id)


def _reason(regions: int, unsure: int) -> str:
    parts = [f"{regions} region(s)"] * bool(regions) + [f"{unsure} call(s) unsure"] * bool(unsure)
    return "; ".join(parts)
