"""Requests to the control socket, and the role that each takes (docs/reference/control-socket.md)."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import structlog

from hisir_edge.archive.folder import ArchiveFolder
from hisir_edge.errors import InputError, TryLater
from hisir_edge.labels import canonical
from hisir_edge.line.assembly import InspectionLine
from hisir_edge.line.hermes.link import HermesLink
from hisir_edge.line.journal.records import Decision, Entry
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.revising import Revising
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import FRAMES, Answer, Command
from hisir_edge.line.sockets.message import NOT_VERIFIED, utc
from hisir_edge.line.sockets.requests import count_of, flag_of, only, text_of
from hisir_edge.line.sockets.revised import revision_commands
from hisir_edge.line.sockets.stored import stored_commands
from hisir_edge.line.triggers import Identity
from hisir_edge.mes.verdict import verdict_from_frames
from hisir_edge.transport.curve_keys import Client

log = structlog.get_logger()

MOST_REPLAYED = 256
VERIFICATIONS = ("DefectConfirmed", "DefectRejected", "DefectAccepted", NOT_VERIFIED)
"""CFX's VerificationResult; the last takes a decision back."""
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
DECISION_SCHEMA = "hisir-edge/verification/1.0"
Tell = Callable[[str, dict[str, Any]], None]


class Flag(Protocol):
    """Something that is set."""

    def set(self) -> None:
        """Set it."""


def commands(
    line: InspectionLine, hermes: HermesLink, journal: Journal, wire: Wire, reload: Flag, tell: Tell,
    archive: ArchiveFolder | None, revising: Revising,
) -> dict[str, Command]:  # fmt: skip
    """All of them by name. ``reload`` is set for a reload; ``tell`` publishes a topic and a JSON object."""
    out = {name: Command("control", answer) for name, answer in _of_the_line(line, reload).items()}
    stored = _of_the_journal(line, journal, tell) | stored_commands(line, archive, revising.store, journal.epoch)
    stored |= revision_commands(line, revising)
    for role, names in (
        ("read", ("replay", "snapshot", "decisions", "archived", "archived_board", "bundle_file", "revisions")),
        ("ack", ("ack",)),
        ("verify", ("verify",)),
        ("revise", ("revise", "add_revision", "activate", "take_back")),
        ("control", ("forget",)),
    ):  # fmt: skip
        out |= {name: Command(role, stored[name], beside=True) for name in names}

    def status(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request)
        try:
            cursors = journal.cursors()
        except sqlite3.Error:  # what is wrong with the journal is what status is asked for: journal_error
            cursors = {}
        return line.state.status(line.epoch, hermes.state) | {
            "acknowledged": cursors, "connections": wire.guard.connections, "refused": dict(wire.refusals.counts),
            "archive": None if archive is None else dict(zip(("boards", "bytes"), archive.size, strict=True)),
            "revision": revising.in_use,
        }  # fmt: skip

    return out | {"status": Command("read", status, beside=True)}


def _of_the_line(line: InspectionLine, reload: Flag) -> dict[str, Answer]:
    def identity(request: dict[str, Any], *more: str) -> Identity:
        only(request, "unit", "product", *more)
        return Identity(text_of(request, "unit"), text_of(request, "product"))

    def trigger(request: dict[str, Any], client: Client) -> dict[str, Any]:
        accepted = line.intake.trigger(identity(request))
        return {"seq": accepted.seq, "unit": accepted.unit, "epoch": line.epoch}

    def announce(request: dict[str, Any], client: Client) -> dict[str, Any]:
        named = identity(request, "arrived")
        if not flag_of(request, "arrived", default=False):
            return {"announced": line.intake.announce(named)}
        token = line.arrivals.stands(named)
        return {"announced": line.waiting.announced, "epoch": line.epoch, "token": token}

    def numbered(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "token")
        return {"epoch": line.epoch, "seq": line.intake.seq_of(count_of(request, "token", 0, 2**53))}

    def select(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "product")
        line.intake.select(text_of(request, "product", required=True))
        return {"product": line.selection.product}

    def pause(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request)
        line.intake.pause()
        return {}

    def resume(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request)
        line.intake.resume()
        return {}

    def drain(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request)
        line.state.draining.set()
        return {"in_flight": line.pipeline.waiting}

    def reload_(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request)
        reload.set()
        return {}

    return {
        "trigger": trigger, "announce": announce, "numbered": numbered, "select": select, "pause": pause,
        "resume": resume, "drain": drain, "reload": reload_,
    }  # fmt: skip


