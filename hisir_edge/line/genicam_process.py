"""The camera's own process: fetches with harvesters and puts frames into the shared ring.

A process, because ``fetch`` holds the GIL (https://github.com/genicam/harvesters/issues/508). The
default acquisition mode is used, never ``run_as_thread`` (it ignores the timeout). Lost frames show
only as gaps in the frame id, so every id is followed; ``try_fetch`` returns None for a timeout and
for an incomplete frame alike, and the gap tells the two apart.

Run by ``genicam.py`` as ``python -m hisir_edge.line.genicam_process FD PARENT_PID JSON``; talks over a
SOCK_SEQPACKET socket in JSON, and passes the ring's descriptor with the first message.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from hisir_edge.line.frame_clock import FrameClock
from hisir_edge.line.pixels import CONVERSIONS
from hisir_edge.line.ring import FrameRing
from hisir_edge.line.sfnc import ExposureCheck, SetupError, drift, profile_of, set_up, text_of
from hisir_edge.processes import die_with_parent

POLL_S = 0.25
TRIGGERED_POLL_S = 0.02
"""Between two frames that were asked for the camera's process listens so often."""
MOST_DRIFT = 3
LAST_16_BIT_ID = 65535
"""GigE Vision 1.x counts frames in 16 bits and leaves out 0 (GVSP block id)."""


def _open(settings: dict[str, Any]) -> tuple[Any, Any]:
    """(harvester, image acquirer) of the wanted device, features set and read back."""
    from harvesters.core import Harvester

    harvester = Harvester()
    try:
        harvester.add_file(settings["cti"], check_existence=True, check_validity=True)
        harvester.update()
    except Exception as error:
        raise SetupError(
            "a loadable GenTL producer",
            f"{settings['cti']}: {error}",
            "check source.cti and the producer's own libraries",
        ) from error
    devices = harvester.device_info_list
    if not devices:
        raise SetupError("a camera", f"none found by {settings['cti']}", "check power, cable and the camera's address")
    if settings["device"] >= len(devices):
        raise SetupError(
            f"source.device below {len(devices)}", str(settings["device"]), "choose one of the cameras found"
        )
    try:
        acquirer = harvester.create(settings["device"])
    except Exception as error:
        raise SetupError("to open the camera", str(error), "close the other program that uses it") from error
    set_up(acquirer.remote_device.node_map, settings)
    return harvester, acquirer


