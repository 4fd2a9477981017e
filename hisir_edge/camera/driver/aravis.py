"""The camera's process with Aravis: GigE Vision and USB3 Vision cameras without their makers' software.

Through GObject introspection (https://aravisproject.github.io/aravis/): Debian and Ubuntu have it as gir1.2-aravis-0.8
and python3-gi, which is found beside the virtual environment where both are of one Python version.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from hisir_edge.camera.driver.aravis_nodes import Nodes
from hisir_edge.camera.driver.features import set_up
from hisir_edge.camera.driver.grabber import Fetched
from hisir_edge.camera.driver.identity import Seen, chosen, in_use
from hisir_edge.camera.driver.leader import Leader
from hisir_edge.camera.driver.main import run
from hisir_edge.camera.driver.nodes import SetupError
from hisir_edge.camera.driver.receive_buffer import network_notes
from hisir_edge.images.wire import name_of_code

SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")
FLUSH_S = 0.05
SOCKET_FRAMES = 1
"""Frames that Aravis 0.8 asks the kernel to hold for it."""


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


class AravisDevice:
    """See ``grabber.GrabbingDevice``."""

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

    def notes(self) -> list[str]:
        """See ``GrabbingDevice.notes``."""
        network = isinstance(self.camera.get_device(), self.aravis.GvDevice)
        return network_notes(self.nodes, SOCKET_FRAMES) if network else []

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
        padding = int(buffer.get_image_padding()[0]) if whole and hasattr(buffer, "get_image_padding") else 0
        return Fetched(frame_id if whole or frame_id else None, data, stamp, done, problem, leader, padding)

    def close(self) -> None:
        """See ``Device.close``; the camera's control is given up, for the next program to take it."""
        del self.stream
        device = self.camera.get_device()
        if not self.lost and isinstance(device, self.aravis.GvDevice):
            device.leave_control()
        del self.camera


def _leader(buffer: Any) -> Leader:
    return Leader(
        name_of_code(int(buffer.get_image_pixel_format()) & 0xFFFFFFFF), int(buffer.get_image_width()),
        int(buffer.get_image_height()), int(buffer.get_image_x()), int(buffer.get_image_y()),
    )  # fmt: skip


def _seen(aravis: Any) -> list[Seen]:
    """What answers on all networks, and on USB."""
    aravis.update_device_list()
    return [
        Seen(
            tuple(
                str(ask(n) or "")
                for ask in (
                    aravis.get_device_serial_nbr, aravis.get_device_id, aravis.get_device_address,
                    aravis.get_device_physical_id,
                )
            ),
            f"{aravis.get_device_vendor(n) or ''} {aravis.get_device_model(n) or ''}".strip(),
        )
        for n in range(aravis.get_n_devices())
    ]  # fmt: skip


def open_device(settings: dict[str, Any]) -> AravisDevice:
    """The camera by its serial number, name, id or address, or the only one; features set and read back."""
    aravis = _aravis()
    wanted = settings.get("serial") or settings["device_id"]
    camera_id, words = wanted, Seen((wanted,))
    if not wanted:
        found = _seen(aravis)
        words = found[chosen(found, "")]
        camera_id = words.names[1]
    try:
        camera = aravis.Camera.new(camera_id)
    except Exception as error:  # GLib.Error: its class is there only once gi is
        camera = _by_other_name(aravis, wanted, error)
    device = camera.get_device()
    if isinstance(device, aravis.GvDevice) and not device.is_controller():
        raise in_use(words)
    try:
        return AravisDevice(aravis, camera, settings)
    except SetupError:
        raise
    except Exception as error:
        if isinstance(device, aravis.GvDevice) and not device.is_controller():
            raise in_use(words) from error
        raise SetupError(
            "the camera to be set up", str(getattr(error, "message", error)), "close the other program that uses it"
        ) from error


def _by_other_name(aravis: Any, wanted: str, error: Exception) -> Any:
    """A camera that Aravis itself does not find by this name: by one that it lists; SetupError for none."""
    found = _seen(aravis)
    if any(wanted in one.names for one in found):
        try:
            return aravis.Camera.new(found[chosen(found, wanted)].names[1])
        except Exception as again:  # GLib.Error, as above
            error = again
    raise SetupError(
        f"the camera {wanted}" if wanted else "a camera",
        str(getattr(error, "message", error)),
        "check power, cable, address and firewall; hisir-edge check --aravis lists what is found",
    ) from error


def list_cameras() -> int:
    """Print the cameras found, a line each; what is missing goes to standard error."""
    try:
        aravis = _aravis()
    except SetupError as error:
        sys.stderr.write(f"{error.args[1]}; {error.args[2]}\n")
        return 2
    for one in _seen(aravis):
        serial, name, address, _ = one.names
        sys.stdout.write(f"{one.model} {serial} {name} {address}\n")
    return 0


def _more(arguments: list[str]) -> int | None:
    return list_cameras() if arguments[:1] == ["--list"] else None


if __name__ == "__main__":
    run(open_device, _more)
