"""Asks a line's control socket (docs/protocol.md). Needs pyzmq and the standard library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zmq
import zmq.auth

from hisir_edge.errors import InputError, NoAnswer


def ask(
    endpoint: str, request: dict[str, Any], timeout_s: float = 5.0, server_key: str = "", key: str = ""
) -> dict[str, Any]:
    """The answer to ``{"do": ...}`` without the frames that may follow it; see ``ask_frames``."""
    return ask_frames(endpoint, request, timeout_s, server_key, key)[0]


def ask_frames(
    endpoint: str, request: dict[str, Any], timeout_s: float = 5.0, server_key: str = "", key: str = ""
) -> tuple[dict[str, Any], list[bytes]]:
    """The answer to ``{"do": ...}`` and the frames behind it (``replay``: topic, JSON, mask of each verdict).

    NoAnswer where none comes; InputError where the line refuses, in its own words, and for addresses and keys that are
    none.

    ``server_key``: file with the line's public key, ``key``: file with the caller's secret key, both where the line
    asks for keys (CURVE).
    """
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        if server_key:
            socket.curve_serverkey = _keys(server_key)[0]
            socket.curve_publickey, secret = _keys(key)
            if secret is None:
                raise InputError(expected="a secret key (*.key_secret)", received=key, fix="correct --key")
            socket.curve_secretkey = secret
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise InputError(
                expected="an address such as tcp://127.0.0.1:5557", received=f"{endpoint} ({error})", fix="correct it"
            ) from error
        socket.send(json.dumps(request).encode())
        if not socket.poll(int(timeout_s * 1000), zmq.POLLIN):
            raise NoAnswer(
                expected=f"an answer from {endpoint} within {timeout_s:g} s",
                received="none",
                fix="check that the line runs and its control.endpoint, and the keys where it asks for them",
            )
        head, *frames = socket.recv_multipart()
        answer: dict[str, Any] = json.loads(head)
    finally:
        socket.close()
        context.term()
    if not answer.pop("ok"):
        raise InputError(expected=answer["expected"], received=answer["received"], fix=answer["fix"])
    return answer, frames


def _keys(file: str) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(file)
    except (OSError, ValueError) as error:
        raise InputError(
            expected="a key file that hisir-edge keys wrote", received=f"{file}: {error}", fix="correct it"
        ) from error


def write_keys(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Make a pair of CURVE keys for each name: NAME.key (public) and NAME.key_secret (for its owner alone).

    InputError where one is there already: nobody's key is replaced.
    """
    there = [name for name in names if (folder / f"{name}.key").exists() or (folder / f"{name}.key_secret").exists()]
    if there:
        raise InputError(expected="new names", received=f"{there[0]} in {folder}", fix="choose another, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        public, secret = zmq.auth.create_certificates(str(folder), name)
        Path(secret).chmod(0o600)
        written += [Path(public), Path(secret)]
    return written