class Grabber:
    """One camera's loop; everything it says goes through ``outbox`` in the camera's order."""

    def __init__(self, channel: socket.socket, acquirer: Any, settings: dict[str, Any]) -> None:
        self.channel, self.acquirer = channel, acquirer
        slots, triggered = settings["ring_slots"], settings["trigger"] == "software"
        self.clock = FrameClock(settings.get("late_ms", 0.0))
        node_map = acquirer.remote_device.node_map
        self.width, self.height = int(node_map.Width.value), int(node_map.Height.value)
        self.pixel_format = str(node_map.PixelFormat.value)
        channels = CONVERSIONS[self.pixel_format][0]
        self.exposure = ExposureCheck(node_map, settings)
        self.ring = FrameRing.create(slots, self.width * self.height * channels)
        self.free = deque(range(slots))
        self.outbox: deque[dict[str, Any]] = deque()
        self.last_id: int | None = None
        self.stopped = False
        self.poll_s = TRIGGERED_POLL_S if triggered else POLL_S
        self.told_at = 0.0

    def run(self) -> None:
        """Announce the ring, then fetch until told to stop or the parent is gone."""
        opened = {
            "kind": "opened", "width": self.width, "height": self.height, "pixel_format": self.pixel_format,
            "slots": self.ring.slots, "slot_bytes": self.ring.slot_bytes,
        }  # fmt: skip
        socket.send_fds(self.channel, [json.dumps(opened).encode()], [self.ring.fd])
        self.channel.setblocking(False)
        self.acquirer.start()
        try:
            while not self.stopped:
                self._listen()
                self._fetch_one()
                self._talk()
        finally:
            self.acquirer.stop()

    def _listen(self) -> None:
        while True:
            try:
                data = self.channel.recv(4096)
            except BlockingIOError:
                return
            if not data:
                self.stopped = True
                return
            message = json.loads(data)
            if message["kind"] == "free":
                self.free.append(message["slot"])
            elif message["kind"] == "trigger":
                self.acquirer.remote_device.node_map.TriggerSoftware.execute()
            elif message["kind"] == "rearm":
                self._rearm()
            else:
                self.stopped = True
                return

    def _rearm(self) -> None:
        """Stop, throw away what was on its way, start again; what was queued for the line is dropped there."""
        self.acquirer.stop()
        self.acquirer.start()
        self.last_id = None
        self.clock.forget()
        self.outbox.append({"kind": "rearmed"})

    def _fetch_one(self) -> None:
        buffer = self.acquirer.try_fetch(timeout=self.poll_s)
        if buffer is None:
            if not self.outbox and time.monotonic() > self.told_at + POLL_S:
                self.told_at = time.monotonic()
                self.outbox.append({"kind": "alive"})
            return
        with buffer:
            now = time.time_ns()
            frame_id = int(buffer.module.frame_id)
            if not self._follow(frame_id, now):
                return
            components = buffer.payload.components
            data = components[0].data if components else None
            if data is None or data.nbytes != self.ring.slot_bytes:
                got = 0 if data is None else data.nbytes
                self._lost(frame_id, frame_id, f"incomplete frame: {got} of {self.ring.slot_bytes} bytes", now)
                return
            device_ns = _timestamp(buffer)
            if wrong := self.clock.wrong(device_ns, now) or self.exposure.wrong():
                self._lost(frame_id, frame_id, wrong, now)
                return
            if not self.free:
                self._lost(frame_id, frame_id, "overrun: the line inspects slower than the camera sends", now)
                return
            slot = self.free.popleft()
            self.ring.slot(slot)[:] = data.view("uint8").ravel()
            self.outbox.append({"kind": "frame", "slot": slot, "id": frame_id, "time_ns": now, "device_ns": device_ns})

    def _follow(self, frame_id: int, now: int) -> bool:
        """Compare a frame id with the last one; false when this frame has been seen already."""
        last, self.last_id = self.last_id, frame_id
        if last is None or frame_id == last + 1:
            return True
        if last == frame_id:
            self._lost(frame_id, frame_id, f"repeated frame: id {frame_id} after {last}", now, boards=0)
            return False
        if frame_id > last:
            self._lost(last + 1, frame_id - 1, "lost between camera and PC (gap in the frame ids)", now)
            return True
        if last == LAST_16_BIT_ID and frame_id <= 1:
            return True
        # smaller for any other reason: the camera began anew, how many were lost is unknown
        self._lost(frame_id, frame_id, f"frame ids went back: id {frame_id} after {last}", now, boards=None)
        return False

    def _lost(self, first: int, last: int, reason: str, now: int, boards: int | None = 1) -> None:
        """Queue a loss; a run of them is one entry, so that the outbox cannot grow without bound."""
        tail = self.outbox[-1] if self.outbox else None
        if tail is not None and tail["kind"] == "lost" and tail["reason"] == reason and tail["last"] + 1 == first:
            tail["last"] = last
            return
        self.outbox.append(
            {"kind": "lost", "first": first, "last": last, "reason": reason, "time_ns": now, "boards": boards}
        )

    def _talk(self) -> None:
        while self.outbox:
            try:
                self.channel.send(json.dumps(self.outbox[0]).encode())
            except BlockingIOError:
                return
            except OSError:
                self.stopped = True
                return
            self.outbox.popleft()


def _timestamp(buffer: Any) -> int | None:
    """The camera's own time in ns where it gives one."""
    try:
        return int(buffer.module.timestamp_ns)
    except Exception:  # genicam raises a type per reason, all of them "this camera has none"
        return None


