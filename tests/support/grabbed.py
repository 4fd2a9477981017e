"""What a camera gives in a test, until it is enough."""

from __future__ import annotations

import time
from collections.abc import Callable

from hisir_edge.camera.process_host import GenicamCamera
from hisir_edge.records import Frame, GrabFault

Items = list[Frame | GrabFault]


def take(source: GenicamCamera, until: Callable[[Items], bool], limit_s: float = 40.0) -> Items:
    """Everything that comes until it is enough."""
    end, items = time.monotonic() + limit_s, list[Frame | GrabFault]()
    while not until(items):
        assert time.monotonic() < end, items[-3:]
        item = source.next(0.2)
        if item is not None:
            items.append(item)
    return items


def frames(count: int) -> Callable[[Items], bool]:
    """Enough are so many frames."""
    return lambda items: sum(isinstance(i, Frame) for i in items) >= count
