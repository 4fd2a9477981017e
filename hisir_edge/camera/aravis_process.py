"""The camera's process with Aravis: GigE Vision and USB3 Vision cameras without their makers' software.

Through GObject introspection (https://aravisproject.github.io/aravis/): Debian and Ubuntu have it as gir1.2-aravis-0.8
and python3-gi, which is found beside the virtual environment where both are of one Python version.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hisir_edge.camera.leader import Leader, name_of_format
from hisir_edge.camera.process_client import Fetched
from hisir_edge.camera.process_main import run
from hisir_edge.camera.sfnc import SetupError, set_up

SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")
FLUSH_S = 0.05
OF_THE_CONNECTION = (
    "GevCCP", "GevSCPHostPort", "GevSCDA", "GevMCPHostPort", "GevMCDA", "GevSCSP", "TLParamsLocked",
)  # fmt: skip
"""Features that can be written and are other ones at each connection (GigE Vision's bootstrap registers)."""
RO, WO, RW, NONE = 3, 2, 4, 1
"""Access modes as genapi numbers them."""


def _aravis() -> Any:
    try:
        import gi
    except ImportError:
        # whatever else lies there is no business of ours: last in the path, and for gi alone
        sys.path.append(str(SYSTEM_PACKAGES))
        try:
            import gi
        except ImportError as error:
            raise SetupError(
                "PyGObject for Aravis",
                str(error),
                "sudo apt-get install gir1.2-aravis-0.8 python3-gi, or pip install 'hisir-edge[aravis]'",
            ) from error
        finally:
            sys.path.remove(str(SYSTEM_PACKAGES))
    try:
        gi.require_version("Aravis", "0.8")
        from gi.repository import Aravis
    except (ImportError, ValueError) as error:
        raise SetupError("Aravis 0.8", str(error), "sudo apt-get install gir1.2-aravis-0.8") from error
    return Aravis


class Node:
    """A feature with the names that genapi gives its parts."""

    def __init__(self, aravis: Any, feature: Any) -> None:
        self._aravis, self._feature = aravis, feature

    @property
    def value(self) -> Any:
        """The value as text, number or bool."""
        if isinstance(self._feature, self._aravis.GcEnumeration):
            return str(self._feature.get_string_value())
        return self._feature.get_value()

    @value.setter
    def value(self, value: Any) -> None:
        if isinstance(self._feature, self._aravis.GcEnumeration):
            self._feature.set_string_value(value)
        else:
            self._feature.set_value(value)

    @property
    def symbolics(self) -> tuple[str, ...]:
        """The values that it can take."""
        return tuple(self._feature.dup_available_string_values())

    def get_access_mode(self) -> int:
        """The access that is possible now."""
        feature = self._feature
        if not (feature.is_implemented() and feature.is_available()):
            return NONE
        mode = feature.get_actual_access_mode()
        if mode == self._aravis.GcAccessMode.RO or feature.is_locked():
            return RO
        return WO if mode == self._aravis.GcAccessMode.WO else RW

    @property
    def lasts(self) -> bool:
        """Whether it can be written, if not just now, then while nothing is acquired."""
        return bool(self._feature.is_implemented()) and (
            self._feature.get_imposed_access_mode() != self._aravis.GcAccessMode.RO
            and self._feature.get_actual_access_mode() != self._aravis.GcAccessMode.RO
        )

    def to_string(self) -> str:
        """Its value as text."""
        return str(self._feature.get_value_as_string())


class Nodes:
    """A camera's features by name; AttributeError for one that it does not have."""

    def __init__(self, aravis: Any, device: Any) -> None:
        self._aravis, self._device = aravis, device

    def __getattr__(self, name: str) -> Node:
        feature = self._device.get_feature(name)
        if feature is None or not isinstance(feature, self._aravis.GcFeatureNode):
            raise AttributeError(f"the camera has no {name}")
        return Node(self._aravis, feature)

    @property
    def nodes(self) -> list[Feature]:
        """Every feature below the root of the camera's tree, whatever its maker called it."""
        found: dict[str, Feature] = {}
        waiting = ["Root"]
        while waiting:
            node = self._device.get_feature(waiting.pop())
            if isinstance(node, self._aravis.GcCategory):
                waiting += [name for name in node.get_features() if name not in found]
            elif isinstance(node, self._aravis.GcFeatureNode):
                name = str(node.get_name())
                found[name] = Feature(name, self._lasts(name, node))
        return list(found.values())

    def _lasts(self, name: str, node: Any) -> bool:
        kinds = (self._aravis.GcCommand, self._aravis.GcRegisterNode)
        try:
            return name not in OF_THE_CONNECTION and not isinstance(node, kinds) and Node(self._aravis, node).lasts
        except Exception:  # what cannot be read is no setting
            return False


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of the tree, with the questions that genapi's have."""

    name: str
    lasts: bool

    def is_feature(self) -> bool:
        """Always."""
        return True

    def is_streamable(self) -> bool:
        """Whether it is a setting that lasts: one that can be written, and is not of the connection."""
        return self.lasts


class AravisDevice:
    """See ``camera_process.Device``."""

    def __init__(self, aravis: Any, camera: Any, settings: dict[str, Any]) -> None:
        self.aravis, self.camera = aravis, camera
        self.nodes: Any = Nodes(aravis, camera.get_device())
        self.lost = False
        camera.get_device().connect("control-lost", self._on_lost)
        set_up(self.nodes, settings)
        self.stream = camera.create_stream(None, None)
        if self.stream is None:
            raise SetupError("a stream from the camera", "none", "close the other program that uses it")
        if hasattr(self.stream.props, "packet_resend"):
            always, never = aravis.GvStreamPacketResend.ALWAYS, aravis.GvStreamPacketResend.NEVER
            self.stream.props.packet_resend = always if settings["packet_resend"] else never
        payload = camera.get_payload()
        for _ in range(max(settings["ring_slots"], 4)):
            self.stream.push_buffer(aravis.Buffer.new_allocate(payload))

    def _on_lost(self, *_: Any) -> None:
        self.lost = True

    def start(self) -> None:
        """Discard first what the camera sent before."""
        end = time.monotonic() + FLUSH_S
        while time.monotonic() < end:
            buffer = self.stream.timeout_pop_buffer(1000)
            if buffer is not None:
                self.stream.push_buffer(buffer)
        self.camera.start_acquisition()

    def stop(self) -> None:
        """See ``Device.stop``."""
        if not self.lost:
            self.camera.stop_acquisition()

    def trigger(self) -> None:
        """See ``Device.trigger``."""
        self.camera.execute_command("TriggerSoftware")

    def fetch(self, timeout_s: float) -> Fetched | None:
        """See ``Device.fetch``."""
        if self.lost:
            raise ConnectionError("control lost: it is off, unplugged, or another program took it")
        buffer = self.stream.timeout_pop_buffer(int(timeout_s * 1e6))
        if buffer is None:
            return None
        status = buffer.get_status()
        whole = status == self.aravis.BufferStatus.SUCCESS
        data = np.frombuffer(buffer.get_image_data(), np.uint8) if whole else None
        stamp = int(buffer.get_timestamp()) or None

        def done() -> None:
            buffer.set_frame_id(0)  # else the id of its last frame stays where the next one's leader is lost
            self.stream.push_buffer(buffer)

        problem = "" if whole else str(status.value_nick).replace("-", " ")
        # where a frame's leader did not come, its buffer says 0, which is no number of GigE Vision's
        frame_id = int(buffer.get_frame_id())
        leader = _leader(buffer) if whole else None
        return Fetched(frame_id if whole or frame_id else None, data, stamp, done, problem, leader)

    def close(self) -> None:
        """See ``Device.close``; the camera's control is given up, for the next program to take it."""
        del self.stream
        device = self.camera.get_device()
        if not self.lost and isinstance(device, self.aravis.GvDevice):
            device.leave_control()
        del self.camera


def _leader(buffer: Any) -> Leader:
    return Leader(
        name_of_format(int(buffer.get_image_pixel_format()) & 0xFFFFFFFF), int(buffer.get_image_width()),
        int(buffer.get_image_height()), int(buffer.get_image_x()), int(buffer.get_image_y()),
    )  # fmt: skip


def open_device(settings: dict[str, Any]) -> AravisDevice:
    """The camera by its id, address or serial number, or the first that is found; features set and read back."""
    aravis = _aravis()
    wanted = settings["device_id"] or None
    try:
        camera = aravis.Camera.new(wanted)
    except Exception as error:  # GLib.Error: its class is there only once gi is
        raise SetupError(
            f"the camera {wanted}" if wanted else "a camera",
            str(getattr(error, "message", error)),
            "check power, cable, address and firewall; hisir-edge check --aravis lists what is found",
        ) from error
    try:
        return AravisDevice(aravis, camera, settings)
    except SetupError:
        raise
    except Exception as error:
        raise SetupError(
            "the camera to be set up", str(getattr(error, "message", error)), "close the other program that uses it"
        ) from error


def list_cameras() -> int:
    """Print the cameras found, a line each; what is missing goes to standard error."""
    try:
        aravis = _aravis()
    except SetupError as error:
        sys.stderr.write(f"{error.args[1]}; {error.args[2]}\n")
        return 2
    aravis.update_device_list()
    for n in range(aravis.get_n_devices()):
        words = (aravis.get_device_id(n), aravis.get_device_protocol(n), aravis.get_device_address(n))
        sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    return 0


def _more(arguments: list[str]) -> int | None:
    return list_cameras() if arguments[:1] == ["--list"] else None


if __name__ == "__main__":
    run(open_device, _more)
