"""What a line's status and verdicts are as values of OPC UA: names of OPC 40100-1 to Python values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from asyncua.ua import VariantType

from hisir_edge.mes.verdict import Verdict

OPERATIONAL = ("Initialized", "Ready", "SingleExecution", "ContinuousExecution")
"""States of the AutomaticModeStateMachine; the machine above it is Operational meanwhile."""
STATES = ("Preoperational", "Halted", "Error", "Operational")
COMPLETED, FAILED = 1, 4
"""ResultState of OPC 40100-1: the vision job was completed, or has failed."""
SEVERITY = {"PASS": 100, "FAIL": 500, "ERROR": 800}
NEVER = datetime(1601, 1, 1, tzinfo=timezone.utc)
"""The beginning of OPC UA's time, which stands for none."""
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable: its browse path below the vision system, its type, whether it is an array, what it says."""

    path: str
    kind: VariantType
    text: str
    array: bool = False


OF_STATUS = (
    Variable("VisionStateMachine/Paused", VariantType.Boolean, "the line takes no boards until it is resumed"),
    Variable("VisionStateMachine/Draining", VariantType.Boolean, "the line ends when its verdicts are out"),
    Variable("RecipeManagement/ActiveProduct", VariantType.String, "the product of triggers from now on"),
    Variable("RecipeManagement/Products", VariantType.String, "the products that can be selected", array=True),
    Variable("Counters/Passed", VariantType.UInt64, "boards judged PASS since the line was started"),
    Variable("Counters/Failed", VariantType.UInt64, "boards judged FAIL"),
    Variable("Counters/Errors", VariantType.UInt64, "boards that could not be judged"),
    Variable("Counters/InFlight", VariantType.UInt32, "boards that are being judged now"),
    Variable("Diagnostics/CameraUp", VariantType.Boolean, "every camera of the line is connected"),
    Variable("Diagnostics/JournalError", VariantType.String, "why the journal takes nothing; empty: it does"),
    Variable("Diagnostics/Unjournaled", VariantType.UInt32, "verdicts that the journal has not taken yet"),
    Variable("Diagnostics/Uptime", VariantType.Double, "seconds since the line was started"),
    Variable("Diagnostics/SoftwareRevision", VariantType.String, "the line's version of hisir-edge"),
)
ANSWERS = Variable("Diagnostics/LineAnswers", VariantType.Boolean, "whether the line answers; false: the rest is bad")
RESULT = "ResultManagement/LastResult"
OF_RESULT = (
    Variable("ResultId", VariantType.String, "EPOCH/NUMBER, by which GetResultById gives it again"),
    Variable("SequenceNumber", VariantType.UInt64, "1, 2, 3, ... within the epoch: a gap shows what was missed"),
    Variable("Verdict", VariantType.String, "PASS, FAIL or ERROR; only PASS is good"),
    Variable("PartId", VariantType.String, "the board"),
    Variable("ExternalRecipeId", VariantType.String, "the product it was inspected as"),
    Variable("InternalRecipeId", VariantType.String, "SHA-256 of the bundle's manifest"),
    Variable("ResultState", VariantType.Int32, "1: completed (PASS or FAIL), 4: failed (ERROR)"),
    Variable("IsSimulated", VariantType.Boolean, "never"),
    Variable("IsPartial", VariantType.Boolean, "never"),
    Variable("CreationTime", VariantType.DateTime, "when it was judged"),
    Variable("ProcessingTime", VariantType.Double, "milliseconds from frame to judgement"),
    Variable("Reason", VariantType.String, "why FAIL or ERROR; empty for PASS"),
    Variable("Score", VariantType.Double, "peak of the anomaly map, 1.0: threshold of a pixel; NaN for ERROR"),
    Variable("DefectCount", VariantType.UInt32, "how many regions there are"),
    Variable("DefectComponents", VariantType.String, "of each, the strongest first: R12; empty: no part", array=True),
    Variable("DefectCameras", VariantType.String, "of each, whose frame it is in", array=True),
    Variable("DefectBoxes", VariantType.UInt32, "of each x, y, width, height in pixels of the frame", array=True),
    Variable("DefectPeaks", VariantType.Double, "of each the peak, 1.0: threshold of a pixel", array=True),
    Variable("DefectConfidences", VariantType.Double, "of each 1 to 100; NaN: unknown", array=True),
)  # fmt: skip
CONTENT = Variable("ResultContent", VariantType.String, "the verdict as it was published, JSON without masks")


def of_status(status: dict[str, Any]) -> Values:
    """By path of ``OF_STATUS``."""
    counts = status.get("verdicts") or {}
    return {
        "VisionStateMachine/Paused": bool(status.get("paused")),
        "VisionStateMachine/Draining": bool(status.get("draining")),
        "RecipeManagement/ActiveProduct": str(status.get("product", "")),
        "RecipeManagement/Products": [str(name) for name in status.get("products", ())],
        "Counters/Passed": int(counts.get("PASS", 0)),
        "Counters/Failed": int(counts.get("FAIL", 0)),
        "Counters/Errors": int(counts.get("ERROR", 0)),
        "Counters/InFlight": int(status.get("in_flight", 0)),
        "Diagnostics/CameraUp": bool(status.get("camera_up")),
        "Diagnostics/JournalError": str(status.get("journal_error") or ""),
        "Diagnostics/Unjournaled": int(status.get("unjournaled", 0)),
        "Diagnostics/Uptime": float(status.get("uptime_s", math.nan)),
        "Diagnostics/SoftwareRevision": str(status.get("version", "")),
    }


def states(status: dict[str, Any]) -> tuple[str, str]:
    """States of the VisionStateMachine and of its AutomaticModeStateMachine, empty where that has none."""
    state = str(status.get("state", ""))
    if state in OPERATIONAL:
        return "Operational", state
    return (state if state in STATES else "Error"), ""


def of_verdict(verdict: Verdict) -> Values:
    """By path of ``OF_RESULT``."""
    defects = verdict.defects
    return {
        "ResultId": f"{verdict.epoch}/{verdict.seq}",
        "SequenceNumber": verdict.seq,
        "Verdict": verdict.result,
        "PartId": verdict.unit,
        "ExternalRecipeId": verdict.product,
        "InternalRecipeId": verdict.bundle_sha256,
        "ResultState": FAILED if verdict.result == "ERROR" else COMPLETED,
        "IsSimulated": False,
        "IsPartial": False,
        "CreationTime": datetime.fromisoformat(verdict.time.replace("Z", "+00:00")).astimezone(timezone.utc),
        "ProcessingTime": verdict.total_s * 1000,
        "Reason": verdict.reason,
        "Score": math.nan if verdict.score is None else verdict.score,
        "DefectCount": verdict.defects_total,
        "DefectComponents": [defect.component for defect in defects],
        "DefectCameras": [defect.camera for defect in defects],
        "DefectBoxes": [max(int(v), 0) for d in defects for v in (d.x, d.y, d.w, d.h)],
        "DefectPeaks": [float(defect.peak) for defect in defects],
        "DefectConfidences": [math.nan if d.confidence is None else float(d.confidence) for d in defects],
    }


def of_no_verdict() -> Values:
    """The same before there is one: nothing that could be taken for a PASS."""
    empty = {
        VariantType.String: "", VariantType.UInt64: 0, VariantType.Int32: 0, VariantType.Boolean: False,
        VariantType.Double: math.nan, VariantType.UInt32: 0, VariantType.DateTime: NEVER,
    }  # fmt: skip
    return {one.path: [] if one.array else empty[one.kind] for one in OF_RESULT}
