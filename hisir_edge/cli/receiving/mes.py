"""``hisir-edge watch``, ``forward``, ``verify``, ``keygen``: the side of those who receive verdicts."""

from __future__ import annotations

import os
import signal
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.errors import InputError
from hisir_edge.registry import SINKS

Endpoint = Annotated[str, typer.Argument(help="The daemon's publish.endpoint, such as tcp://127.0.0.1:5556.")]
Control = Annotated[str, typer.Option(help="The line's control.endpoint; default: what its heartbeats tell.")]
ServerKey = Annotated[str, typer.Option(help="The line's public key file, where it asks for keys.")]
Key = Annotated[str, typer.Option(help="Your secret key file.")]
State = Annotated[Path | None, typer.Option(help="Folder for the cursor; default: your state folder.")]
Beginning = Annotated[bool, typer.Option("--from-beginning", help="The first time: all that the journal holds.")]
Silence = Annotated[float | None, typer.Option(min=0.1, help="Exit with 1 when nothing comes for this long.")]
RETRIES_EACH_S = 10.0


To = Enum("To", {name: name for name in SINKS}, type=str)  # type: ignore[misc]
"""Where to."""


class Verification(str, Enum):
    """Decisions of an operator: CFX's VerificationResult."""

    confirmed = "DefectConfirmed"
    rejected = "DefectRejected"
    accepted = "DefectAccepted"
    none = "NotVerifiedYet"


def watch(
    endpoint: Endpoint,
    topic: Annotated[str, typer.Option(help="Only topics that begin so: verdict/LINE/RESULT.")] = "",
    count: Annotated[int, typer.Option(min=0, help="End after this many verdicts; 0: never.")] = 0,
    timeout_s: Silence = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    masks: Annotated[Path | None, typer.Option(help="Write the mask PNGs of failed boards into this folder.")] = None,
    name: Annotated[
        str, typer.Option(help="Remember under this name what was seen, and print what was missed since.")
    ] = "",
    state: State = None,
    from_beginning: Beginning = False,
    control: Control = "",
    server_key: ServerKey = "",
    key: Key = "",
) -> None:
    """Print verdicts as they come; with --name every one, also those that came while nobody watched."""
    from hisir_edge.cli.receiving.watch import watch_verdicts
    from hisir_edge.mes import subscribe

    stopped: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    stream = subscribe(
        endpoint, name, (state or state_folder()) if name else "", topic=topic, control=control, server_key=server_key,
        key=key, since="beginning" if from_beginning else "now", timeout_s=timeout_s, stop=lambda: bool(stopped),
        waiting=Retries(),
    )  # fmt: skip
    seen = watch_verdicts(stream, topic in ("", "verdict/"), count, as_json, masks, lambda: stopped.append(True))
    if timeout_s is not None and ((not stopped and not count) or seen < count):
        wanted = f"{seen} of {count} verdicts" if count else f"{seen} verdicts"
        print(f"hisir-edge: {wanted} came before {timeout_s:g} s of silence", file=sys.stderr)
        raise typer.Exit(1)


def forward(
    endpoint: Endpoint,
    to: Annotated[To, typer.Option(help="What to forward to.")],
    target: Annotated[
        str,
        typer.Option(
            help="A file; postgresql://USER@HOST/DATABASE; mqtt://HOST/TOPIC; https://HOST/PATH; amqp://HOST/ADDRESS."
        ),
    ],
    name: Annotated[
        str, typer.Option(help="Under which the line knows how far this is; default: forward-TO, with keys KEY.TO.")
    ] = "",
    state: State = None,
    from_beginning: Beginning = False,
    masks: Annotated[bool, typer.Option("--masks", help="Store masks, too (jsonl, sqlite, postgres).")] = False,
    count: Annotated[int, typer.Option(min=0, help="End after this many verdicts; 0: never.")] = 0,
    timeout_s: Silence = None,
    control: Control = "",
    server_key: ServerKey = "",
    key: Key = "",
) -> None:
    """Forward every verdict, in order, over restarts of all sides: to a file, a database, a broker, a web server."""
    from hisir_edge.mes import CursorFile, subscribe
    from hisir_edge.mes.sinks import opened
    from hisir_edge.mes.sinks.base import Target

    def end(*_: object) -> None:  # at any instant: what was put is stored, the rest comes again
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    state = state or state_folder()
    name = name or (f"{Path(key).stem}.{to.value}" if key else f"forward-{to.value}")
    if to.value == "jsonl" and "://" in target:
        raise InputError(expected="a file as --target", received=target, fix="correct --to or --target")
    stopped: list[bool] = []
    lock = CursorFile(state / f"{name}.{to.value}.lock")  # one of a name: the line knows how far a name is, not who
    seen = 0
    try:
        sink = opened(Target(to.value, target, name, state, masks, endpoint, control, (server_key, key)), Retries())
        failure = getattr(sink, "failure", lambda: None)
        stream = subscribe(
            endpoint, name, masks=masks, since="beginning" if from_beginning else "now", control=control,
            server_key=server_key, key=key, cursor=sink, timeout_s=timeout_s,
            stop=lambda: bool(stopped) or failure() is not None, waiting=Retries(),
        )  # fmt: skip
        try:
            for verdict in stream:
                sink.put(verdict)
                seen += 1
                if count and seen >= count:
                    stopped.append(True)
                    next(stream, None)  # this one is done with
                    break
            ended = failure()
        finally:
            stream.close()
    finally:
        lock.close()
    if ended is not None:
        raise ended
    print(f"{seen} verdict(s) forwarded")
    if timeout_s is not None and (not count or seen < count):
        raise typer.Exit(1)