def _check_profile(acquirer: Any, settings: dict[str, Any]) -> None:
    """SetupError where the camera is not as it was when its profile was saved."""
    if not settings.get("profile"):
        return
    try:
        saved = json.loads(Path(settings["profile"]).read_text(encoding="utf-8"))["features"]
        found = drift(dict(saved), profile_of(acquirer.remote_device.node_map))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(
            "source.profile to be a file of hisir-edge camera", f"{settings['profile']} ({error})", "save it anew"
        ) from error
    if found:
        raise SetupError(
            "the camera as its profile has it",
            "; ".join(found[:MOST_DRIFT])
            + (f"; and {len(found) - MOST_DRIFT} more" if len(found) > MOST_DRIFT else ""),
            "set the camera right, or save its profile anew with hisir-edge camera",
        )


def print_profile(settings: dict[str, Any]) -> int:
    """Print what the camera is and every setting of it as JSON, on an output that the vendor's library cannot reach."""
    answer = os.dup(1)
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    try:
        _, acquirer = _open(settings)
        info = acquirer.remote_device.node_map
        names = ("DeviceVendorName", "DeviceModelName", "DeviceSerialNumber", "DeviceID", "DeviceFirmwareVersion")
        camera = {name: text for name in names if (text := text_of(info, name)) is not None}
        found = {"camera": camera, "features": profile_of(info)}
        _write_all(answer, json.dumps(found, indent=1).encode())
        acquirer.destroy()
    except SetupError as error:
        sys.stderr.write(json.dumps(error.args) + "\n")
        return 2
    except Exception as error:
        sys.stderr.write(json.dumps(("to read the camera", f"{type(error).__name__}: {error}", "check it")) + "\n")
        return 2
    return 0


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def main() -> int:
    """Entry point; exits 0 when told to stop, 2 when the camera cannot be used."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fd, parent_pid, settings = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    die_with_parent(parent_pid)
    # harvesters logs tracebacks of what is reported to the line in one sentence anyway
    logging.disable(logging.CRITICAL)
    channel = socket.socket(fileno=fd)
    harvester = acquirer = None
    try:
        harvester, acquirer = _open(settings)
        _check_profile(acquirer, settings)
        Grabber(channel, acquirer, settings).run()
        return 0
    except SetupError as error:
        expected, received, fix = error.args
        return _fail(channel, expected, received, fix)
    except Exception as error:  # whatever the vendor's library throws ends this process, not the line
        return _fail(
            channel,
            "the camera to deliver frames",
            f"{type(error).__name__}: {error}",
            "check the camera and its cable",
        )
    finally:
        if acquirer is not None:
            acquirer.destroy()
        if harvester is not None:
            harvester.reset()
        channel.close()


def list_cameras(cti: str) -> int:
    """Print the cameras behind a producer, a line each; what it cannot do goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what the vendor's library prints is no camera
    from harvesters.core import Harvester

    harvester = Harvester()
    try:
        harvester.add_file(cti, check_existence=True, check_validity=True)
        harvester.update()
        found = (f"{device.vendor} {device.model} {device.serial_number}" for device in harvester.device_info_list)
        os.write(answer, "".join(f"{' '.join(one.split())}\n" for one in found).encode())
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
        return 2
    return 0


def _fail(channel: socket.socket, expected: str, received: str, fix: str) -> int:
    message = {"kind": "failed", "expected": expected, "received": " ".join(received.split())[:400], "fix": fix}
    try:
        channel.setblocking(True)
        channel.settimeout(2)
        channel.send(json.dumps(message).encode())
    except OSError:
        pass
    return 2


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        code = list_cameras(sys.argv[2])
    elif sys.argv[1:2] == ["--profile"]:
        code = print_profile(json.loads(sys.argv[2]))
    else:
        code = main()
    sys.stdout.flush()
    # vendor libraries have been seen to hang or crash in their own unloading; everything is closed by now
    os._exit(code)
