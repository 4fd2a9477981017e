"""The camera's process with harvesters: GenTL producers (.cti files) of the camera makers.

The default acquisition mode is used, never ``run_as_thread`` (it ignores the timeout); ``try_fetch`` returns None for
a timeout and for an incomplete frame alike, and the gap in the frame ids tells the two apart.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from hisir_edge.camera.leader import Leader
from hisir_edge.camera.process_client import Fetched
from hisir_edge.camera.process_main import run
from hisir_edge.camera.sfnc import SetupError, set_up


class HarvestersDevice:
    """See ``camera_process.Device``."""

    names_formats_its_way = True
    """Some producers tell of each buffer the format that they know best, not the camera's (TLSimu of genicam 1.4.0)."""

    def __init__(self, harvester: Any, acquirer: Any) -> None:
        self.harvester, self.acquirer = harvester, acquirer
        self.nodes = acquirer.remote_device.node_map

    def start(self) -> None:
        """Buffers are allocated and announced anew each time, so that none from before is left."""
        self.acquirer.start()

    def stop(self) -> None:
        """See ``Device.stop``."""
        self.acquirer.stop()

    def trigger(self) -> None:
        """See ``Device.trigger``."""
        self.nodes.TriggerSoftware.execute()

    def fetch(self, timeout_s: float) -> Fetched | None:
        """See ``Device.fetch``."""
        buffer = self.acquirer.try_fetch(timeout=timeout_s)
        if buffer is None:
            return None
        components = buffer.payload.components
        data = components[0].data.view("uint8").ravel() if components else None
        leader = _leader(components[0]) if components else None
        return Fetched(int(buffer.module.frame_id), data, _timestamp(buffer), buffer.queue, leader=leader)

    def close(self) -> None:
        """See ``Device.close``."""
        self.acquirer.destroy()
        self.harvester.reset()


def _leader(component: Any) -> Leader:
    """What the producer says of a frame; it need not say all."""
    found: dict[str, Any] = {}
    for name, attribute, kind in (
        ("pixel_format", "data_format", str), ("width", "width", int), ("height", "height", int),
        ("offset_x", "x_offset", int), ("offset_y", "y_offset", int),
    ):  # fmt: skip
        try:
            found[name] = kind(getattr(component, attribute))
        except Exception:  # genicam raises a type per reason, all of them "not said"
            found[name] = None
    return Leader(**found)


def open_device(settings: dict[str, Any]) -> HarvestersDevice:
    """The wanted camera of the producer, features set and read back."""
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
    device = HarvestersDevice(harvester, acquirer)
    try:
        set_up(device.nodes, settings)
    except BaseException:
        device.close()
        raise
    return device


def _timestamp(buffer: Any) -> int | None:
    """The camera's own time in ns where it gives one."""
    try:
        return int(buffer.module.timestamp_ns)
    except Exception:  # genicam raises a type per reason, all of them "this camera has none"
        return None


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


def _more(arguments: list[str]) -> int | None:
    return list_cameras(arguments[1]) if arguments[:1] == ["--list"] else None


if __name__ == "__main__":
    run(open_device, _more)
