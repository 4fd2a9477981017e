"""JSON as it must be where machines depend on it: a key given twice is refused, not taken by its last value."""

from __future__ import annotations

import json
from typing import Any


def loads_once(text: bytes | str) -> Any:
    """The value of a JSON text (RFC 8259); ValueError for what is none, for keys given twice, NaN and Infinity."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"the key {name[:80]!r} twice")
        seen.add(name)
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name}, which is not JSON")
