"""What the page answers: lines, boards, tiles, figures, exports, decisions, trials. Made in a thread each.

A dict or list becomes JSON. InputError is told in its own words; HTTPException with its status.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hisir_edge.errors import InputError, NoAnswer
from hisir_edge.labels import is_name
from hisir_edge.view.access import AuditLog, Session, Sessions, Tries, Users
from hisir_edge.view.boards import TILE_PX, Boards
from hisir_edge.view.export import coco_of, csv_of, outcome_on, pieces_of
from hisir_edge.view.history import History, Search
from hisir_edge.view.hub import Hub
from hisir_edge.view.lines import LineLink
from hisir_edge.view.statistics import Range, drift, heat, pareto, summary
from hisir_edge.view.teach.reviewed import missed_on
from hisir_edge.view.teach.trial import Trials

VERIFICATIONS = ("DefectConfirmed", "DefectRejected", "DefectAccepted", "NotVerifiedYet")
MOST_SEQ = 2**62
KEPT = {"cache-control": "private, max-age=86400, immutable"}
FRESH = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the requests work on. ``users``: None where nobody logs in (loopback); ``proxy_header``: who is let in.

    ``fleet``: address of the database that hisir-edge fleet writes; empty: none.
    """

    history: History
    links: tuple[LineLink, ...]
    hub: Hub
    sessions: Sessions
    tries: Tries
    audit: AuditLog
    users: Users | None
    proxy_header: str
    secure: bool
    boards: dict[str, Boards]
    trials: dict[str, Trials]
    fleet: str = field(default="", repr=False)

    def link_of(self, line: str) -> LineLink:
        """The link of a line's name; HTTPException 404 for one that is not there."""
        found = next((link for link in self.links if link.seen.name == line), None)
        if found is None:
            raise HTTPException(404, "no such line")
        return found

    def address_of(self, line: str) -> str:
        """Its endpoint."""
        return self.link_of(line).address.endpoint


def lines(page: Page, session: Session, request: Request) -> Any:
    """All lines, as they are now."""
    return [link.as_dict() for link in page.links]


def boards(page: Page, session: Session, request: Request) -> Any:
    """Boards that a search finds, the newest first."""
    rows = page.history.boards(_search(request))
    return [{**row, "outcome": outcome_on(page.history, row)[0]} for row in rows]


def _search(request: Request) -> Search:
    asked = request.query_params
    before = None
    if asked.get("before_line"):
        before = (number_in(asked, "before_at", 0), asked["before_line"], int(number_in(asked, "before_seq", 0)))
    return Search(
        line=asked.get("line", ""), unit=asked.get("unit", "")[:200], product=asked.get("product", ""),
        result=asked.get("result", ""), since=number_in(asked, "since", 0.0), until=number_in(asked, "until", 1e11),
        before=before, most=int(number_in(asked, "most", 100)),
    )  # fmt: skip


def number_in(asked: Any, name: str, default: float) -> float:
    """A number of a query; InputError for anything else."""
    try:
        found = float(asked.get(name) or default)
    except ValueError as error:
        raise InputError(
            expected=f"{name} as a number", received=str(asked.get(name))[:80], fix="correct it"
        ) from error
    if not abs(found) < 1e15:
        raise InputError(expected=f"{name} as a number", received=str(found), fix="correct it")
    return found


def board(page: Page, session: Session, request: Request) -> Any:
    """One board, its verdict and decisions."""
    line, epoch, seq = (request.path_params[name] for name in ("line", "epoch", "seq"))
    found = page.history.board(line, epoch, seq) if seq < MOST_SEQ else None
    if found is None:
        raise HTTPException(404, "no such board")
    return {**found, "missed": missed_on(page.history, line, epoch, seq)}


def _of_path(page: Page, request: Request) -> tuple[Boards, str, int, int]:
    path = request.path_params
    return page.boards[page.address_of(path["line"])], path["epoch"], path["seq"], path["camera"]


def picture(page: Page, session: Session, request: Request) -> Any:
    """Size and cameras of an archived board's picture."""
    boards, epoch, seq, camera = _of_path(page, request)
    pyramid = boards.pyramid(epoch, seq, camera, "frame")
    with boards.opened(epoch, seq) as board:
        views = [{"camera": view.camera, "evidence": bool(view.evidence)} for view in board.facts.views]
    h, w = pyramid.levels[0].shape[:2]
    return {"width": w, "height": h, "levels": len(pyramid.levels), "tile_px": TILE_PX, "views": views}


