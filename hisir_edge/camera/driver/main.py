"""The camera process as a program: open, check, tell the line, fetch until told to end."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from hisir_edge.camera.driver.grabber import MOST_DRIFT, Grabber, GrabbingDevice
from hisir_edge.camera.driver.nodes import SetupError, text_of
from hisir_edge.camera.driver.profile import drift, has_exposure, profile_of
from hisir_edge.processes import die_with_parent

PROFILE_VERSION = 2
"""1 knew the features of SFNC 2 alone: it is compared by what it has, if the exposure is among it."""


def _check_profile(device: GrabbingDevice, settings: dict[str, Any]) -> None:
    """SetupError where the camera is not as it was when its profile was saved."""
    if not settings.get("profile"):
        return
    try:
        content = json.loads(Path(settings["profile"]).read_text(encoding="utf-8"))
        saved, now = dict(content["features"]), profile_of(device.nodes)
        if content.get("version", 1) < PROFILE_VERSION and has_exposure(saved):
            now = {name: value for name, value in now.items() if name in saved}  # it knew fewer features
        found = drift(saved, now)
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


def print_profile(settings: dict[str, Any], open_device: Callable[[dict[str, Any]], GrabbingDevice]) -> int:
    """Print what the camera is and every setting of it as JSON, on an output that the vendor's library cannot reach."""
    answer = os.dup(1)
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    try:
        device = open_device(settings)
        names = ("DeviceVendorName", "DeviceModelName", "DeviceSerialNumber", "DeviceID", "DeviceFirmwareVersion")
        camera = {name: text for name in names if (text := text_of(device.nodes, name)) is not None}
        found = {
            "version": PROFILE_VERSION, "camera": camera, "features": profile_of(device.nodes), "notes": device.notes(),
        }  # fmt: skip
        data = json.dumps(found, indent=1).encode()
        while data:
            data = data[os.write(answer, data) :]
        device.close()
    except SetupError as error:
        sys.stderr.write(json.dumps(error.args) + "\n")
        return 2
    except Exception as error:
        sys.stderr.write(json.dumps(("to read the camera", f"{type(error).__name__}: {error}", "check it")) + "\n")
        return 2
    return 0


def serve(arguments: list[str], open_device: Callable[[dict[str, Any]], GrabbingDevice]) -> int:
    """The process's life; 0 when told to stop, 2 when the camera cannot be used."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fd, parent_pid, settings = int(arguments[0]), int(arguments[1]), json.loads(arguments[2])
    die_with_parent(parent_pid)
    cv2.setNumThreads(1)  # frames are unpacked by threads of their own
    # libraries log tracebacks of what is reported to the line in one sentence anyway
    logging.disable(logging.CRITICAL)
    channel = socket.socket(fileno=fd)
    device: GrabbingDevice | None = None
    try:
        device = open_device(settings)
        _check_profile(device, settings)
        Grabber(channel, device, settings).run()
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
        if device is not None:
            device.close()
        channel.close()


def _fail(channel: socket.socket, expected: str, received: str, fix: str) -> int:
    message = {"kind": "failed", "expected": expected, "received": " ".join(received.split())[:400], "fix": fix}
    try:
        channel.setblocking(True)
        channel.settimeout(2)
        channel.send(json.dumps(message).encode())
    except OSError:
        pass
    return 2


def run(open_device: Callable[[dict[str, Any]], GrabbingDevice], more: Callable[[list[str]], int | None]) -> None:
    """Entry point of a process; ``more`` are requests of one library alone, None for what is none of them."""
    arguments = sys.argv[1:]
    code = more(arguments)
    if code is None and arguments[:1] == ["--profile"]:
        code = print_profile(json.loads(arguments[1]), open_device)
    elif code is None:
        code = serve(arguments, open_device)
    sys.stdout.flush()
    # vendor libraries have been seen to hang or crash in their own unloading; everything is closed by now
    os._exit(code)
