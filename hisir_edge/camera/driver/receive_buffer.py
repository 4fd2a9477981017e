"""The kernel's limit to what a socket may hold: a camera sends a frame as one burst of packets.

viva-genicam 0.10 asks for two frames' bytes, Aravis 0.8 for one frame's (ArvGvStream, socket-buffer); the kernel cuts
both down to ``net.core.rmem_max`` without a word (socket(7), SO_RCVBUF), 212992 bytes on most distributions. Then a
camera's process that comes a few milliseconds late loses packets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hisir_edge.camera.driver.nodes import value_of

LIMIT = Path("/proc/sys/net/core/rmem_max")
SHIPPED_BYTES = 1 << 26
"""What ``systemd/hisir-edge.sysctl.conf`` sets."""


def too_small_for(frame_bytes: int, limit: Path = LIMIT) -> str:
    """Why packets of a camera on a network can get lost on this PC, and what to do; empty: a whole frame is kept.

    ``frame_bytes``: of one frame on the wire. ``limit``: the file that holds the limit; none: nothing is known.
    """
    try:
        limit_bytes = int(limit.read_text())
    except (OSError, ValueError):
        return ""
    if limit_bytes >= frame_bytes:
        return ""
    wanted = max(SHIPPED_BYTES, 1 << (2 * frame_bytes - 1).bit_length())
    return (
        f"packets may be lost: the kernel keeps at most {limit_bytes} bytes (net.core.rmem_max) of a frame's "
        f"{frame_bytes}; sudo sysctl -w net.core.rmem_max={wanted}, and in /etc/sysctl.d for the next start"
    )


def network_notes(node_map: Any) -> list[str]:
    """``too_small_for`` what a GigE Vision camera sends as it is set now (SFNC, PayloadSize); none: nothing to say."""
    payload_bytes = value_of(node_map, "PayloadSize")
    note = too_small_for(int(payload_bytes)) if payload_bytes else ""
    return [note] if note else []
