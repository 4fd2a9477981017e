"""A camera as a source: starts its process, takes frames from its ring, starts it again when it is lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from hisir_edge.camera.processes import how_it_ended, process_module, readable
from hisir_edge.camera.ring import FrameRing
from hisir_edge.config.sources import CameraTable, GenicamSource
from hisir_edge.errors import CameraError, InspectionError
from hisir_edge.images.pixels import pixels_from_buffer
from hisir_edge.records import Frame, GrabFault

log = structlog.get_logger()

OPEN_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 3.0
SILENCE_LIMIT_S = 5.0
MOST_RESTART_DELAY_S = 2.5
"""A camera that returns is found within 5 s: this, and what it takes to open it."""
MESSAGE_BYTES = 65536
MAX_SINGLE_FAULTS = 256


class GenicamCamera:
    """One GenICam camera, reached as ``settings.type`` says; frames and faults come in the camera's order."""

    def __init__(self, settings: CameraTable) -> None:
        self.settings, self.name = settings, settings.name
        self.attempts = 0
        self.stale = False
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None
        self.ring: FrameRing | None = None
        self.opened: dict[str, Any] = {}
        self.faults: deque[GrabFault] = deque()
        self.last_id = 0
        self.heard_at = 0.0
        self.restart_at = 0.0
        self.opening_until = 0.0

    def __enter__(self) -> GenicamCamera:
        """Open the camera; CameraError says what is wrong."""
        if isinstance(self.settings, GenicamSource) and not Path(self.settings.cti).is_file():
            raise CameraError(
                expected="source.cti to name a GenTL producer (a .cti file)",
                received=f"{self.settings.cti} (no such file)",
                fix="install the camera maker's producer and correct the path",
            )
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the camera's process and free the ring."""
        self._end()

    def next(self, timeout_s: float) -> Frame | GrabFault | None:
        """See ``Source.next``; a lost camera is one fault, then it is opened again until it answers."""
        if self.faults:
            return self.faults.popleft()
        if self.channel is None or self.opening_until:
            self._reopen(timeout_s)
            return None
        if not readable(self.channel, timeout_s):
            silent = time.monotonic() - self.heard_at
            return self._lose(f"camera process silent for {silent:.1f} s") if silent > SILENCE_LIMIT_S else None
        return self._take()

    @property
    def up(self) -> bool:
        """See ``Source.up``."""
        return self.ring is not None

    @property
    def frame_wh(self) -> tuple[int, int] | None:
        """See ``Source.frame_wh``."""
        return (self.opened["width"], self.opened["height"]) if self.opened else None

    @property
    def pixel_format(self) -> str | None:
        """See ``Source.pixel_format``."""
        return self.opened.get("pixel_format")

    @property
    def armed(self) -> bool:
        """See ``Source.armed``."""
        return not self.stale

    def trigger(self) -> None:
        """See ``Source.trigger``: the camera executes TriggerSoftware."""
        channel = self.channel
        try:
            if channel is None or not self.up:
                raise OSError("it is lost")
            channel.send(json.dumps({"kind": "trigger"}).encode())
        except OSError as error:
            wanted, fix = "the camera to take a trigger", "wait until it is back"
            raise CameraError(expected=wanted, received=str(error), fix=fix) from error

    def rearm(self) -> None:
        """See ``Source.rearm``: acquisition is stopped, buffers are flushed, and it starts again."""
        self.faults.clear()
        if self.up:
            self.stale = True
            self._send({"kind": "rearm"})

    def _take(self) -> Frame | GrabFault | None:
        message, _ = self._receive()
        self.heard_at = time.monotonic()
        return None if self._is_stale(message) else self._said(message)

    def _is_stale(self, message: dict[str, Any]) -> bool:
        """Whether a message is of the acquisition before ``rearm``, or says that it is over."""
        if message["kind"] == "rearmed":
            self.stale, self.last_id = False, 0
            return True
        if self.stale and message["kind"] in ("frame", "lost"):  # asked for before: it is for nobody now
            if message["kind"] == "frame":
                self._send({"kind": "free", "slot": message["slot"]})
            log.warning("stale frame dropped", camera=self.name, kind=message["kind"])
            return True
        return False

    def _said(self, message: dict[str, Any]) -> Frame | GrabFault | None:
        if message["kind"] == "frame":
            return self._frame(message)
        if message["kind"] == "lost":
            self.faults.extend(self._losses(message))
            self.last_id = message["last"]
            return self.faults.popleft()
        if message["kind"] == "failed":
            return self._lose(
                f"camera lost: expected {message['expected']}; got {message['received']}; {message['fix']}"
            )
        if message["kind"] == "ended":
            return self._lose(f"camera process ended ({how_it_ended(self.process, STOP_TIMEOUT_S)})")
        if message["kind"] == "note":
            log.warning(message["text"], camera=self.name)
        return None

    def _frame(self, message: dict[str, Any]) -> Frame | GrabFault:
        frame_id, opened, ring = message["id"], self.opened, self.ring
        self.last_id = frame_id
        try:
            if ring is None:
                raise InspectionError(expected="an open ring", received="none", fix="restart the daemon")
            slot = ring.slot(message["slot"])
            image = pixels_from_buffer(opened["pixel_format"], slot, opened["width"], opened["height"])
        except InspectionError as error:
            return self._fault(frame_id, str(error), message["time_ns"])
        finally:
            self._send({"kind": "free", "slot": message["slot"]})
        return Frame(
            image=image, source=self.settings.name, frame_id=frame_id, unit=self._unit(frame_id),
            grabbed_at_ns=message["time_ns"], device_timestamp_ns=message["device_ns"], white_share=message["white"],
        )  # fmt: skip

    def _losses(self, message: dict[str, Any]) -> list[GrabFault]:
        """One fault per lost frame; beyond ``MAX_SINGLE_FAULTS`` one fault that gives their number."""
        first, last, reason, time_ns = message["first"], message["last"], message["reason"], message["time_ns"]
        if (count := last - first + 1) > MAX_SINGLE_FAULTS:
            return [self._fault(last, f"{count} frames ({first}..{last}) {reason}", time_ns, count)]
        boards = message.get("boards", 1)
        return [self._fault(frame_id, reason, time_ns, boards) for frame_id in range(first, last + 1)]

    def _unit(self, frame_id: int) -> str:
        return f"{self.settings.name}-{frame_id:08d}"

    def _fault(self, frame_id: int, reason: str, time_ns: int, boards: int | None = 1) -> GrabFault:
        return GrabFault(
            source=self.settings.name, frame_id=frame_id, unit=self._unit(frame_id), reason=reason,
            grabbed_at_ns=time_ns, boards=boards,
        )  # fmt: skip

    def _start(self) -> None:
        """Start the process and wait for its ring; CameraError when it fails or does not answer."""
        self._launch()
        if self.channel is not None:
            self.channel.settimeout(OPEN_TIMEOUT_S)
        self._opened()

    def _launch(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [str(theirs.fileno()), str(os.getpid()), self.settings.model_dump_json()]
        command = [sys.executable, "-m", process_module(self.settings.type), *arguments]
        self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        theirs.close()
        self.channel = ours
        self.opening_until = time.monotonic() + OPEN_TIMEOUT_S

    def _opened(self) -> None:
        """Read what the process says first: the ring; CameraError for anything else."""
        self.opening_until = 0.0
        try:
            message, fds = self._receive()
        except TimeoutError:
            message, fds = {"kind": "silent"}, []
        if message["kind"] != "opened" or not fds:
            self._end()
            raise CameraError(
                expected=message.get("expected", "the camera's process to open it"),
                received=message.get("received", f"{message['kind']} after {OPEN_TIMEOUT_S:g} s at most"),
                fix=message.get("fix", "check the camera and its GenTL producer"),
            )
        self.opened = message
        self.ring = FrameRing(fds[0], message["slots"], message["slot_bytes"])
        self.heard_at, self.last_id, self.stale, self.attempts = time.monotonic(), 0, False, 0

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        if self.channel is None:
            return {"kind": "ended"}, []
        data, fds = b"", list[int]()
        for _ in range(2):  # it may have ended with messages of ours unread: what it said itself comes after the error
            with contextlib.suppress(ConnectionError):
                data, fds, _, _ = socket.recv_fds(self.channel, MESSAGE_BYTES, 1)
                break
        return (json.loads(data), fds) if data else ({"kind": "ended"}, fds)

    def _send(self, message: dict[str, Any]) -> None:
        if self.channel is not None:
            with contextlib.suppress(OSError):  # a process that is gone is noticed at the next receive
                self.channel.send(json.dumps(message).encode())

    def _lose(self, reason: str) -> GrabFault:
        self._end()
        self._plan_restart()
        log.error("camera lost", camera=self.settings.name, reason=reason)
        return self._fault(self.last_id + 1, reason, time.time_ns(), None)

    def _plan_restart(self) -> None:
        """Twice as long after each failure, up to ``MOST_RESTART_DELAY_S``, and never quite the same."""
        wait_s = min(self.settings.restart_delay_s * 2.0**self.attempts, MOST_RESTART_DELAY_S)
        wait_s = max(wait_s, self.settings.restart_delay_s)
        self.attempts += 1
        self.restart_at = time.monotonic() + wait_s * random.uniform(0.8, 1.0)  # noqa: S311  # not a secret

    def _reopen(self, timeout_s: float) -> None:
        """One step towards a camera that is there again; takes ``timeout_s`` at most, so that nothing waits for it."""
        wait = self.restart_at - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, timeout_s))
            return
        if self.channel is None:
            try:
                self._launch()
            except OSError as error:  # no process, no memory, no descriptor left: later, perhaps
                self._end()
                self._plan_restart()
                log.error("camera not back", camera=self.settings.name, reason=str(error))
                return
        if (channel := self.channel) is None:
            return
        if not readable(channel, timeout_s) and time.monotonic() < self.opening_until:
            return
        try:
            channel.settimeout(0.1)
            self._opened()
            log.info("camera back", camera=self.settings.name)
        except (CameraError, OSError) as error:
            self._end()
            self._plan_restart()
            log.error("camera not back", camera=self.settings.name, reason=str(error))

    def _end(self) -> None:
        ring, self.ring = self.ring, None  # first of all: from now on it is not up
        self.stale = False
        self._send({"kind": "stop"})
        if self.process is not None:
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.channel is not None:
            self.channel.close()
        if ring is not None:
            ring.close()
        self.process = self.channel = None
        self.opening_until = 0.0
