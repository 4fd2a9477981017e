"""How often each client may ask."""

from __future__ import annotations

import time
from collections import OrderedDict

MOST_KNOWN = 1024


class Buckets:
    """A bucket of tokens for each who asks (https://en.wikipedia.org/wiki/Token_bucket); of very many the last ones."""

    def __init__(self, rate_a_second: float, most: float) -> None:
        self._rate, self._most = rate_a_second, most
        self._left: OrderedDict[object, tuple[float, float, float]] = OrderedDict()

    def take(self, who: object) -> float:
        """Tokens left before one is taken; below 1 there was none."""
        now = time.monotonic()
        left, at, since = self._left.pop(who, (self._most, now, now))
        left = min(left + (now - at) * self._rate, self._most)
        self._left[who] = (left - 1 if left >= 1 else left, now, since)
        if len(self._left) > MOST_KNOWN:
            self._left.popitem(last=False)
        return left

    def known_s(self, who: object) -> float:
        """Seconds since the first request of a client."""
        return time.monotonic() - self._left[who][2] if who in self._left else 0.0
