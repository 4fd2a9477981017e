"""The camera's process with viva-genicam: GigE Vision and USB3 Vision in one wheel, without any other software.

https://pypi.org/project/viva-genicam: pure Rust, the GIL is let go of while it waits; frames that lost packets are
handed out and said.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

import numpy as np

from hisir_edge.arrays import u8
from hisir_edge.camera.driver.features import set_up
from hisir_edge.camera.driver.grabber import Fetched
from hisir_edge.camera.driver.identity import Seen, chosen, in_use
from hisir_edge.camera.driver.leader import Leader
from hisir_edge.camera.driver.main import run
from hisir_edge.camera.driver.nodes import SetupError, value_of
from hisir_edge.camera.driver.receive_buffer import network_notes
from hisir_edge.images.wire import name_of_code

DISCOVERY_MS = 1000
SOCKET_FRAMES = 2
"""Frames that viva-genicam 0.10 asks the kernel to hold for it."""
CONTROL_CHECK_S = 0.5
NONE, WO, RO, RW = 1, 2, 3, 4
"""Access modes as genapi numbers them."""
ACCESS = {"RO": RO, "WO": WO, "RW": RW}
OF_THE_CONNECTION = (
    "GevCCP", "GevSCPHostPort", "GevSCDA", "GevMCPHostPort", "GevMCDA", "GevSCSP", "TLParamsLocked",
    "GevHeartbeatTimeout",
)  # fmt: skip
"""Features that can be written and are other ones at each connection (GigE Vision's bootstrap registers)."""
NO_SETTINGS = ("Command", "Category", "Register")


def _viva() -> Any:
    try:
        import viva_genicam
    except ImportError as error:
        raise SetupError("viva-genicam", str(error), "pip install 'hisir-edge[viva]'") from error
    return viva_genicam


class Node:
    """A feature with the names that genapi gives its parts."""

    def __init__(self, camera: Any, name: str, chunks: dict[str, Any]) -> None:
        self._camera, self.name, self._chunks = camera, name, chunks

    @property
    def _state(self) -> Any:
        return self._camera.feature_state(self.name)

    @property
    def value(self) -> Any:
        """The value as text, number or bool; of chunk data that of the last frame."""
        known = self._chunks.get(self.name)
        return self._state.value if known is None else known

    @value.setter
    def value(self, value: Any) -> None:
        kind = self._state.kind
        if kind == "Enumeration":
            self._camera.set_enum(self.name, str(value))
        elif kind == "Boolean":
            self._camera.set_bool(self.name, bool(value))
        elif isinstance(self._state.value, int):
            self._camera.set_integer(self.name, int(value))
        elif isinstance(value, int | float):
            self._camera.set_float(self.name, float(value))
        else:
            self._camera.set(self.name, str(value))

    @property
    def symbolics(self) -> tuple[str, ...]:
        """The values that an enumeration can take."""
        return tuple(self._state.enum_entries or ())

    @property
    def min(self) -> Any:
        """The lowest value of a number."""
        return self._state.range.min

    @property
    def max(self) -> Any:
        """The highest value of a number."""
        return self._state.range.max

    @property
    def inc(self) -> Any:
        """The step of a number."""
        return self._state.range.inc

    def get_access_mode(self) -> int:
        """The access that is possible now."""
        state = self._state
        return ACCESS.get(state.access, NONE) if state.is_implemented and state.is_available else NONE

    def to_string(self) -> str:
        """Its value as text."""
        return str(self._camera.get(self.name))


class Feature:
    """A feature of the tree, with the questions that genapi's have."""

    def __init__(self, info: Any) -> None:
        self.name, self._info = info.name, info

    def is_feature(self) -> bool:
        """Always."""
        return True

    def is_streamable(self) -> bool:
        """Whether it is a setting that lasts: one that can be written, and is not of the connection."""
        return bool(self._info.writable) and self._info.kind not in NO_SETTINGS and self.name not in OF_THE_CONNECTION


class Nodes:
    """A camera's features by name; AttributeError for one that it does not have."""

    def __init__(self, camera: Any) -> None:
        self._camera = camera
        self.chunks: dict[str, Any] = {}
        """Of the last frame."""

    def __getattr__(self, name: str) -> Node:
        if self._camera.node_info(name) is None:
            raise AttributeError(f"the camera has no {name}")
        return Node(self._camera, name, self.chunks)

    @property
    def nodes(self) -> list[Feature]:
        """Every feature below the root of the camera's tree, whatever its maker called it."""
        shown = {name for below in self._camera.categories().values() for name in below}
        return [Feature(info) for info in self._camera.all_node_info() if info.name in shown]


class VivaDevice:
    """See ``grabber.GrabbingDevice``."""

    def __init__(self, viva: Any, camera: Any, settings: dict[str, Any], network: bool) -> None:
        self.viva, self.camera, self.resend = viva, camera, bool(settings["packet_resend"])
        self.network = network
        self.nodes: Any = Nodes(camera)
        set_up(self.nodes, settings)
        ticks = value_of(self.nodes, "GevTimestampTickFrequency")
        self.ns_a_tick = 1e9 / ticks if ticks else 1.0
        self.stream: Any = None
        self.checked_at = time.monotonic()

    def notes(self) -> list[str]:
        """See ``GrabbingDevice.notes``."""
        return network_notes(self.nodes, SOCKET_FRAMES) if self.network else []

    def start(self) -> None:
        """A stream of its own for each acquisition: nothing from before is left in it."""
        self.stream = self.camera.stream(resend=self.resend, deliver_incomplete=True)
        self.stream.__enter__()

    def stop(self) -> None:
        """See ``GrabbingDevice.stop``."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(self.viva.GenicamError):  # a camera that is gone has stopped
                stream.__exit__(None, None, None)

    def trigger(self) -> None:
        """See ``GrabbingDevice.trigger``."""
        self.camera.execute("TriggerSoftware", wait=False)

    def fetch(self, timeout_s: float) -> Fetched | None:
        """See ``GrabbingDevice.fetch``."""
        try:
            frame = self.stream.next_frame(max(int(timeout_s * 1e3), 1))
        except self.viva.TransportError as error:
            self._check_control()
            if "timeout" not in str(error):
                raise
            return None
        if time.monotonic() > self.checked_at + CONTROL_CHECK_S:
            self._check_control()
        if frame is None:
            raise ConnectionError("the stream ended: the camera is off, unplugged, or another program took it")
        stamp = round(frame.ts_dev * self.ns_a_tick) if frame.ts_dev else None
        if not frame.is_complete:
            words = {"Incomplete": f"missing packets ({frame.missing_packets})", "TrailerMissing": "no trailer"}
            problem = words.get(frame.status.value, f"camera status {frame.device_status}")
            return Fetched(int(frame.block_id), None, stamp, _done, problem)
        self.nodes.chunks.clear()
        if frame.chunks is not None:
            self.nodes.chunks.update(self.camera.chunk_features(frame))
        data = u8(np.frombuffer(frame.payload(), np.uint8))
        leader = Leader(name_of_code(int(frame.pixel_format_code)), int(frame.width), int(frame.height))
        return Fetched(
            int(frame.block_id), data, stamp, _done, leader=leader, x_padding=int(frame.padding_x or 0),
            may_be_longer=frame.chunks is not None,
        )  # fmt: skip

    def _check_control(self) -> None:
        """ConnectionError where the camera is no longer ours, though its frames may go on coming."""
        self.checked_at = time.monotonic()
        state = self.camera.control_state
        if state is not None and state is not self.viva.ControlState.HELD:
            raise ConnectionError("control lost: it is off, unplugged, or another program took it")

    def close(self) -> None:
        """See ``GrabbingDevice.close``; the camera's control is given up, for the next program to take it."""
        self.stop()
        with suppress(self.viva.GenicamError):
            self.camera.close()


def _done() -> None:
    """The frame's bytes are a copy of its own."""


def _gige_names(viva: Any, device: Any) -> tuple[str, ...]:
    """Serial number and user-defined name as the camera itself says, beside its addresses; read without control."""
    said = {"DeviceSerialNumber": "", "DeviceID": "", "DeviceUserID": ""}
    with suppress(viva.GenicamError), viva.connect_gige(device, monitor=True) as camera:
        for name in said:
            with suppress(viva.GenicamError):
                said[name] = str(camera.get(name))
    serial = said["DeviceSerialNumber"] or said["DeviceID"] or device.mac
    return (serial, said["DeviceUserID"], device.ip, device.mac)


def _seen(viva: Any) -> list[tuple[Seen, Any, Any]]:
    """What answers on all networks, and on USB: (camera, its device, what opens it)."""
    found = []
    for one in viva.discover(timeout_ms=DISCOVERY_MS, all=True):
        model = f"{one.manufacturer or ''} {one.model or ''}".strip()
        found.append((Seen(_gige_names(viva, one), model), one, viva.connect_gige))
    with suppress(viva.GenicamError):  # no USB on this machine
        for one in viva.discover_u3v():
            model = f"{one.manufacturer or ''} {one.model or ''}".strip()
            found.append((Seen((one.serial or "", f"{one.bus}:{one.address}"), model), one, viva.connect_u3v))
    return found


def open_device(settings: dict[str, Any]) -> VivaDevice:
    """The camera by its serial number, name or address, or the only one; features set and read back."""
    viva = _viva()
    try:
        seen = _seen(viva)
    except viva.GenicamError as error:
        raise SetupError("to look for cameras", str(error), "check the network and its firewall") from error
    number = chosen([one for one, _, _ in seen], settings.get("serial", ""))
    words, device, connect = seen[number]
    try:
        camera = connect(device)
    except viva.GenicamError as error:
        if any(word in str(error).lower() for word in ("access", "denied", "control", "busy")):
            raise in_use(words) from error
        raise SetupError(f"to open {words.words}", str(error), "check power, cable and address") from error
    try:
        return VivaDevice(viva, camera, settings, connect == viva.connect_gige)
    except BaseException:
        camera.close()
        raise


def list_cameras() -> int:
    """Print the cameras found, a line each; what is missing goes to standard error."""
    try:
        viva = _viva()
        found = _seen(viva)
    except SetupError as error:
        sys.stderr.write(f"{error.args[1]}; {error.args[2]}\n")
        return 2
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
        return 2
    for one, _, _ in found:
        sys.stdout.write(f"{one.model} {' '.join(name for name in one.names if name)}\n")
    return 0


def _more(arguments: list[str]) -> int | None:
    return list_cameras() if arguments[:1] == ["--list"] else None


if __name__ == "__main__":
    run(open_device, _more)
