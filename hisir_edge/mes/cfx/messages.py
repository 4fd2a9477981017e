"""Verdicts and states as messages of IPC-CFX: pure functions, no broker.

Names, enumerations and the envelope are those of IPC-2591 as the standard's own SDK has them
(https://github.com/IPCConnectedFactoryExchange/CFX); docs/reference/cfx.md maps every field.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from hisir_edge.mes.verdict import Verdict

VERSION = "1.7"
"""Of the standard; everything that is sent exists since then, readers of later versions take it."""
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "hisir-edge/cfx")
WORK = {"PASS": "Completed", "FAIL": "Failed", "ERROR": "Aborted"}
"""Failed: completed, with a result that nobody wants. Aborted: the board was not judged."""
TOPICS = {
    "CFX": ("EndpointConnected", "Heartbeat", "WhoIsThereResponse", "AreYouThereResponse",
            "GetEndpointInformationResponse"),
    "CFX.Production": ("WorkStarted", "WorkCompleted", "RecipeActivated"),
    "CFX.Production.TestAndInspection": ("UnitsInspected",),
    "CFX.ResourcePerformance": (
        "StationStateChanged", "StationOnline", "StationOffline", "FaultOccurred", "FaultCleared",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message. ``name``: with its topic; ``time``: when what it tells of happened, RFC 3339 with a zone."""

    name: str
    body: dict[str, Any] = field(repr=False)
    unique_id: str
    time: str
    target: str | None = None
    request_id: str | None = None

    def json(self, handle: str) -> bytes:
        """The envelope as it is sent by the endpoint ``handle``."""
        return json.dumps(
            {
                "MessageName": self.name,
                "Version": VERSION,
                "TimeStamp": self.time,
                "UniqueID": self.unique_id,
                "Source": handle,
                "Target": self.target,
                "RequestID": self.request_id,
                "MessageBody": {"$type": f"{self.name}, CFX", **self.body},
            }
        ).encode()

    @property
    def topic(self) -> str:
        """The namespace of its name."""
        return self.name.rpartition(".")[0]


def now() -> str:
    """The present instant, RFC 3339."""
    return datetime.now(timezone.utc).isoformat()


def told(name: str, body: dict[str, Any], time: str = "") -> Envelope:
    """A message of something that happens once: its identity is new."""
    return Envelope(name, body, str(uuid.uuid4()), time or now())


def of_verdict(verdict: Verdict) -> tuple[Envelope, Envelope, Envelope]:
    """WorkStarted, UnitsInspected, WorkCompleted; the same identities whenever the same verdict is sent again."""
    transaction, started = _transaction(verdict), _started(verdict)
    unit = {"PrimaryIdentifier": verdict.unit, "HermesIdentifier": None, "TransactionID": transaction}
    recipe = {"RecipeName": verdict.product, "Revision": verdict.bundle_sha256}
    begun: dict[str, Any] = unit | {"Lane": None, "UnitCount": 1, "Units": []} | recipe
    ended = unit | {"Result": WORK[verdict.result], "UnitCount": 1, "Units": [], "PerformanceImpacts": []}
    return (
        Envelope("CFX.Production.WorkStarted", begun, _same(verdict, "started"), started),
        Envelope(
            "CFX.Production.TestAndInspection.UnitsInspected", _units_inspected(verdict, transaction),
            str(verdict.body.get("UniqueID") or _same(verdict, "inspected")), verdict.time,
        ),
        Envelope("CFX.Production.WorkCompleted", ended, _same(verdict, "completed"), verdict.time),
    )  # fmt: skip


def recipe_activated(verdict: Verdict) -> Envelope:
    """The product that boards are inspected as from this verdict on."""
    body = {
        "RecipeName": verdict.product, "Revision": verdict.bundle_sha256, "Lane": None, "Stage": None,
        "ExpectedCycleTime": 0.0, "ExpectedUnitsPerWorkTransaction": 1.0, "NumberOfComponentsPerUnit": 0.0,
    }  # fmt: skip
    return Envelope("CFX.Production.RecipeActivated", body, _same(verdict, "recipe"), _started(verdict))


def _same(verdict: Verdict, what: str) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{verdict.line}/{verdict.epoch}/{verdict.seq}/{what}"))


def _transaction(verdict: Verdict) -> str:
    return str(verdict.body.get("TransactionId") or _same(verdict, "transaction"))


def _started(verdict: Verdict) -> str:
    units = verdict.body.get("InspectedUnits") or [{}]
    inspections = units[0].get("Inspections") or [{}]
    return str(inspections[0].get("InspectionStartTime") or verdict.time)


