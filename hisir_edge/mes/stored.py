"""Files that a line keeps, fetched piece by piece: archived boards, and what its bundle consists of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hisir_edge.errors import InputError
from hisir_edge.transport.control_client import Asker


def stored_file(
    asker: Asker, request: dict[str, Any], timeout_s: float = 10.0, stop: Callable[[], bool] = lambda: False
) -> tuple[dict[str, Any], bytes]:
    """The last answer to ``archived_board`` or ``bundle_file``, and the whole file; ``stop`` ends the wait.

    InputError where the line refuses, or the file changes meanwhile; NoAnswer where the line is silent.
    """
    data, size = bytearray(), None
    while True:
        answer, frames = asker.ask({**request, "offset": len(data)}, timeout_s, stop)
        piece = frames[0] if frames else b""
        size = answer["size"] if size is None else size
        data += piece
        if answer["size"] != size or answer["offset"] + len(piece) != len(data) or (not piece and len(data) < size):
            raise InputError(
                expected=f"a file of {size} bytes",
                received="another one meanwhile",
                fix="ask again",
            )
        if len(data) >= size:
            return answer, bytes(data)
