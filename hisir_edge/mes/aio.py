"""``subscribe`` for asyncio: the same stream, received by a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from hisir_edge.mes.client import subscribe
from hisir_edge.mes.verdict import Verdict


async def subscribe_async(
    endpoint: str, name: str = "", state_dir: str | Path = "", **options: Any
) -> AsyncGenerator[Verdict, None]:
    """As ``subscribe``, with its options, for ``async for``; cancelled, it ends within a poll or an answer.

    What was handed out when it is cancelled is not acknowledged and comes again.
    """
    ended, told = Event(), options.pop("stop", lambda: False)
    stream = subscribe(endpoint, name, state_dir, stop=lambda: ended.is_set() or told(), **options)
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1, thread_name_prefix="subscribe")
    try:
        while (verdict := await loop.run_in_executor(pool, next, stream, None)) is not None:
            yield verdict
    finally:
        ended.set()
        closing = asyncio.ensure_future(loop.run_in_executor(pool, stream.close))
        with suppress(asyncio.CancelledError):
            await asyncio.shield(closing)
        pool.shutdown(wait=False)
