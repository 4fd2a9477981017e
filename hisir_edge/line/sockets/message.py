"""Verdicts as they go over the wire: schema 2, in the shape of IPC-CFX's UnitsInspected, and what vision adds to it.

CFX-shaped, not CFX: the names and the nesting are those of CFX.Production.TestAndInspection.UnitsInspected and of the
structures in it (https://www.ipc-cfx.org), so that a gateway maps field by field. Objects named ``vision`` are ours.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from typing import Any

from hisir_edge.bundle.manifest import Manifest
from hisir_edge.images import mask_png_bytes, mask_rle_bytes
from hisir_edge.inspection.overlay import overlay_of_views_jpeg
from hisir_edge.line.sockets.called import UNSURE_CODE, calls_of_sheet, make_unsure
from hisir_edge.records import (
    BoardPose,
    Frame,
    GrabFault,
    Judgement,
    Region,
    Result,
    View,
    by_camera,
)

SCHEMA = "hisir-edge/verdict/2.5"
CFX_RESULT = {Result.PASS: "Passed", Result.FAIL: "Failed", Result.ERROR: "Error"}
NOT_VERIFIED = "NotVerifiedYet"
DEFECT_CODE = "ANOMALY"
"""The network learns good boards alone: it says that a place differs, not what the fault is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Origin of the verdicts, repeated in each of them.

    ``thresholds`` and ``engine`` as the message has them, None where no bundle is known.
    """

    line: str
    epoch: str
    product: str
    bundle_sha256: str
    thresholds: dict[str, Any] | None = None
    engine: dict[str, Any] | None = None


def provenance_from_manifest(line: str, epoch: str, manifest: Manifest, manifest_sha256: str) -> Provenance:
    """The origin that verdicts of a bundle name."""
    t = manifest.thresholds
    thresholds = {
        "pixel": t.pixel, "region_peak": t.region_peak, "min_area_px": t.min_area_px,
        "false_calls_per_board": t.false_calls_per_board,
    }  # fmt: skip
    engine = {
        "target": manifest.target, "precision": manifest.precision, "backbone": manifest.backbone,
        "software_version": manifest.software_version,
    }  # fmt: skip
    return Provenance(
        line=line,
        epoch=epoch,
        product=manifest.product,
        bundle_sha256=manifest_sha256,
        thresholds=thresholds,
        engine=engine,
    )


@dataclass(frozen=True, slots=True)
class VerdictMessage:
    """One verdict as it goes over the wire. ``overlay`` (JPEG) and ``rle`` (mask) draw what some ask for besides."""

    topic: str
    body: dict[str, Any]
    mask_png: bytes
    overlay: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)
    rle: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    def frames(self) -> list[bytes]:
        """The three frames that are journaled."""
        text = json.dumps(self.body, allow_nan=False, separators=(",", ":")).encode()
        return [self.topic.encode(), text, self.mask_png]

    @property
    def result(self) -> Result:
        """PASS, FAIL or ERROR."""
        return Result(self.topic.rsplit("/", maxsplit=1)[1])

    @property
    def reason(self) -> str:
        """Why FAIL or ERROR."""
        return str(self.body["vision"]["reason"])

    @property
    def camera(self) -> str:
        """The camera, the first of several."""
        return str(self.body["InspectedUnits"][0]["Inspections"][0]["InspectionName"])

    @property
    def unit(self) -> str:
        """The board."""
        return str(self.body["InspectedUnits"][0]["UnitIdentifier"])


def message_from_judgement(
    provenance: Provenance, seq: int, item: Frame | GrabFault, judgement: Judgement, now_ns: int | None = None
) -> VerdictMessage:
    """The message of one verdict; its JSON follows ``mes/verdict.schema.json``. ``now_ns``: time of the judgement."""
    ended_ns = time.time_ns() if now_ns is None else now_ns
    result, identity = CFX_RESULT[judgement.result], _Identity(provenance.epoch, seq)
    inspections, regions = [], judgement.regions
    priority = {id(region): number for number, region in enumerate(regions, 1)}
    top = 0
    for view in judgement.views or (_only_view(provenance, item, judgement),):
        own = [(priority[id(r)], r) for r in regions if r.view in ("", view.source)]
        inspections.append(_inspection(identity, item, view, own, ended_ns, top))
        top += view.frame_hw[0]
    times = judgement.times
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "line": provenance.line,
        "epoch": provenance.epoch,
        "seq": seq,
        "TransactionId": identity.of("transaction"),
        "UniqueID": identity.of("message"),
        "TimeStamp": utc(ended_ns),
        "Source": f"hisir-edge.{provenance.line}",
        "InspectionMethod": "AOI",
        "RecipeName": provenance.product,
        "RecipeRevision": provenance.bundle_sha256,
        "InspectedUnits": [
            {
                "UnitIdentifier": item.unit, "UnitPositionNumber": 1, "OverallResult": result,
                "Inspections": inspections,
            }
        ],
        "vision": {
            "reason": judgement.reason,
            "score": _rounded(judgement.score),
            "defects_total": judgement.regions_total,
            "times_s": {
                "register": round(times.register_s, 5), "tile": round(times.tile_s, 5),
                "infer": round(times.infer_s, 5), "merge": round(times.merge_s, 5), "judge": round(times.judge_s, 5),
                "total": round(times.total_s, 5),
            },
            "thresholds": provenance.thresholds,
            "engine": provenance.engine,
            "warnings": [
                {"camera": source, "kind": fault.kind, "text": f"{fault.words}; {fault.fix}"}
                for source, part in by_camera(item, judgement)
                for fault in part.warnings
            ],
            "calls": None if item.sheet is None else calls_of_sheet(item.sheet, judgement),
        },
    }  # fmt: skip
    topic = f"verdict/{provenance.line}/{judgement.result.value}"
    overlay = partial(overlay_of_views_jpeg, item, judgement) if isinstance(item, Frame) else None
    if judgement.mask is None or not judgement.mask.any():  # from 2.2: nothing is marked, nothing is sent
        return VerdictMessage(topic, body, b"", overlay)
    return VerdictMessage(topic, body, mask_png_bytes(judgement.mask), overlay, partial(mask_rle_bytes, judgement.mask))


def stamped(message: VerdictMessage) -> VerdictMessage:
    """The same verdict with the time of now, at which it is published."""
    return replace(message, body={**message.body, "TimeStamp": utc(time.time_ns())})


def as_error(message: VerdictMessage, reason: str) -> VerdictMessage:
    """The same board, not judged."""
    body: dict[str, Any] = json.loads(json.dumps(message.body))
    body["vision"] |= {"reason": reason, "score": None, "defects_total": 0}
    make_unsure(body["vision"]["calls"], reason)
    unit = body["InspectedUnits"][0]
    unit["OverallResult"] = CFX_RESULT[Result.ERROR]
    for inspection in unit["Inspections"]:
        inspection |= {"Result": CFX_RESULT[Result.ERROR], "Error": reason, "Comments": None, "DefectsFound": []}
        inspection["vision"] |= {"score": None, "defects_total": 0}
    topic = message.topic.rsplit("/", maxsplit=1)[0]
    return VerdictMessage(f"{topic}/{Result.ERROR.value}", body, b"")


def utc(time_ns: int) -> str:
    """RFC 3339 with microseconds and zone."""
    return datetime.fromtimestamp(time_ns / 1e9, timezone.utc).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class _Identity:
    """UUIDs that are the same whenever the same verdict is encoded (RFC 9562, version 5)."""

    epoch: str
    seq: int

    def of(self, what: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"hisir-edge/{self.epoch}/{self.seq}/{what}"))


def _only_view(provenance: Provenance, item: Frame | GrabFault, judgement: Judgement) -> View:
    hw, white = (item.image.hw, item.white_share) if isinstance(item, Frame) else ((0, 0), None)
    return View(item.source, item.frame_id, hw, provenance.bundle_sha256, judgement, white)


def _inspection(
    identity: _Identity, item: Frame | GrabFault, view: View, own: list[tuple[int, Region]], ended_ns: int, top: int
) -> dict[str, Any]:
    part, (h, w) = view.judgement, view.frame_hw
    failed = part.reason or None
    return {
        "UniqueIdentifier": identity.of(f"inspection/{view.source}"),
        "InspectionName": view.source,
        "InspectionStartTime": utc(ended_ns - round(part.times.total_s * 1e9)),
        "InspectionEndTime": utc(ended_ns),
        "Result": CFX_RESULT[part.result],
        "Error": failed if part.result is Result.ERROR else None,
        "Comments": failed if part.result is Result.FAIL else None,
        "Verification": NOT_VERIFIED,
        "DefectsFound": [_defect(identity, number, region) for number, region in own],
        "vision": {
            "frame_id": view.frame_id,
            "grabbed_at": utc(item.grabbed_at_ns),
            "frame": {"width": w, "height": h} if h else None,
            "mask_y": top,
            "score": _rounded(part.score),
            "defects_total": part.regions_total,
            "registration_residual_px": _rounded(part.registration_residual_px),
            "board_pose": _pose(part.board_pose),
            "variants": list(part.variants),
            "optics": _optics(view),
            "looked_share": None if part.score is None else _rounded(part.looked_share),
            "bundle_sha256": view.bundle_sha256,
        },
    }


def _defect(identity: _Identity, number: int, region: Region) -> dict[str, Any]:
    x, y, w, h = region.box_xywh
    outline = {"px": {"x": x, "y": y, "w": w, "h": h, "contour": [list(point) for point in region.contour_xy]}}
    part = {"ReferenceDesignator": region.component}
    part |= {"PartNumber": region.part_number} if region.part_number else {}
    return {
        "UniqueIdentifier": identity.of(f"defect/{number}"),
        "DefectCode": UNSURE_CODE if region.call else DEFECT_CODE,
        **({"ComponentOfInterest": part} if region.component else {}),
        "RegionOfInterest": outline | (_millimetres(region.box_mm) if region.box_mm else {}),
        "Priority": number,
        "ConfidenceLevel": region.confidence,
        "Verification": NOT_VERIFIED,
        "vision": {"area_px": region.area_px, "peak": round(region.peak, 4)},
    }


def _millimetres(box: tuple[float, float, float, float]) -> dict[str, Any]:
    """CFX's Region: a start point and the corners that follow, back to it."""
    left, top, right, bottom = (round(v, 3) for v in (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    corners = ((right, top), (right, bottom), (left, bottom), (left, top))
    return {"mm": {"StartPointX": left, "StartPointY": top, "RegionSegments": [{"X": x, "Y": y} for x, y in corners]}}


def _pose(pose: BoardPose | None) -> dict[str, Any] | None:
    return None if pose is None else {name: _rounded(value) for name, value in asdict(pose).items()}


def _optics(view: View) -> dict[str, Any] | None:
    """How a frame was taken, as far as bundle and camera say; None: nothing is known."""
    seen, white = view.judgement.optics, view.white_share
    if seen is None and white is None:
        return None
    known = {"blur_px": None, "brightness": None, "white_share": None} if seen is None else asdict(seen)
    return {**{name: _rounded(value) for name, value in known.items()}, "frame_white_share": _rounded(white)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
