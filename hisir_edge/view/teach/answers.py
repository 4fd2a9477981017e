"""What the page answers of teaching: zones and strengths tried, revisions made, activated and taken back."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse

from hisir_edge.bundle.thresholds import Zone
from hisir_edge.errors import InputError
from hisir_edge.labels import is_name
from hisir_edge.revisions.change import LEAST_FACTOR, MOST_FACTOR
from hisir_edge.view.access import Session
from hisir_edge.view.answers import FRESH, MOST_SEQ, Page, number_in
from hisir_edge.view.export import pieces_of
from hisir_edge.view.teach.reading import zones_from_json
from hisir_edge.view.teach.reviewed import draw_missed, polygon_from_json, remove_missed, reviewed_of

MOST_WHY, MOST_REQUEST_BYTES = 200, 60_000
FIGURES = ("boards", "calls", "calls_after", "false_calls_gone", "confirmed_lost", "new_calls", "waiting_gone")
ASK_S = 10.0


def zones(page: Page, session: Session, request: Request) -> Any:
    """Zones of the bundle that inspects the newest archived board's product on a line, and that board."""
    line = request.path_params["line"]
    found = page.trials[page.address_of(line)].newest(line)
    if found is None:
        raise HTTPException(404, "no archived board yet")
    row, bundle = found
    of = [
        {"name": z.name, "polygon": z.polygon, "sensitivity": z.sensitivity, "outside": z.outside}
        for z in bundle.manifest.zones
    ]
    return {**row, "zones": of, "width": bundle.recipe.frame_hw[1], "bundle_sha256": bundle.manifest_sha256}


def trial(page: Page, session: Session, body: dict[str, Any]) -> Any:
    """Zones and a strength tried on the last boards."""
    most = body.get("most", 200)
    if not isinstance(most, int):
        raise InputError(expected="most as a whole number", received=str(most)[:80], fix="correct it")
    line, zones, strength = str(body.get("line", "")), _zones(body), _strength(body)
    return page.trials[page.address_of(line)].of_change(line, zones, strength, most)


def strengths(page: Page, session: Session, request: Request) -> Any:
    """What each strength would have called of the last boards."""
    line = request.path_params["line"]
    return page.trials[page.address_of(line)].of_strengths(line)


def revisions(page: Page, session: Session, request: Request) -> Any:
    """All revisions of a line, which are in use, and what is being done."""
    return _asked(page, request.path_params["line"], {"do": "revisions"})


def revise(page: Page, session: Session, body: dict[str, Any]) -> Any:
    """Make a revision with other zones and another strength; what it would have done is kept with it."""
    line, zones, strength, why = str(body.get("line", "")), _zones(body), _strength(body), _why(body)
    trials = page.trials[page.address_of(line)]
    found = trials.newest(line)
    if found is None:
        raise HTTPException(404, "no archived board yet")
    row, bundle = found
    if body.get("bundle_sha256") != bundle.manifest_sha256:
        raise InputError(
            expected="a change of the bundle that inspects", received="one of another bundle", fix="open Teach again"
        )
    tried = trials.of_change(line, zones, strength)
    request = {
        "do": "revise", "product": row["product"], "camera": row["camera"], "of_sha256": bundle.manifest_sha256,
        "comparison": {name: tried[name] for name in FIGURES} if tried["boards"] else {},
        "who": _who(session), "why": why,
    }  # fmt: skip
    if zones is not None:
        request["zones"] = [
            {"name": z.name, "polygon": z.polygon_xy, "sensitivity": z.sensitivity, "outside": z.outside} for z in zones
        ]
    if strength != 1.0:
        request["strength"] = strength
    if len(json.dumps(request)) > MOST_REQUEST_BYTES:
        raise InputError(
            expected=f"zones of up to {MOST_REQUEST_BYTES} bytes in all", received="more", fix="draw fewer corners"
        )
    page.audit.add(session.user, "revise", line=line, of=bundle.manifest_sha256, why=why)
    return _asked(page, line, request)


def activate(page: Page, session: Session, body: dict[str, Any]) -> Any:
    """Have a line inspect with a revision, 0: with the configured bundle."""
    line, number, why = str(body.get("line", "")), _number(body), _why(body)
    request = {"do": "activate", "number": number, "who": _who(session), "why": why, **_of(body)}
    page.audit.add(session.user, "activate", line=line, number=number, why=why)
    return _asked(page, line, request)


def take_back(page: Page, session: Session, body: dict[str, Any]) -> Any:
    """Have a line inspect with what it used before a revision, ``number``, which is in use."""
    line, why = str(body.get("line", "")), _why(body)
    number = _number(body)
    request = {"do": "take_back", "number": number, "who": _who(session), "why": why, **_of(body)}
    page.audit.add(session.user, "take back", line=line, number=number, why=why, **_of(body))
    return _asked(page, line, request)


