"""Verdicts as the line makes them, and what they say."""

from __future__ import annotations

import time

import numpy as np

from hisir_edge.images.pixels import Pixels
from hisir_edge.line.sockets.message import Provenance, VerdictMessage, message_from_judgement
from hisir_edge.mes import Verdict
from hisir_edge.records import Frame, Judgement, Region, Result

RESULT = {"Passed": "PASS", "Failed": "FAIL", "Error": "ERROR"}


def facts(body: dict) -> dict:
    """What a message says, whatever its schema: ``seq``, ``unit``, ``result``, ``reason`` and so on."""
    v = Verdict(topic="", text=b"", mask=b"", body=body)
    views = [
        {"source": one["InspectionName"], "result": RESULT[one["Result"]]}
        for one in body["InspectedUnits"][0]["Inspections"]
    ]
    return {
        "epoch": v.epoch, "seq": v.seq, "unit": v.unit, "result": v.result, "reason": v.reason, "product": v.product,
        "bundle_sha256": v.bundle_sha256, "score": v.score, "defects": v.defects, "views": views,
        "grabbed_at": body["InspectedUnits"][0]["Inspections"][0]["vision"]["grabbed_at"], "frame_id": v.frame_id,
        "frame_wh": v.frame_wh, "warnings": v.warnings,
        "optics": body["InspectedUnits"][0]["Inspections"][0]["vision"].get("optics"),
    }  # fmt: skip


def sample_message(
    seq: int, epoch: str = "0" * 32, fails: bool = False, unit: str = "", line: str = "l"
) -> VerdictMessage:
    """A message as the line makes them, of a frame of 8x6."""
    region = Region(
        box_xywh=(1, 2, 3, 2), area_px=6, peak=2.0, contour_xy=((1, 2), (3, 2), (3, 3), (1, 3)), confidence=97.5
    )
    mask = np.zeros((6, 8), bool)
    mask[2:4, 1:4] = fails
    found = (region,) if fails else ()
    reason = "1 region(s)" if fails else ""
    score = 2.0 if fails else 0.5
    judgement = Judgement(
        result=Result.FAIL if fails else Result.PASS,
        reason=reason,
        score=score,
        regions=found,
        regions_total=len(found),
        mask=mask,
    )
    frame = Frame(
        image=Pixels(np.zeros((6, 8, 3), np.uint8)),
        source="cam",
        frame_id=seq,
        unit=unit or f"unit-{seq}",
        grabbed_at_ns=time.time_ns(),
    )
    return message_from_judgement(
        Provenance(line=line, epoch=epoch, product="p", bundle_sha256="a" * 64), seq, frame, judgement
    )
