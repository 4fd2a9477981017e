"""Everything that reads what others send, as functions of bytes: nothing but the errors that are meant may come out."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import zmq
from support.messages import sample_message

from hisir_edge.config.from_files import CallsSource
from hisir_edge.config.kept import JournalTable
from hisir_edge.config.sockets import ControlTable, SecurityTable
from hisir_edge.errors import InputError
from hisir_edge.line.hermes.protocol import Channel, Decoder, HermesError, Receiver
from hisir_edge.line.journal.outbox import Outbox
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.reporting.answers import AnswerFolder
from hisir_edge.line.sockets.calls import CallsSocket
from hisir_edge.line.sockets.commands import commands
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import ControlSocket
from hisir_edge.line.sockets.publish import Publisher
from hisir_edge.mes import verdict_from_frames
from hisir_edge.mes.follow import Line
from hisir_edge.transport.control_client import Asker
from hisir_edge.transport.curve_keys import clients_from_folder
from hisir_edge.transport.run_lengths import runs_of_rle

SPLIT = b"\x00|\x00"
"""Between the frames of a message of many."""


class Targets:
    """Open from entry to exit: a journal with some verdicts, a control socket that is not bound."""

    def __enter__(self) -> Targets:
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        journal = self._stack.enter_context(Journal(self.folder / "journal", JournalTable(synchronous="NORMAL")))
        outbox = Outbox(journal, lambda frames, *_: None)
        for seq in range(1, 6):
            outbox.put(sample_message(seq, journal.epoch, seq == 3), seq, lambda m: None)
        outbox.close()
        intake = SimpleNamespace(
            pause=lambda: None, resume=lambda: None, select=lambda p: None, announce=lambda i: 1,
            trigger=lambda i: SimpleNamespace(seq=1, unit="u"), last_seq=5, name_of=lambda i: i.unit,
        )  # fmt: skip
        line = SimpleNamespace(
            epoch=journal.epoch, intake=intake, arrivals=SimpleNamespace(stands=lambda i: 1),
            waiting=SimpleNamespace(announced=1),
            pipeline=SimpleNamespace(waiting=0),
            state=SimpleNamespace(status=lambda epoch, hermes: {}, draining=Event()),
            selection=SimpleNamespace(
                product="p", products=SimpleNamespace(settings=SimpleNamespace(
                    line=SimpleNamespace(name="l"), source=SimpleNamespace(name="camera"))),
            ),
        )  # fmt: skip
        hermes = SimpleNamespace(state="")
        wire = Wire(SecurityTable())
        wire.guard = SimpleNamespace(connections=0)  # type: ignore[assignment]
        revising = SimpleNamespace(
            store=None, in_use=0, as_dict=lambda most: {}, revise=lambda *_: 1, add=lambda *_: 1,
            activate=lambda *_: None, take_back=lambda *_: 0,
        )  # fmt: skip
        known = commands(
            line, hermes, journal, wire, Event(), lambda topic, body: None, None, revising  # type: ignore[arg-type]
        )  # fmt: skip
        self.control = ControlSocket(ControlTable(), wire, known)
        self.epoch, self.wire = journal.epoch, wire
        source = CallsSource(type="calls", folder=str(self.folder / "calls"), listen="tcp://127.0.0.1:1")
        self.calls = CallsSocket(source, wire, AnswerFolder(source, journal))
        self.calls._spool = lambda *_: None  # type: ignore[method-assign]  # the disk is not looked for faults
        self.answered: list[dict] = []
        self.calls._send = lambda envelope, found: self.answered.append(found)  # type: ignore[method-assign]
        self.all: dict[str, Callable[[bytes], None]] = {
            "request": self.request, "verdict": self.verdict, "heartbeat": self.heartbeat, "answer": self.answer,
            "mask": self.mask, "key": self.key, "subscription": self.subscription, "hermes": self.hermes,
            "delivery": self.delivery,
        }  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seeds(self) -> dict[str, list[bytes]]:
        """What is meant, to be changed."""
        message = sample_message(3, self.epoch, True)
        told = {
            "schema": "hisir-edge/heartbeat/1.0",
            "line": "l",
            "epoch": self.epoch,
            "seq": 5,
            "control": "tcp://*:5",
        }
        asked = [
            {"do": "replay", "epoch": self.epoch, "after": 1, "most": 3, "masks": False}, {"do": "status"},
            {"do": "snapshot", "camera": "cam", "unit": "unit-3", "after": 0}, {"do": "decisions", "after": 0},
            {"do": "ack", "name": "mes-1", "epoch": self.epoch, "seq": 3}, {"do": "forget", "name": "mes-1"},
            {"do": "verify", "epoch": self.epoch, "seq": 3, "defect": 1, "verification": "DefectRejected",
             "operator": "o", "detail": "d"},
            {"do": "revisions", "most": 5}, {"do": "add_revision", "bundle": "/b", "who": "w", "why": "y"},
            {"do": "revise", "of_sha256": "0" * 64, "strength": 1.1, "who": "w", "why": "y",
             "comparison": {"boards": 2},
             "zones": [{"name": "z", "polygon": [[0, 0], [9, 0], [9, 9]], "sensitivity": 0.5}]},
            {"do": "activate", "number": 1, "who": "w", "why": "y"}, {"do": "take_back", "who": "w", "why": "y"},
            {"do": "trigger", "unit": "B", "product": "p"}, {"do": "announce", "arrived": True},
            {"do": "select", "product": "p"},
        ]  # fmt: skip
        answers = [json.dumps({"ok": True, "epoch": self.epoch, "first": 3, "count": 1, "seq": 5}).encode()]
        hermes = b'<Hermes Timestamp="2026-01-02T03:04:05"><BoardAvailable BoardId="b" FailedBoard="0"/></Hermes>'
        return {
            "request": [json.dumps(one).encode() for one in asked],
            "verdict": [SPLIT.join(message.frames())],
            "heartbeat": [SPLIT.join([b"heartbeat/l", json.dumps(told).encode()])],
            "answer": [SPLIT.join([*answers, *message.frames()]), b'{"ok": false, "expected": "a", "received": "b"}'],
            "mask": [message.rle()], "subscription": [b"\x01verdict/", b"\x00verdict/", b"\x01"],  # type: ignore[misc]
            "key": [b'metadata\n    roles = "read ack"\ncurve\n    public-key = "' + b"k" * 40 + b'"\n'],
            "hermes": [hermes],
            "delivery": [
                SPLIT.join([b'{"name": "a.json", "files": ["a.png"]}', b'{"calls": [%s]}' % call, b"x"])
                for call in (b'{"id": 1, "x": 2, "y": 3, "w": 4, "h": 5, "truth": "real"}',
                             b'{"id": "1", "x": 2, "y": 3, "w": 4, "h": 5, "crop": "a.png", "crop_x": 1}')
            ] + [SPLIT.join([b'{"name": "a.csv", "wait": true}', b"id,x,y,w,h,class\n1,2,3,4,5,k\n"])],
        }  # fmt: skip

    def request(self, data: bytes) -> None:
        answer = self.control.answer(data)
        assert answer["ok"] in (True, False)
        assert answer.get("fix") != "report this", answer
        answer.pop("frames", None)
        assert len(json.dumps(answer)) < 100_000

    def delivery(self, data: bytes) -> None:
        self.answered.clear()
        self.calls._waiting.clear()
        self.calls._one([b"who", b"", *data.split(SPLIT)])
        assert len(self.answered) + len(self.calls._waiting) == 1, "each has an answer, now or later"
        assert not self.answered or self.answered[0]["ok"] in (True, False)

    def verdict(self, data: bytes) -> None:
        with contextlib.suppress(InputError):
            verdict_from_frames(data.split(SPLIT))

    def heartbeat(self, data: bytes) -> None:
        with contextlib.suppress(InputError):
            Line("tcp://127.0.0.1:5", "", "", "", True, None, lambda: False, lambda reason: None)._take_heartbeat(
                data.split(SPLIT)
            )

    def answer(self, data: bytes) -> None:
        frames = data.split(SPLIT)
        asker = Asker("tcp://127.0.0.1:1")
        asker._socket = SimpleNamespace(  # type: ignore[assignment]
            send=lambda *_: None, poll=lambda *_: True, recv_multipart=lambda: list(frames), close=lambda linger: None
        )
        try:
            with contextlib.suppress(InputError):
                _, rest = asker.ask({"do": "replay"})
                for n in range(0, len(rest), 3):
                    verdict_from_frames(rest[n : n + 3])
        finally:
            asker._socket = None
            asker.close()

    def mask(self, data: bytes) -> None:
        with contextlib.suppress(InputError):
            for count, _ in enumerate(runs_of_rle(data)):
                if count > 10_000:
                    break

    def key(self, data: bytes) -> None:
        path = self.folder / "keys" / "x.key"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        clients_from_folder(path.parent)

    def subscription(self, data: bytes) -> None:
        events = [data]
        publisher = Publisher.__new__(Publisher)
        publisher._events, publisher._counted_since = Counter(), 0.0
        publisher._prefixes, publisher.wire = Counter({"verdict/": 1}), self.wire
        publisher._open = SimpleNamespace(poll=lambda *_: bool(events), recv=lambda copy: zmq.Frame(events.pop()))  # type: ignore[assignment]
        publisher._take_in(0)
        publisher._asked_for(b"rle/l/PASS")

    def hermes(self, data: bytes) -> None:
        receiver = Receiver("m", 1, lambda board: None)
        receiver.connected()
        receiver.state = Channel.NOT_AVAILABLE_NOT_READY
        with contextlib.suppress(HermesError):
            for message in Decoder().feed(data):
                receiver.on(message)
                receiver.ready(True)
