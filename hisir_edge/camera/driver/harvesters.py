"""The camera's process with harvesters: GenTL producers (.cti files) of the camera makers.

The default acquisition mode is used, never ``run_as_thread`` (it ignores the timeout); ``try_fetch`` returns None for
a timeout and for an incomplete frame alike, and the gap in the frame ids tells the two apart.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import numpy as np

from hisir_edge.arrays import U8, u8
from hisir_edge.camera.driver.features import set_up
from hisir_edge.camera.driver.grabber import Fetched
from hisir_edge.camera.driver.identity import Seen, chosen, in_use
from hisir_edge.camera.driver.leader import Leader
from hisir_edge.camera.driver.main import run
from hisir_edge.camera.driver.nodes import SetupError, first_line
from hisir_edge.images.wire import name_of_code


class HarvestersDevice:
    """See ``grabber.GrabbingDevice``."""

    names_formats_its_way = True
    """Some producers tell of each buffer the format that they know best, not the camera's (TLSimu of genicam 1.4.0)."""

    def __init__(self, harvester: Any, acquirer: Any) -> None:
        self.harvester, self.acquirer = harvester, acquirer
        self.nodes = acquirer.remote_device.node_map

    def notes(self) -> list[str]:
        """See ``GrabbingDevice.notes``: the packets are the producer's own business."""
        return []

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
        # the bytes as they came: what harvesters 1.4.3 makes of them is wrong for some formats (images/wire.py)
        buffer = self.acquirer.try_fetch(timeout=timeout_s, is_raw=True)
        if buffer is None:
            return None
        image = _image(buffer)
        frame_id, stamp = int(buffer.frame_id), _timestamp(buffer)
        done = partial(buffer.parent.queue_buffer, buffer)
        if image is None:
            return Fetched(frame_id, None, stamp, done, "no picture in the buffer")
        data, padding, more = _bytes(buffer, image)
        return Fetched(frame_id, data, stamp, done, leader=_leader(image), x_padding=padding, may_be_longer=more)

    def close(self) -> None:
        """See ``Device.close``."""
        self.acquirer.destroy()
        self.harvester.reset()


HELD = (3, 4, 5)
"""GenTL's DEVICE_ACCESS_STATUS: no access, busy, opened by a program to read and write."""


def _word(of: Any, name: str) -> str:
    """A text that a producer need not tell."""
    try:
        return str(getattr(of, name) or "")
    except Exception:  # genicam raises a type per reason, all of them "not said"
        return ""


def _said(of: Any, name: str) -> int | None:
    """A number that a producer need not tell."""
    try:
        return int(getattr(of, name))
    except Exception:  # genicam raises a type per reason, all of them "not said"
        return None


def _image(buffer: Any) -> Any | None:
    """What describes the picture: the buffer itself, or its first part that is one; None: it has no picture."""
    try:
        parts = list(buffer.parts)
    except Exception:  # a buffer without parts
        parts = []
    for part in parts:
        if _said(part, "width"):
            return part
    return None if parts else buffer


def _bytes(buffer: Any, image: Any) -> tuple[U8, int, bool]:
    """The picture's bytes, how many of them are behind each line, and whether more than the picture may follow them."""
    whole = np.frombuffer(buffer.raw_buffer, np.uint8)
    if image is not buffer:
        start, size = _said(image, "data_offset") or 0, _said(image, "data_size")
        return u8(whole[start:] if not size else whole[start : start + size]), _said(image, "x_padding") or 0, not size
    start, filled = _said(buffer, "image_offset") or 0, _said(buffer, "size_filled")
    chunks = bool(_said(buffer, "num_chunks")) or bool(_said_so(buffer))
    return u8(whole[start : filled or None]), _said(buffer, "padding_x") or 0, chunks or not filled


def _said_so(buffer: Any) -> bool:
    """Whether a producer tells that chunk data follow the picture."""
    try:
        return bool(buffer.is_containing_chunk_data())
    except Exception:  # not said
        return False


def _leader(image: Any) -> Leader:
    """What the producer says of a frame; it need not say all."""
    code = _said(image, "pixel_format")
    if code is None:
        code = _said(image, "data_format")
    offsets = ("x_offset", "y_offset") if _said(image, "x_offset") is not None else ("offset_x", "offset_y")
    return Leader(
        None if code is None else name_of_code(code),
        _said(image, "width"),
        _said(image, "height") or _said(image, "delivered_image_height") or None,
        *(_said(image, name) for name in offsets),
    )


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
    found = [
        Seen(
            (_word(one, "serial_number"), _word(one, "user_defined_name"), _word(one, "id_")),
            f"{_word(one, 'vendor')} {_word(one, 'model')}".strip(),
            held=_said(one, "access_status") in HELD,
        )
        for one in devices
    ]
    number = chosen(found, settings.get("serial", ""), settings.get("device"))
    try:
        acquirer = harvester.create(number)
    except Exception as error:
        if found[number].held:
            raise in_use(found[number]) from error
        raise SetupError(
            f"to open {found[number].words}", first_line(error), "close the other program that uses it"
        ) from error
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
        return int(buffer.timestamp_ns)
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
        found = (
            " ".join(_word(one, part) for part in ("vendor", "model", "serial_number", "user_defined_name"))
            + (" (held by another program)" if _said(one, "access_status") in HELD else "")
            for one in harvester.device_info_list
        )
        os.write(answer, "".join(f"{' '.join(one.split())}\n" for one in found).encode())
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
        return 2
    return 0


def _more(arguments: list[str]) -> int | None:
    return list_cameras(arguments[1]) if arguments[:1] == ["--list"] else None


if __name__ == "__main__":
    run(open_device, _more)
