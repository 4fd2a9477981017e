"""Answers to what other endpoints of a CFX network ask: who is there, are you there, what can you do."""

from __future__ import annotations

import json
import platform
import uuid
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from hisir_edge.mes.cfx.messages import TOPICS, Envelope, now

MOST_BYTES = 65_536
"""Of a request; what is longer is no request."""
PLATFORMS = {"x86_64": "Platform64bit", "AMD64": "Platform64bit", "aarch64": "ARM64"}
SUCCESS = {"Result": "Success", "ResultCode": 0, "Message": None}


@dataclass(frozen=True, slots=True)
class Identity:
    """How an endpoint is known. ``network_uri`` and ``request_address``: where requests reach it, empty: nowhere."""

    handle: str
    line: str
    network_uri: str = ""
    request_address: str = ""

    def addresses(self) -> dict[str, Any]:
        """As CFX has them in many messages."""
        return {
            "CFXHandle": self.handle,
            "RequestNetworkUri": self.network_uri or None,
            "RequestTargetAddress": self.request_address or None,
        }


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came. ``sender``: CFX handle of who asks."""

    name: str
    sender: str | None
    target: str | None
    request_id: str | None
    body: dict[str, Any]


def request_from_bytes(content: bytes) -> Request | None:
    """The request in a message's body; None for anything else."""
    if len(content) > MOST_BYTES:
        return None
    try:
        found = json.loads(content)
        body = found["MessageBody"]
        if not isinstance(body, dict):
            return None
        sender, target, request_id = (_text(found, key) for key in ("Source", "Target", "RequestID"))
        name = _text(found, "MessageName")
        return None if name is None else Request(name, sender, target, request_id, body)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _text(found: dict[str, Any], key: str) -> str | None:
    value = found.get(key)
    return value if isinstance(value, str) and len(value) <= 1000 and value.isprintable() else None


def answer(request: Request, me: Identity) -> Envelope | None:
    """The response; None where none is due: another endpoint is asked, or it asks for topics that are not ours.

    What this endpoint does not know is answered with NotSupportedResponse, so that nobody waits.
    """
    asked = request.body.get("CFXHandle") or request.target
    if asked and asked != me.handle:
        return None
    if request.name == "CFX.WhoIsThereRequest":
        return (
            _told("CFX.WhoIsThereResponse", {"Result": SUCCESS} | me.addresses(), request)
            if _is_meant(request)
            else None
        )
    if request.name == "CFX.AreYouThereRequest":
        return _told("CFX.AreYouThereResponse", {"Result": SUCCESS} | me.addresses(), request)
    if request.name == "CFX.GetEndpointInformationRequest":
        body = {"Result": SUCCESS, "EndpointInformation": information(me)}
        return _told("CFX.GetEndpointInformationResponse", body, request)
    if not request.name.endswith("Request"):
        return None
    refused = {"Result": "Failed", "ResultCode": 1, "Message": f"{request.name[:200]} is not supported"}
    return _told("CFX.NotSupportedResponse", {"RequestResult": refused}, request)


def _is_meant(request: Request) -> bool:
    """Whether a broadcast for endpoints of some topics is for this one, too."""
    kind = request.body.get("SupportedTopicQueryType", "Ignore")
    topics = request.body.get("SupportedTopics") or []
    wanted = [t.get("TopicName") for t in topics if isinstance(t, dict)] if isinstance(topics, list) else []
    if kind == "Ignore" or not wanted:
        return True
    return (all if kind == "All" else any)(isinstance(name, str) and name in TOPICS for name in wanted)


def information(me: Identity) -> dict[str, Any]:
    """What this endpoint is and says (CFX's structure Endpoint)."""
    return me.addresses() | {
        "CFXVersion": "1.7",
        "UniqueIdentifier": str(uuid.uuid5(uuid.NAMESPACE_OID, f"hisir-edge/{me.handle}")),
        "FriendlyName": f"hisir-edge {me.line}",
        "Vendor": "hisir-edge",
        "ModelNumber": "hisir-edge",
        "SerialNumber": me.line,
        "SoftwareVersion": metadata.version("hisir-edge"),
        "FirmwareVersion": None,
        "OperatingSystem": "OtherLinux",
        "OperatingSystemPlatform": PLATFORMS.get(platform.machine(), "Other"),
        "OperatingSystemVersion": platform.release(),
        "Stages": [],
        "NumberOfLanes": 1,
        "HermesInformation": None,
        "OperatingRequirements": None,
        "SupportedPCBDimensions": None,
        "SupportedTopics": [
            {
                "TopicName": topic,
                "TopicSupportType": "Publisher",
                "SupportedMessages": [f"{topic}.{name}" for name in names],
            }
            for topic, names in TOPICS.items()
        ],
        "SleepStates": [],
    }


def _told(name: str, body: dict[str, Any], request: Request) -> Envelope:
    return Envelope(name, body, str(uuid.uuid4()), now(), request.sender, request.request_id)
