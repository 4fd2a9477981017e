"""Bytes a second of each kernel against this GPU's own copy ceiling, for docs/RESULTS.md.

    python tests/bench/gpu_kernels.py [--size 4096x3000] [--rounds 21]

Kernel and a device-to-device copy of 256 MiB take turns; medians. Bytes are those that a kernel has to read and write.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from statistics import median

import numpy as np

from hisir_edge.console import size_from_text
from hisir_edge.cuda.device import PycudaDevice
from hisir_edge.cuda.reference import LAYOUTS, fixed_point
from hisir_edge.errors import HisirEdgeError
from hisir_edge.line.merge import merge_plan_from_tiles
from hisir_edge.line.tile import plan_from_size

COPY = 1 << 28
TILE, SIDE = 256, 16


def main() -> None:
    """Print a Markdown table; exit 0 with a reason where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="4096x3000")
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    w, h = size_from_text(options.size)
    try:
        device = PycudaDevice()
    except HisirEdgeError as error:
        print(f"not measured on a GPU: {error}")
        return
    cuda = device.cuda
    merge = merge_plan_from_tiles(plan_from_size((h, w), TILE, 32))
    n, (depth, rows, columns), (ph, pw) = len(merge.plan.origins_yx), merge.candidate.shape, merge.plan.padded_hw
    with device.active():
        stream = device.stream()
        raw = device.upload(np.random.default_rng(0).integers(0, 256, h * w * 3, np.uint8))
        origins = device.upload(np.array(merge.plan.origins_yx, np.int32))
        matrix = device.upload(fixed_point(np.array([[0.9999, -0.01, 2.3], [0.01, 0.9999, -1.7]])))
        tables = device.upload(np.zeros((n, 1, 256, 3), np.uint8))
        candidate, cell0, border = (device.upload(a) for a in (merge.candidate, merge.cell, merge.border))
        tiles, scores = device.alloc(n * 3 * TILE**2), device.upload(np.zeros((n, TILE, TILE), np.float32))
        cells = n * SIDE**2
        misfit, level, peak = (device.upload(np.zeros(cells, np.float32)) for _ in range(3))
        tile, before, cell = (device.upload(np.zeros(rows * columns, np.int32)) for _ in range(3))
        out, a, b = device.alloc(ph * pw * 4), device.alloc(COPY), device.alloc(COPY)
        layout = LAYOUTS.index("RGB8")
        kernels: dict[str, tuple[int, Callable[[], None]]] = {
            "tiles_u8": (h * w * 3 + tiles.nbytes, lambda: stream.launch(
                "tiles_u8", (TILE, TILE, n), raw, layout, w, h, matrix, origins, tables, h, w, TILE, 0, tiles)),
            "region_figures": (scores.nbytes + 3 * cells * 4, lambda: stream.launch(
                "region_figures", (SIDE, SIDE, n), scores, misfit, TILE, level, peak)),
            "choose": ((3 * depth + 3) * rows * columns * 4, lambda: stream.launch(
                "choose", (columns, rows, 1), candidate, cell0, border, depth, rows, columns, SIDE**2, level, misfit,
                before, tile, cell)),
            "gather": (2 * ph * pw * 4, lambda: stream.launch(
                "gather", (pw, ph, 1), scores, TILE, tile, cell, ph, pw, out)),
        }  # fmt: skip
        start, end = cuda.Event(), cuda.Event()

        def seconds(work: Callable[[], None]) -> float:
            start.record(stream.stream)
            work()
            end.record(stream.stream)
            end.synchronize()
            return float(start.time_till(end)) / 1e3

        print(f"{w}x{h}, {n} tiles, {sys.argv[0]}\n| kernel | us | GB/s | of the copy ceiling |\n|---|---|---|---|")
        for name, (nbytes, work) in kernels.items():
            work()
            rounds = [
                (seconds(work), seconds(lambda: cuda.memcpy_dtod_async(b.ptr, a.ptr, COPY, stream.stream)))
                for _ in range(options.rounds)
            ]
            took, share = median(r[0] for r in rounds), median(nbytes / r[0] / (2 * COPY / r[1]) for r in rounds)
            print(f"| {name} | {1e6 * took:.0f} | {nbytes / took / 1e9:.0f} | {share:.2f} |")


if __name__ == "__main__":
    main()
