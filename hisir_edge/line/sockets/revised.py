"""Requests that change the bundles of a line: revisions are made, activated, taken back (control-socket.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hisir_edge.errors import InputError
from hisir_edge.line.assembly import InspectionLine
from hisir_edge.line.revising import Revising, Said
from hisir_edge.line.sockets.control import Answer
from hisir_edge.line.sockets.requests import count_of, only, text_of
from hisir_edge.revisions.change import Change, zones_from_raw
from hisir_edge.transport.curve_keys import Client

MOST_LISTED = 100
MOST_FIGURES, MOST_FIGURE = 40, 1e12


def revision_commands(line: InspectionLine, revising: Revising) -> dict[str, Answer]:
    """``revisions``, ``revise``, ``add_revision``, ``activate`` and ``take_back``."""

    def of(request: dict[str, Any]) -> tuple[str, str]:
        camera = text_of(request, "camera") or line.selection.products.settings.source.name
        return text_of(request, "product") or line.selection.product, camera

    def revisions(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "most")
        return revising.as_dict(count_of(request, "most", MOST_LISTED, MOST_LISTED))

    def revise(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "product", "camera", "of_sha256", "zones", "strength", "who", "why", "comparison")
        zones = zones_from_raw(request["zones"]) if "zones" in request else None
        change = Change(zones=zones, strength=_number_of(request, "strength", 1.0))
        of_sha256 = text_of(request, "of_sha256", required=True)
        return {"number": revising.revise(*of(request), of_sha256, change, _said(request, client), _figures(request))}

    def add_revision(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "product", "camera", "bundle", "who", "why", "comparison")
        bundle = Path(text_of(request, "bundle", required=True))
        return {"number": revising.add(*of(request), bundle, _said(request, client), _figures(request))}

    def activate(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "number", "product", "camera", "who", "why")
        number = count_of(request, "number", 0, 10**9)
        if "number" not in request:
            raise InputError(
                expected="the number of a revision, 0: the configured bundle", received="none", fix="name it"
            )
        named = (text_of(request, "product"), text_of(request, "camera")) if number else of(request)
        revising.activate(number, *named, _said(request, client))
        return {"number": number}

    def take_back(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "number", "product", "camera", "who", "why")
        number = count_of(request, "number", 0, 10**9)
        return {"number": revising.take_back(*of(request), _said(request, client), number)}

    return {
        "revisions": revisions, "revise": revise, "add_revision": add_revision, "activate": activate,
        "take_back": take_back,
    }  # fmt: skip


def _said(request: dict[str, Any], client: Client) -> Said:
    return Said(
        who=text_of(request, "who", required=True), why=text_of(request, "why", required=True), client=client.name
    )


def _number_of(request: dict[str, Any], key: str, default: float) -> float:
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST_FIGURE:
        raise InputError(expected=f"{key} as a number", received=repr(value)[:80], fix="correct the request")
    return float(value)


def _figures(request: dict[str, Any]) -> dict[str, float]:
    raw = request.get("comparison", {})
    if not isinstance(raw, dict) or len(raw) > MOST_FIGURES or any(not 0 < len(name) <= 60 for name in raw):
        raise InputError(
            expected=f"comparison as up to {MOST_FIGURES} figures by name",
            received=repr(raw)[:80],
            fix="correct the request",
        )
    return {name: _number_of(raw, name, 0.0) for name in raw}
