"""What a line serves to Prometheus."""

from __future__ import annotations

import time
import urllib.request

COUNTED_S = 30.0


def scraped(port: int, *wanted: str) -> str:
    """The first page of metrics with all of these lines in it: a verdict is published before it is counted."""
    end = time.monotonic() + COUNTED_S
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            text: str = page.read().decode()
        missing = [line for line in wanted if f"{line}\n" not in text]
        if not missing:
            return text
        assert time.monotonic() < end, f"{missing} in {text}"