def _of_the_journal(line: InspectionLine, journal: Journal, tell: Tell) -> dict[str, Answer]:
    def answered(found: list[Entry], last: int, masks: bool = True) -> dict[str, Any]:
        if masks:
            frames = [frame for entry in found for frame in entry.frames()]
        else:
            frames = [frame for entry in found for frame in (entry.topic.encode(), entry.body, b"")]
        first = found[0].seq if found else 0
        return {
            "epoch": journal.epoch, "first": first, "count": len(found), "seq": last, "reached": journal.last_seq,
            FRAMES: frames,
        }  # fmt: skip

    def replay(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "epoch", "after", "most", "masks")
        masks = flag_of(request, "masks", True)
        epoch, after = text_of(request, "epoch"), count_of(request, "after", 0, 2**62)
        if epoch and epoch != journal.epoch:
            after = 0  # numbers of a journal that is gone: this one from its beginning
        with _readable():
            found = journal.entries(after, count_of(request, "most", MOST_REPLAYED, MOST_REPLAYED))
            return answered(found, journal.last_verdict(), masks)

    def snapshot(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "camera", "unit", "after", "most")
        camera, unit = text_of(request, "camera"), canonical(text_of(request, "unit"))
        after, most = count_of(request, "after", 0, 2**62), count_of(request, "most", MOST_REPLAYED, MOST_REPLAYED)
        with _readable():
            last = journal.last_verdict()
            found = journal.snapshot(camera, unit, after, most)
            decided = journal.decisions(seqs=[entry.seq for entry in found], most=10 * MOST_REPLAYED)
        return answered(found, last) | {"decisions": [_as_json(d, journal.epoch) for d in decided]}

    def decisions(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "after", "most")
        after, most = count_of(request, "after", 0, 2**62), count_of(request, "most", MOST_REPLAYED, MOST_REPLAYED)
        with _readable():
            found = journal.decisions(after, most)
        return {"epoch": journal.epoch, "decisions": [_as_json(d, journal.epoch) for d in found]}

    def ack(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "name", "epoch", "seq")
        name = name_of(request, client)
        _check_epoch(request, journal)
        with _readable():
            return {"name": name, "seq": journal.acknowledge(name, count_of(request, "seq", 0, 2**62), client.name)}

    def forget(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "name")
        with _readable():
            return {"known": journal.forget_name(text_of(request, "name", required=True))}

    def verify(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "epoch", "seq", "defect", "verification", "detail", "operator")
        _check_epoch(request, journal)
        said = text_of(request, "verification", required=True)
        if said not in VERIFICATIONS:
            raise InputError(
                expected=f"verification out of {', '.join(VERIFICATIONS)}", received=said, fix="correct the request"
            )
        decision = Decision(
            seq=count_of(request, "seq", 0, 2**62),
            defect=count_of(request, "defect", 0, 256),
            verification=said,
            detail=text_of(request, "detail"),
            operator=text_of(request, "operator", required=True),
            client=client.name,
            at_ns=time.time_ns(),
        )
        with _readable():
            _check_defect(journal, decision)
            number = journal.decide(decision)
        told = _as_json(decision, journal.epoch) | {"id": number}
        try:
            tell(f"verification/{line.selection.products.settings.line.name}", {"schema": DECISION_SCHEMA, **told})
        except Exception as error:  # it is in the journal, where it can be asked for
            log.exception("decision not published", id=number, reason=str(error))
        return {"id": number}

    return {
        "replay": replay, "snapshot": snapshot, "decisions": decisions, "ack": ack, "forget": forget, "verify": verify
    }  # fmt: skip


def name_of(request: dict[str, Any], client: Client) -> str:
    """The name under which a client acknowledges; with keys, its key's name, or that name and more: mes-1.night."""
    name = text_of(request, "name", required=True)
    if not NAME.fullmatch(name):
        raise InputError(
            expected="a name of up to 64 letters, digits, dots, - and _", received=name[:80], fix="choose another"
        )
    if client.name and name != client.name and not name.startswith(f"{client.name}."):
        raise InputError(
            expected=f"the name {client.name}, which is this key's, or {client.name}.MORE",
            received=name,
            fix="acknowledge under it",
        )
    return name


def _check_defect(journal: Journal, decision: Decision) -> None:
    """InputError for a defect that its verdict does not list: a mistaken number is no decision."""
    found = journal.entries(decision.seq - 1, 1)
    if not decision.defect or not found or found[0].seq != decision.seq:
        return
    listed = len(verdict_from_frames(found[0].frames()).defects)
    if decision.defect > listed:
        raise InputError(
            expected=f"defect from 1 to {listed} of verdict {decision.seq}" if listed else "defect 0, the board",
            received=str(decision.defect),
            fix="look at the verdict's Priority and its number",
            code="unknown",
        )


def _check_epoch(request: dict[str, Any], journal: Journal) -> None:
    epoch = text_of(request, "epoch", required=True)
    if epoch != journal.epoch:
        raise InputError(
            expected=f"the epoch {journal.epoch}",
            received=epoch,
            fix="take it from the verdict; another epoch's verdicts are not in this journal",
            code="unknown",
        )


def _as_json(decision: Decision, epoch: str) -> dict[str, Any]:
    return {
        "id": decision.id, "epoch": epoch, "seq": decision.seq, "defect": decision.defect,
        "Verification": decision.verification, "VerificationDetail": decision.detail, "operator": decision.operator,
        "client": decision.client, "TimeStamp": utc(decision.at_ns),
    }  # fmt: skip


@contextmanager
def _readable() -> Iterator[None]:
    """TryLater for SQLite's errors."""
    try:
        yield
    except sqlite3.Error as error:
        raise TryLater(
            expected="a journal that can be read and written",
            received=str(error),
            fix="see the log",
            code="journal",
        ) from error
