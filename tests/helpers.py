"""What several test files use; found by ``pythonpath`` in pyproject.toml."""

from __future__ import annotations

import contextlib
import io
import socket
import subprocess
import sys
import time
from unittest.mock import patch

import numpy as np

from hisir_edge.cli.main import main
from hisir_edge.images.pixels import Pixels
from hisir_edge.line.sockets.message import Provenance, VerdictMessage, message_from_judgement
from hisir_edge.mes import Verdict
from hisir_edge.records import Frame, Judgement, Region, Result


def here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command in this process, as ``main`` ends it: for refusals, which take seconds in a process of their own."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    command = ["hisir-edge", *map(str, arguments)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), patch.object(sys, "argv", command):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def free_port() -> int:
    """A port of this machine that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def facts(body: dict) -> dict:
    """What a message says, whatever its schema: ``seq``, ``unit``, ``result``, ``reason`` and so on."""
    v = Verdict(topic="", text=b"", mask=b"", body=body)
    views = [
        {"source": one["InspectionName"], "result": RESULT[one["Result"]]}
        for one in body["InspectedUnits"][0]["Inspections"]
    ]
    return {
        "epoch": v.epoch, "seq": v.seq, "unit": v.unit, "result": v.result, "reason": v.reason, "product": v.product,
        "bundle_sha256": v.bundle_sha256, "score": v.score, "defects": v.defects, "views": views,
        "grabbed_at": body["InspectedUnits"][0]["Inspections"][0]["vision"]["grabbed_at"], "frame_id": v.frame_id,
        "frame_wh": v.frame_wh,
    }  # fmt: skip


RESULT = {"Passed": "PASS", "Failed": "FAIL", "Error": "ERROR"}


def sample_message(
    seq: int, epoch: str = "0" * 32, fails: bool = False, unit: str = "", line: str = "l"
) -> VerdictMessage:
    """A message as the line makes them, of a frame of 8x6."""
    region = Region(
        box_xywh=(1, 2, 3, 2), area_px=6, peak=2.0, contour_xy=((1, 2), (3, 2), (3, 3), (1, 3)), confidence=97.5
    )
    mask = np.zeros((6, 8), bool)
    mask[2:4, 1:4] = fails
    found = (region,) if fails else ()
    reason = "1 region(s)" if fails else ""
    score = 2.0 if fails else 0.5
    judgement = Judgement(
        result=Result.FAIL if fails else Result.PASS,
        reason=reason,
        score=score,
        regions=found,
        regions_total=len(found),
        mask=mask,
    )
    frame = Frame(
        image=Pixels(np.zeros((6, 8, 3), np.uint8)),
        source="cam",
        frame_id=seq,
        unit=unit or f"unit-{seq}",
        grabbed_at_ns=time.time_ns(),
    )
    return message_from_judgement(
        Provenance(line=line, epoch=epoch, product="p", bundle_sha256="a" * 64), seq, frame, judgement
    )


def greet(raw: socket.socket) -> None:
    """ZMTP 3.1 (https://rfc.zeromq.org/spec/37) with the NULL mechanism, as a DEALER."""
    raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31))
    assert len(received(raw, 64)) == 64
    ready = b"\x05READY\x0bSocket-Type" + (6).to_bytes(4, "big") + b"DEALER"
    raw.sendall(b"\x04" + bytes([len(ready)]) + ready)
    flags, size = received(raw, 2)
    assert flags == 4
    received(raw, size)


def received(raw: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    got = b""
    while len(got) < count:
        part = raw.recv(count - len(got))
        assert part
        got += part
    return got
