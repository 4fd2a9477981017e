"""What it takes to make a camera's bytes into a frame, beside a copy of the same bytes, paired.

    python tests/bench/unpack.py [--size 4096x3000] [--rounds 15]

As the camera's own process does it: two threads, OpenCV's own switched off. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import cv2
import numpy as np

from hisir_edge.images.wire import WIRE_FORMATS, Unpacker

FORMATS = (
    "Mono8", "BayerRG8", "Mono12", "BayerRG16", "BayerRG12p", "BayerRG12Packed", "BayerRG10p", "Mono14p", "BGRa8",
    "YUV422_8",
)  # fmt: skip


def timed_ms(work) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def row(name: str, width: int, height: int, rounds: int) -> str:
    """A row of the table."""
    unpacker = Unpacker(WIRE_FORMATS[name], width, height)
    data = np.random.default_rng(0).integers(0, 256, unpacker.bytes_wanted()[0], dtype=np.uint8)
    out, copy = np.zeros(unpacker.out_bytes, np.uint8), np.zeros_like(data)
    pairs = [
        (timed_ms(lambda: unpacker.into(data, out)), timed_ms(lambda: np.copyto(copy, data)))
        for _ in range(rounds + 1)
    ]  # fmt: skip
    unpacker.close()
    unpacked, copied = (median(column) for column in zip(*pairs[1:], strict=True))
    return f"| `{name}` | {data.size / 1e6:.1f} MB | {unpacked:.1f} | {copied:.1f} |"


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="4096x3000")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    width, height = (int(side) for side in asked.size.split("x"))
    cv2.setNumThreads(1)
    print("| format | bytes | unpacked, ms | a copy, ms |\n|---|---|---|---|")
    for name in FORMATS:
        print(row(name, width, height, asked.rounds))


if __name__ == "__main__":
    main()
