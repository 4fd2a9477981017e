"""States, faults and heartbeats as messages of IPC-CFX; see ``messages``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hisir_edge.mes.cfx.messages import Envelope, told

STATES = {
    "Preoperational": 4500, "Initialized": 2000, "Ready": 2200, "SingleExecution": 1100, "ContinuousExecution": 1100,
    "Error": 5000, "Halted": 6500,
}  # fmt: skip
"""States of OPC 40100-1 as SEMI E58's: set-up, standby, no product, regular work, unscheduled downtime, shutdown."""
PAUSED, UNKNOWN = 2100, 2500
"""No operator lets it go on; no host: nobody knows what the line does."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that keeps the line from judging: ``code`` says what, the same while it lasts; ``at`` since when."""

    code: str
    cause: str
    words: str
    occurrence_id: str
    at: str

    def body(self) -> dict[str, Any]:
        """CFX's structure Fault."""
        return {
            "TransactionID": None, "Cause": self.cause, "Severity": "Error", "FaultCode": self.code,
            "FaultOccurrenceId": self.occurrence_id, "Lane": None, "Stage": None, "SideLocation": "Unknown",
            "AccessType": "Remote" if self.cause == "SoftwareFailure" else "Local", "Description": self.words[:1024],
            "DescriptionTranslations": {}, "OccurredAt": self.at, "DueDateTime": None,
        }  # fmt: skip


def fault_occurred(fault: Fault) -> Envelope:
    """A fault begins."""
    return told("CFX.ResourcePerformance.FaultOccurred", {"Fault": fault.body()}, fault.at)


def fault_cleared(fault: Fault) -> Envelope:
    """It is over; nobody is known to have mended it."""
    return told(
        "CFX.ResourcePerformance.FaultCleared", {"FaultOccurrenceId": fault.occurrence_id, "Operator": None}
    )  # fmt: skip


def state_changed(old: int, lasted_s: float | None, new: int, fault: Fault | None) -> Envelope:
    """The line goes from one state of SEMI E58 to another; ``lasted_s``: how long the old one lasted, None: unknown."""
    body = {
        "OldState": old, "OldStateDuration": None if lasted_s is None else span(lasted_s), "NewState": new,
        "RelatedFault": None if fault is None else fault.body(),
    }  # fmt: skip
    return told("CFX.ResourcePerformance.StationStateChanged", body)


def station_online(offline_s: float | None) -> Envelope:
    """The line answers (again); ``offline_s``: how long it had not, None: unknown."""
    body = {"OfflineDuration": None if offline_s is None else span(offline_s)}
    return told("CFX.ResourcePerformance.StationOnline", body)


def station_offline() -> Envelope:
    """The line does not answer any more."""
    return told("CFX.ResourcePerformance.StationOffline", {})


def heartbeat(handle: str, each_s: float, faults: list[Fault]) -> Envelope:
    """The endpoint is there, and what is wrong with the line now."""
    body = {
        "CFXHandle": handle, "HeartbeatFrequency": span(each_s), "ActiveFaults": [fault.body() for fault in faults],
        "ActiveRecipes": None,
    }  # fmt: skip
    return told("CFX.Heartbeat", body)


def span(seconds: float) -> str:
    """A .NET TimeSpan: [days.]hours:minutes:seconds[.fraction]."""
    whole, ticks = divmod(round(max(seconds, 0) * 10**7), 10**7)
    days, rest = divmod(whole, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return (f"{days}." if days else "") + text + (f".{ticks:07}" if ticks else "")