def decide(
    endpoint: Annotated[str, typer.Argument(help="The line's control.endpoint, such as tcp://127.0.0.1:5557.")],
    verification: Annotated[Verification, typer.Argument(help="What was decided.")],
    seq: Annotated[int, typer.Option(min=1, help="The verdict's number, # in watch.")],
    operator: Annotated[str, typer.Option(help="Who decided.")],
    epoch: Annotated[str, typer.Option(help="The verdict's epoch; default: the line's present one.")] = "",
    defect: Annotated[int, typer.Option(min=0, help="The Priority of one defect; 0: the board.")] = 0,
    detail: Annotated[str, typer.Option(help="Why.")] = "",
    server_key: ServerKey = "",
    key: Key = "",
) -> None:
    """Record an operator's decision about a verdict: the line journals it and tells the subscribers."""
    from hisir_edge.transport.control_client import ask

    if not epoch:
        epoch = ask(endpoint, {"do": "replay", "most": 0}, server_key=server_key, key=key)["epoch"]
    request = {
        "do": "verify", "epoch": epoch, "seq": seq, "verification": verification.value, "operator": operator,
        "defect": defect, "detail": detail,
    }  # fmt: skip
    print(ask(endpoint, request, server_key=server_key, key=key)["id"])


def verify(
    endpoint: Annotated[str, typer.Argument(help="The line's control.endpoint, such as tcp://127.0.0.1:5557.")],
    verification: Annotated[Verification, typer.Argument(help="What was decided.")],
    seq: Annotated[int, typer.Option(min=1, help="The verdict's number, # in watch.")],
    operator: Annotated[str, typer.Option(help="Who decided.")],
    epoch: Annotated[str, typer.Option(help="The verdict's epoch; default: the line's present one.")] = "",
    defect: Annotated[int, typer.Option(min=0, help="The Priority of one defect; 0: the board.")] = 0,
    detail: Annotated[str, typer.Option(help="Why.")] = "",
    server_key: ServerKey = "",
    key: Key = "",
) -> None:
    """The old name of `decide`."""
    print("note: 'hisir-edge verify' is now called 'hisir-edge decide'", file=sys.stderr)
    decide(endpoint, verification, seq, operator, epoch, defect, detail, server_key, key)


def keygen(
    names: Annotated[list[str], typer.Argument(help="A name for the line, and one for each who may connect.")],
    out: Annotated[Path, typer.Option(help="Folder for the keys.")],
    roles: Annotated[
        str,
        typer.Option(help="What they may do: read, ack, verify, revise, control; a line's own key needs none of them."),
    ] = "read,ack",
) -> None:
    """Make keys for the security table: NAME.key is public, with the roles; NAME.key_secret is its owner's alone."""
    from hisir_edge.transport.curve_keys import write_keys

    for name in names:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise InputError(expected="names of letters, digits, - and _", received=name, fix="choose another")
    for path in write_keys(out, tuple(names), tuple(role.strip() for role in roles.split(",") if role.strip())):
        print(path)


class Retries:
    """Says why it waits, every now and then."""

    def __init__(self) -> None:
        self._at = -RETRIES_EACH_S

    def __call__(self, reason: str) -> None:
        """One more try is to come."""
        if time.monotonic() > self._at + RETRIES_EACH_S:
            self._at = time.monotonic()
            print(f"hisir-edge: waiting: {' '.join(reason.split())}", file=sys.stderr, flush=True)


def state_folder() -> Path:
    """Where a program of this user keeps what it has to remember."""
    if state := os.environ.get("STATE_DIRECTORY", ""):
        return Path(state.split(":", maxsplit=1)[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hisir-edge" / "subscribers"
