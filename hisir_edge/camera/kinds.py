"""A camera as it is set now, read in a process of its own: its maker's library may end the process it is in."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from hisir_edge.camera.processes import process_module
from hisir_edge.config.sources import CameraTable
from hisir_edge.errors import CameraError

TIMEOUT_S = 60


def camera_profile(settings: CameraTable) -> dict[str, Any]:
    """``{"camera": {name: text}, "features": {name: text}}`` after the configuration is applied; CameraError."""
    asked = settings.model_copy(update={"profile": ""}).model_dump_json()
    command = [sys.executable, "-m", process_module(settings.type), "--profile", asked]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise CameraError(
            expected=f"the camera's settings within {TIMEOUT_S} s",
            received=type(error).__name__,
            fix="check the camera",
        ) from error
    try:
        if done.returncode:
            expected, received, fix = json.loads(done.stderr.strip().splitlines()[-1])
            raise CameraError(expected=expected, received=" ".join(received.split())[:400], fix=fix)
        found: dict[str, Any] = json.loads(done.stdout)
    except (ValueError, IndexError) as error:
        raise CameraError(
            expected="the camera's settings",
            received=f"nothing that can be read (exit code {done.returncode})",
            fix="check the camera and its producer",
        ) from error
    return found