def _units_inspected(verdict: Verdict, transaction: str) -> dict[str, Any]:
    """CFX's own fields of a verdict; of ours the measurements, and no masks."""
    units = verdict.body.get("InspectedUnits")
    limits = verdict.body.get("vision", {}).get("thresholds") or {}
    return {
        "TransactionId": transaction,
        "InspectionMethod": "AOI",
        "SamplingInformation": {"SamplingMethod": "NoSampling", "LotSize": None, "SampleSize": None},
        "Inspector": None,
        "RecipeName": verdict.product,
        "RecipeRevision": verdict.bundle_sha256,
        "InspectedUnits": [_unit(unit, limits) for unit in units] if units else [_of_schema_1(verdict)],
    }


def _of_schema_1(verdict: Verdict) -> dict[str, Any]:
    result = {"PASS": "Passed", "FAIL": "Failed", "ERROR": "Error"}[verdict.result]
    return {
        "UnitIdentifier": verdict.unit, "UnitPositionNumber": 1, "OverallResult": result, "Inspections": [],
        "Verification": "NotVerifiedYet", "TotalInspectionCount": 1,
    }  # fmt: skip


def _unit(unit: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    inspections = [_inspection(one, limits) for one in unit["Inspections"]]
    return {
        "UnitIdentifier": unit["UnitIdentifier"],
        "UnitPositionNumber": unit.get("UnitPositionNumber"),
        "OverallResult": unit["OverallResult"],
        "Inspections": inspections,
        "Verification": "NotVerifiedYet",
        "TotalInspectionCount": len(inspections),
    }


def _inspection(one: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    vision = one.get("vision", {})
    optics = vision.get("optics") or {}
    most = limits.get("region_peak")
    rows = (
        ("score", vision.get("score"), "", most),
        ("registration_residual", vision.get("registration_residual_px"), "px", None),
        ("looked_share", vision.get("looked_share"), "", None), ("blur", optics.get("blur_px"), "px", None),
        ("brightness", optics.get("brightness"), "", None), ("white_share", optics.get("white_share"), "", None),
    )  # fmt: skip
    return {
        "UniqueIdentifier": one["UniqueIdentifier"],
        "InspectionName": one["InspectionName"],
        "InspectionStartTime": one.get("InspectionStartTime"),
        "InspectionEndTime": one.get("InspectionEndTime"),
        "TestProcedure": None,
        "Comments": one.get("Comments"),
        "Result": one["Result"],
        "Verification": one.get("Verification", "NotVerifiedYet"),
        "VerificationDetail": None,
        "Error": one.get("Error"),
        "DefectsFound": [_defect(defect) for defect in one.get("DefectsFound", ())],
        "Symptoms": [],
        "Measurements": _measurements(one["UniqueIdentifier"], one.get("InspectionEndTime"), one["Result"], rows),
    }


BOX = (("left", "x"), ("top", "y"), ("width", "w"), ("height", "h"))


def _defect(defect: dict[str, Any]) -> dict[str, Any]:
    region = defect.get("RegionOfInterest") or {}
    px, vision = region.get("px") or {}, defect.get("vision", {})
    rows = (
        ("peak", vision.get("peak"), "", None), ("area", vision.get("area_px"), "px2", None),
        *((name, px.get(key), "px", None) for name, key in BOX),
    )  # fmt: skip
    return {
        "UniqueIdentifier": defect["UniqueIdentifier"],
        "DefectCode": defect["DefectCode"],
        "DefectCategory": None,
        "Description": None,
        "Comments": None,
        "ComponentOfInterest": defect.get("ComponentOfInterest"),
        "RegionOfInterest": region.get("mm"),
        "DefectImages": None,
        "Priority": defect.get("Priority"),
        "ConfidenceLevel": defect.get("ConfidenceLevel"),
        "RelatedMeasurements": _measurements(defect["UniqueIdentifier"], None, "Failed", rows),
        "Verification": defect.get("Verification", "NotVerifiedYet"),
        "VerificationDetail": None,
    }


JUDGED = ("score", "peak")
"""Measurements that the result comes from; the others have none of their own."""
Row = tuple[str, float | None, str, float | None]
"""Name, value, units, the highest acceptable value."""


def _measurements(of: str, at: str | None, result: str, rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    known = [row for row in rows if row[1] is not None]
    return [
        {
            "$type": "CFX.Structures.NumericMeasurement, CFX",
            "UniqueIdentifier": str(uuid.uuid5(NAMESPACE, f"{of}/{name}")),
            "MeasurementName": name,
            "TimeRecorded": at,
            "Sequence": number,
            "Result": result if name in JUDGED else "Passed",
            "CRDs": None,
            "MeasuredValue": {
                "Value": value, "ValueUnits": units or None, "ExpectedValue": None, "ExpectedValueUnits": None,
                "MinimumAcceptableValue": None, "MaximumAcceptableValue": most,
            },
        }
        for number, (name, value, units, most) in enumerate(known, 1)
    ]  # fmt: skip
