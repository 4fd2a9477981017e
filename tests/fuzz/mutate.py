"""Changes that break parsers: bits, lengths, pieces of other inputs, deep nesting, odd numbers, odd text."""

from __future__ import annotations

import random

PIECES = (
    b"", b"\x00", b"\xff", b"\xff\xfe", b"{", b"}", b"[", b'"', b"\\u0000", b"\\ud800", b"-1", b"1e999", b"NaN",
    b"9" * 40, b"null", b"true", b"0.5", b"\xc3\x28", b"[" * 5000, b'{"a":' * 2000, b"<", b"&#0;", b"</Hermes>",
    b"\x00|\x00", b"%s%n", b"'; DROP TABLE verdict; --", b"18446744073709551616", b'"do"', b'"seq"', b'"epoch"', b"\n",
)  # fmt: skip
MOST_BYTES = 60_000


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """One input: a seed with a few changes, or anything."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.choice((1, 2, 10, 100))]
        elif kind == 2:
            data[at:at] = rng.choice(PIECES)
        elif kind == 3:
            data[at : at + rng.choice((1, 4, 20))] = rng.choice(PIECES)
        elif kind == 4:
            other = rng.choice(seeds)
            start = rng.randrange(len(other) + 1)
            data[at:at] = other[start : start + rng.randrange(60)]
        else:
            data = data[:at]
    return bytes(data[:MOST_BYTES])
