"""Pictures for people: the frame with its defects marked."""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import U8, u8
from hisir_edge.images import jpeg_bytes
from hisir_edge.records import Frame, Judgement, Result

COLOURS = {Result.PASS: (40, 190, 80), Result.FAIL: (230, 40, 40), Result.ERROR: (240, 160, 20)}


def overlay_jpeg(frame_rgb: U8, judgement: Judgement, title: str) -> bytes:
    """The frame with the mask tinted, every region boxed and named, and the result in the corner."""
    return jpeg_bytes(_drawn(frame_rgb, judgement, title), quality=85)


def _drawn(frame_rgb: U8, judgement: Judgement, title: str) -> U8:
    picture = frame_rgb.copy()
    colour = COLOURS[judgement.result]
    if judgement.mask is not None and judgement.mask.any():
        for region in judgement.regions:
            x, y, w, h = region.box_xywh
            inside = judgement.mask[y : y + h, x : x + w]
            piece = picture[y : y + h, x : x + w]
            piece[inside] = (piece[inside] * 0.5 + np.array(colour) * 0.5).astype(np.uint8)
    unit = max(picture.shape[:2]) / 2000
    thick = max(1, round(2 * unit))
    for number, region in enumerate(judgement.regions, 1):
        _mark(picture, region.box_xywh, f"{number}: {region.peak:.1f}", colour, unit, thick)
    reason = judgement.reason if len(judgement.reason) < 90 else judgement.reason[:87] + "..."
    label = f"{judgement.result.value}  {title}  {reason}"
    cv2.rectangle(picture, (0, 0), (picture.shape[1], round(44 * unit)), (16, 16, 18), -1)
    cv2.putText(
        picture, label, (round(12 * unit), round(32 * unit)), cv2.FONT_HERSHEY_SIMPLEX, unit, colour, thick, cv2.LINE_AA
    )
    return u8(picture)


def overlay_of_views_jpeg(frame: Frame, judgement: Judgement) -> bytes:
    """As ``overlay_jpeg``; of several views one picture, one below the other."""
    if not judgement.views:
        return overlay_jpeg(frame.rgb, judgement, frame.unit)
    pictures = [
        _drawn(one.rgb, view.judgement, f"{frame.unit} {view.source}")
        for one, view in zip((frame, *frame.more), judgement.views, strict=True)
    ]
    width = max(picture.shape[1] for picture in pictures)
    padded = [np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0))) for picture in pictures]
    return jpeg_bytes(np.concatenate(padded), quality=85)


def _mark(
    picture: U8, box: tuple[int, int, int, int], text: str, colour: tuple[int, int, int], unit: float, thick: int
) -> None:
    x, y, w, h = box
    pad = round(8 * unit) + 2
    cv2.rectangle(picture, (x - pad, y - pad), (x + w + pad, y + h + pad), colour, thick, cv2.LINE_AA)
    at = (max(x - pad, 0), y - pad - 4 if y > 60 * unit else y + h + pad + round(20 * unit))
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6 * unit, (255, 255, 255), thick + 2, cv2.LINE_AA)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6 * unit, colour, thick, cv2.LINE_AA)
