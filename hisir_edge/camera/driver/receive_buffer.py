"""The kernel's limit to what a socket may hold: a camera sends a frame as one burst of packets.

viva-genicam 0.10 asks for two frames' bytes, Aravis 0.8 for one frame's (ArvGvStream, socket-buffer); the kernel cuts
both down to ``net.core.rmem_max`` without a word (socket(7), SO_RCVBUF), 212992 bytes on most distributions. Then a
camera's process that comes a few milliseconds late loses packets.
"""

from __future__ import annotations

from typing import Any

from hisir_edge.camera.driver.nodes import value_of
from hisir_edge.machine.sockets import MOST_BYTES, SHIPPED_BYTES, largest_receive_buffer


def too_small_for(wanted_bytes: int, limit_bytes: int | None) -> str:
    """Why packets of a camera on a network can get lost on this PC, and what to do; empty: there is room.

    ``wanted_bytes``: what the library asks for, a frame or two on the wire. ``limit_bytes``: what the kernel gives at
    most; None: nothing is known.
    """
    if limit_bytes is None or limit_bytes >= min(wanted_bytes, MOST_BYTES):
        return ""
    advised = min(max(SHIPPED_BYTES, 1 << (wanted_bytes - 1).bit_length()), MOST_BYTES)
    return (
        f"packets may be lost where the PC is busy: a socket may hold {limit_bytes} bytes (net.core.rmem_max), the "
        f"camera's is to hold {wanted_bytes}; sudo sysctl -w net.core.rmem_max={advised}, then start the line again; "
        "to keep it after a reboot, write it into a file in /etc/sysctl.d"
    )


def network_notes(node_map: Any, frames: int) -> list[str]:
    """``too_small_for`` so many frames of a GigE Vision camera as it is set now (SFNC, PayloadSize); mostly none."""
    try:
        payload_bytes = int(value_of(node_map, "PayloadSize") or 0)
    except (TypeError, ValueError, OverflowError):  # no number
        return []
    note = too_small_for(frames * payload_bytes, largest_receive_buffer()) if payload_bytes > 0 else ""
    return [note] if note else []