def tile(page: Page, session: Session, request: Request) -> Any:
    """A tile of a board's frame, golden board or map."""
    boards, epoch, seq, camera = _of_path(page, request)
    path = request.path_params
    data = boards.pyramid(epoch, seq, camera, path["kind"]).tile(path["level"], path["x"], path["y"])
    return Response(data, media_type="image/png" if data[:4] == b"\x89PNG" else "image/jpeg", headers=KEPT)


def _range(request: Request) -> Range:
    asked = request.query_params
    return Range(
        line=asked.get("line", ""), product=asked.get("product", ""), since=number_in(asked, "since", 0.0),
        until=number_in(asked, "until", 1e11),
    )  # fmt: skip


def statistics(page: Page, session: Session, request: Request) -> Any:
    """Figures over a time."""
    asked, step_s = _range(request), number_in(request.query_params, "step_s", 3600.0)
    if not 1 <= step_s <= 1e7:
        raise InputError(expected="step_s of 1 to 10,000,000", received=str(step_s), fix="correct it")
    return {
        **summary(page.history, asked, step_s), "pareto": pareto(page.history, asked),
        "heat": heat(page.history, asked), "drift": drift(page.history, asked),
    }  # fmt: skip


def fleet(page: Page, session: Session, request: Request) -> Any:
    """Figures of all lines of a fleet."""
    if not page.fleet:
        raise HTTPException(404, "this page knows no fleet")
    from hisir_edge.fleet.figures import fleet_figures

    days = number_in(request.query_params, "days", 7.0)
    return fleet_figures(page.fleet, round(days))


def csv(page: Page, session: Session, request: Request) -> Any:
    """All boards of a time as a table."""
    headers = {**FRESH, "content-disposition": 'attachment; filename="boards.csv"'}
    return StreamingResponse(csv_of(page.history, _search(request)), media_type="text/csv", headers=headers)


def coco(page: Page, session: Session, request: Request) -> Any:
    """Archived boards of a time, for labelling tools."""

    def fetch(line: str, epoch: str, seq: int) -> Any:
        of = next((link.address.endpoint for link in page.links if link.seen.name == line), None)
        if of is None and any(not link.seen.name for link in page.links):
            raise NoAnswer(
                expected="all lines to be heard, for an export of their boards", received="one that is not yet",
                fix="wait until it is",
            )  # fmt: skip
        if of is None:
            raise InputError(
                expected="a line that is followed", received=line, fix="follow it: --connect", code="unknown"
            )
        return page.boards[of].opened(epoch, seq)

    page.audit.add(session.user, "export", of="coco", asked=str(request.query_params)[:400])
    file, left_out = coco_of(page.history, _search(request), fetch)
    name = f"boards-{left_out}-left-out.zip" if left_out else "boards.zip"
    headers = {**FRESH, "content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces_of(file), media_type="application/zip", headers=headers)


def decide(page: Page, session: Session, body: dict[str, Any]) -> Any:
    """Keep a decision, and have it sent."""
    line, epoch, seq, defect = (body.get(name) for name in ("line", "epoch", "seq", "defect"))
    word, detail = body.get("verification"), body.get("detail", "")
    texts = all(isinstance(one, str) and is_name(one) for one in (line, epoch, detail))
    numbers = type(seq) is int and type(defect) is int and 0 <= seq < MOST_SEQ and 0 <= defect <= 256
    if not texts or not numbers or word not in VERIFICATIONS or len(str(detail)) > 200:
        raise InputError(expected="line, epoch, seq, defect and verification", received="others", fix="correct them")
    if not session.user:
        raise InputError(expected="who decides", received="nobody", fix="say who you are")
    if page.history.board(str(line), str(epoch), int(str(seq))) is None:
        raise HTTPException(404, "no such board")
    page.audit.add(session.user, "decide", line=line, epoch=epoch, seq=seq, defect=defect, verification=word)
    number = page.history.decide(
        str(line), str(epoch), int(str(seq)), int(str(defect)), str(word), str(detail), session.user
    )
    for link in page.links:
        if link.seen.name == line:
            link.wake()
    page.hub.tell("decision", {"line": line, "epoch": epoch, "seq": seq})
    return {"id": number}