def missed(page: Page, session: Session, body: dict[str, Any]) -> Any:
    """Keep a place that a line missed on a board, or forget one: ``gone``."""
    line, epoch, seq, camera = (body.get(name) for name in ("line", "epoch", "seq", "camera"))
    who = _who(session)
    board = None
    if isinstance(line, str) and isinstance(epoch, str) and type(seq) is int and 0 <= seq < MOST_SEQ:
        board = page.history.board(line, epoch, seq)
    if board is None:
        raise HTTPException(404, "no such board")
    if "gone" in body:
        if type(body["gone"]) is not int or not 0 <= body["gone"] < MOST_SEQ:
            raise InputError(expected="gone: the number of a place", received="another", fix="correct it")
        page.audit.add(session.user, "missed place removed", line=line, epoch=epoch, seq=seq, number=body["gone"])
        remove_missed(page.history, board, body["gone"], who)
        found: dict[str, Any] = {}
    else:
        polygon = polygon_from_json(body.get("polygon"), _frame_hw(board, camera))
        page.audit.add(session.user, "missed place", line=line, epoch=epoch, seq=seq, camera=camera, polygon=polygon)
        found = {"id": draw_missed(page.history, board, str(camera), polygon, who)}
    page.link_of(str(line)).wake()
    page.hub.tell("decision", {"line": line, "epoch": epoch, "seq": seq})
    return found


def reviewed(page: Page, session: Session, request: Request) -> Any:
    """The reviewed boards of the newest board's product on a line, for ``hisir-edge train --add-reviewed``."""
    asked, line = request.query_params, request.query_params.get("line", "")
    link = page.link_of(line)
    product = asked.get("product", "")
    if not product:
        newest = page.history.query("SELECT product FROM verdict WHERE line = ? ORDER BY at DESC LIMIT 1", (line,))
        product = newest[0]["product"] if newest else ""

    def fetch(of: str, epoch: str, seq: int) -> bytes:
        return page.boards[link.address.endpoint].fetched(epoch, seq)

    page.audit.add(session.user, "export", of="reviewed", line=line, product=product)
    file, counts = reviewed_of(page.history, line, product, number_in(asked, "since", 0.0), fetch)
    headers = {
        **FRESH, "content-disposition": 'attachment; filename="reviewed.zip"',
        "x-hisir-counts": ", ".join(f"{name} {count}" for name, count in counts.items()),
    }  # fmt: skip
    return StreamingResponse(pieces_of(file), media_type="application/zip", headers=headers)


def _frame_hw(board: dict[str, Any], camera: Any) -> tuple[int, int]:
    """Height and width of a camera's frame of a board; InputError where it has no such camera."""
    for inspection in board["body"]["InspectedUnits"][0]["Inspections"]:
        if inspection["InspectionName"] == camera:
            size = inspection["vision"]["frame"] or {"height": 0, "width": 0}  # a board without a frame has no place
            return int(size["height"]), int(size["width"])
    raise InputError(expected="a camera of the board", received=str(camera)[:80], fix="name it")


def _asked(page: Page, line: str, request: dict[str, Any]) -> dict[str, Any]:
    with page.link_of(line).asker() as asker:
        answer, _ = asker.ask(request, ASK_S)
    return answer


def _zones(body: dict[str, Any]) -> tuple[Zone, ...] | None:
    return zones_from_json(body["zones"]) if "zones" in body else None


def _strength(body: dict[str, Any]) -> float:
    value = body.get("strength", 1.0)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not LEAST_FACTOR <= value <= MOST_FACTOR:
        raise InputError(
            expected=f"strength as a number of {LEAST_FACTOR:g} to {MOST_FACTOR:g}", received=str(value)[:80],
            fix="correct it",
        )  # fmt: skip
    return float(value)


def _why(body: dict[str, Any]) -> str:
    why = body.get("why")
    if not isinstance(why, str) or not is_name(why) or not 1 <= len(why.strip()) <= MOST_WHY:
        raise InputError(expected=f"why, in 1 to {MOST_WHY} characters", received=str(why)[:80], fix="say why")
    return why.strip()


def _number(body: dict[str, Any]) -> int:
    number = body.get("number")
    if type(number) is not int or not 0 <= number < 10**9:
        raise InputError(expected="the number of a revision", received=str(number)[:80], fix="choose one")
    return number


def _of(body: dict[str, Any]) -> dict[str, str]:
    """Product and camera of a request that names them."""
    named: dict[str, Any] = {name: body[name] for name in ("product", "camera") if name in body}
    if not all(isinstance(value, str) and is_name(value) and len(value) <= MOST_WHY for value in named.values()):
        raise InputError(expected="product and camera as texts", received="others", fix="correct them")
    return named


def _who(session: Session) -> str:
    if not session.user:
        raise InputError(expected="who changes it", received="nobody", fix="say who you are")
    return session.user
