"""Receives verdicts over ZeroMQ and notices when some were missed. Needs pyzmq and the standard library."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import zmq

from hisir_edge.addresses import port_of
from hisir_edge.errors import InputError


@dataclass(frozen=True, slots=True)
class Received:
    """One verdict off the wire; ``missed`` verdicts of this publisher did not arrive before it."""

    topic: str
    body: dict[str, Any]
    mask_png: bytes = field(repr=False)
    missed: int


def received_from_frames(frames: list[bytes], last_seq: dict[tuple[str, str], int]) -> Received:
    """Decode ``topic | JSON | mask PNG`` and compare its number with the last of its line and epoch.

    ``last_seq`` is updated. InputError for anything that is not a verdict.
    """
    try:
        topic, text, mask = frames
        body = json.loads(text)
        line, epoch, seq = str(body["line"]), str(body["epoch"]), int(body["seq"])
        name = topic.decode()
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            expected="a verdict (topic, JSON, mask)",
            received=f"{len(frames)} frame(s) that are none: {error}",
            fix="check the address",
        ) from error
    before = last_seq.get((line, epoch))
    last_seq[line, epoch] = seq
    return Received(name, body, mask, 0 if before is None else max(seq - before - 1, 0))


def subscribe(
    endpoint: str,
    topic: str = "verdict/",
    timeout_s: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Received, None, None]:
    """Yield verdicts as they come, until ``stop`` or until none has come for ``timeout_s``.

    Closing the generator closes the socket. InputError for an address that ZeroMQ does not take.
    """
    if endpoint.startswith("tcp://") and not port_of(endpoint):
        raise InputError(
            expected="an address with a port from 1 to 65535, such as tcp://127.0.0.1:5556",
            received=endpoint,
            fix="correct it",
        )
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 100_000)
        socket.setsockopt_string(zmq.SUBSCRIBE, topic)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise InputError(
                expected="an address such as tcp://127.0.0.1:5556",
                received=f"{endpoint} ({error.strerror})",
                fix="correct it",
            ) from error
        last_seq: dict[tuple[str, str], int] = {}
        heard = time.monotonic()
        while not stop():
            if not socket.poll(200):
                if timeout_s is not None and time.monotonic() - heard > timeout_s:
                    return
                continue
            heard = time.monotonic()
            yield received_from_frames(socket.recv_multipart(), last_seq)
    finally:
        socket.close()
        context.term()
