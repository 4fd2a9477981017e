"""What is new, from the threads that follow lines to the browsers that listen (server-sent events)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

MOST_LISTENERS, MOST_WAITING = 100, 256
SILENT_S = 10.0
"""Something is sent at least so often, so that both sides notice a connection that is gone."""


class Hub:
    """``tell`` from any thread; ``events`` for one browser each. The loop is that of the first listener."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[asyncio.Queue[str | None]] = set()

    @property
    def full(self) -> bool:
        """Whether no more browsers can listen."""
        return len(self._listeners) >= MOST_LISTENERS

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Send to all who listen."""
        if self._loop is not None and not self._loop.is_closed():
            text = f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
            self._loop.call_soon_threadsafe(self._put, text)

    def close(self) -> None:
        """End all streams."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, None)

    def _put(self, text: str | None) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(text)
            except asyncio.QueueFull:  # it does not read: it shall load anew
                self._listeners.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)

    async def events(self, is_open: Callable[[], bool] = lambda: True) -> AsyncIterator[str]:
        """The stream of one browser, while its session is open."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue(MOST_WAITING)
        self._listeners.add(queue)
        try:
            yield "event: hello\ndata: {}\n\n"
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), SILENT_S)
                except asyncio.TimeoutError:
                    text = ": still here\n\n"
                if text is None or not is_open():
                    return
                yield text
        finally:
            self._listeners.discard(queue)
