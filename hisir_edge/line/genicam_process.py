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
from typing import Any

from hisir_edge.line.pixels import CONVERSIONS
from hisir_edge.line.ring import FrameRing
from hisir_edge.processes import die_with_parent

POLL_S = 0.25
RW = 4
"""EAccessMode of GenApi: readable and writable."""
TRIGGERED_POLL_S = 0.02
"""Between two frames that were asked for the camera's process listens so often."""
LAST_16_BIT_ID = 65535
"""GigE Vision 1.x counts frames in 16 bits and leaves out 0 (GVSP block id)."""


class SetupError(Exception):
    """The camera cannot be used; carries (expected, received, fix)."""


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
    node_map = acquirer.remote_device.node_map
    # pixel format first: changing it may change the size limits (SFNC 2.7, ImageFormatControl)
    wanted = (
        ("PixelFormat", "pixel_format"),
        ("Width", "width"),
        ("Height", "height"),
        ("AcquisitionFrameRate", "frame_rate_hz"),
    )
    for feature, key in wanted:
        if settings.get(key) is not None:
            _set(node_map, feature, settings[key])
    _set_exposure(node_map, settings)
    _set_trigger(node_map, settings)
    if node_map.PixelFormat.value not in CONVERSIONS:
        raise SetupError(
            f"a pixel format out of {', '.join(CONVERSIONS)}",
            str(node_map.PixelFormat.value),
            "set source.pixel_format",
        )
    return harvester, acquirer


def _set_exposure(node_map: Any, settings: dict[str, Any]) -> None:
    """Exposure in us and gain in dB, each with its automatic off (SFNC 2.7, AnalogControl and AcquisitionControl)."""
    for feature, auto, key in (("ExposureTime", "ExposureAuto", "exposure_us"), ("Gain", "GainAuto", "gain_db")):
        if settings.get(key) is not None:
            _set_if_there(node_map, auto, "Off")
            _set(node_map, feature, float(settings[key]))
            _set_if_there(node_map, "BalanceWhiteAuto", "Off")
    if settings.get("packet_bytes") is not None:
        _set(node_map, "GevSCPSPacketSize", settings["packet_bytes"])


def _set_trigger(node_map: Any, settings: dict[str, Any]) -> None:
    """The selector first: mode, source, activation and delay are its own (SFNC 2.7, AcquisitionControl).

    Without a trigger every selector's mode is switched off: the program before may have left one on.
    """
    _set_if_there(node_map, "AcquisitionMode", "Continuous")
    trigger = settings.get("trigger", "free-run")
    if trigger == "free-run":
        if _writable(node_map, "TriggerMode"):
            for selector in _symbolics(node_map, "TriggerSelector") or ("",):
                if selector:
                    _set(node_map, "TriggerSelector", selector)
                _set_if_there(node_map, "TriggerMode", "Off")
        return
    _set_if_there(node_map, "TriggerSelector", settings["trigger_selector"])
    _set(node_map, "TriggerMode", "On")
    _set(node_map, "TriggerSource", settings["trigger_source"] or "Software")
    if settings.get("trigger_activation"):
        _set(node_map, "TriggerActivation", settings["trigger_activation"])
    if settings.get("trigger_delay_us") is not None:
        _set(node_map, "TriggerDelay", float(settings["trigger_delay_us"]))


def _writable(node_map: Any, feature: str) -> bool:
    try:
        node = getattr(node_map, feature)
        return bool(node.get_access_mode() == RW)
    except Exception:  # a camera without it
        return False


def _symbolics(node_map: Any, feature: str) -> tuple[str, ...]:
    """The values that an enumeration can take now."""
    try:
        return tuple(getattr(node_map, feature).symbolics)
    except Exception:  # a camera without it
        return ()


def _set_if_there(node_map: Any, feature: str, value: Any) -> None:
    if _writable(node_map, feature):
        _set(node_map, feature, value)


def _set(node_map: Any, feature: str, value: Any) -> None:
    try:
        node = getattr(node_map, feature)
        node.value = value
        back = node.value
    except Exception as error:
        raise SetupError(
            f"the camera to take {feature} = {value}", str(error).splitlines()[0], "choose a value that it supports"
        ) from error
    same = abs(back - value) <= 0.02 * abs(value) if isinstance(value, float) else back == value
    if not same:
        raise SetupError(f"{feature} = {value}", f"{back} after setting it", "choose a value that the camera supports")


class Grabber:
    """One camera's loop; everything it says goes through ``outbox`` in the camera's order."""

    def __init__(self, channel: socket.socket, acquirer: Any, slots: int, triggered: bool) -> None:
        self.channel, self.acquirer = channel, acquirer
        node_map = acquirer.remote_device.node_map
        self.width, self.height = int(node_map.Width.value), int(node_map.Height.value)
        self.pixel_format = str(node_map.PixelFormat.value)
        channels = CONVERSIONS[self.pixel_format][0]
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
            if not self.free:
                self._lost(frame_id, frame_id, "overrun: the line inspects slower than the camera sends", now)
                return
            slot = self.free.popleft()
            self.ring.slot(slot)[:] = data.view("uint8").ravel()
            self.outbox.append(
                {"kind": "frame", "slot": slot, "id": frame_id, "time_ns": now, "device_ns": _timestamp(buffer)}
            )

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
        Grabber(channel, acquirer, settings["ring_slots"], settings["trigger"] == "software").run()
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
    code = list_cameras(sys.argv[2]) if sys.argv[1:2] == ["--list"] else main()
    sys.stdout.flush()
    # vendor libraries have been seen to hang or crash in their own unloading; everything is closed by now
    os._exit(code)
