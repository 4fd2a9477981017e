"""Bytes a second of each kernel against this GPU's own copy ceiling, for docs/RESULTS.md.

    python tests/gpu/kernels.py [--size 4096x3000] [--rounds 21] [--copy-mib 256] [--json FILE]

Kernel and a copy within the GPU's memory take turns; medians. Bytes are those that a kernel has to read and
write at least: what several threads read of one place counts once, and of the tables the part that is used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from hisir_edge.cli.console import size_from_text
from hisir_edge.cuda.device import Buffer
from hisir_edge.cuda.pycuda_device import PycudaDevice
from hisir_edge.cuda.reference import LAYOUTS, fixed_point
from hisir_edge.errors import HisirEdgeError
from hisir_edge.geometry.merge_plan import merge_plan_from_tiles
from hisir_edge.geometry.tile import plan_from_size

LAUNCHES = 5
TILE, SIDE = 256, 16
Kernels = dict[str, tuple[int, Callable[[], None]]]


def main() -> None:
    """Print a Markdown table; ends with the reason where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="4096x3000")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--copy-mib", type=int, default=256, help="of the copies that kernels are compared with")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    w, h = size_from_text(options.size)
    try:
        device = PycudaDevice()
    except HisirEdgeError as error:
        sys.exit(f"not measured on a GPU: {error}")
    found = measured(device, (h, w), options.rounds, options.copy_mib << 20)
    print("| kernel | us | GB/s | of the copy ceiling |\n|---|---|---|---|")
    for name, one in found.items():
        print(f"| {name} | {one['us']:.0f} | {one['gb_per_s']:.0f} | {one['of_copy']:.2f} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def measured(device: PycudaDevice, hw: tuple[int, int], rounds: int, copy_bytes: int) -> dict[str, dict[str, float]]:
    """Medians of each kernel: microseconds, GB/s, and share of the copy's bytes a second in the same rounds."""
    found = {}
    with device.active():
        stream = device.stream()
        start, end = device.event(timed=True), device.event(timed=True)
        a, b = device.alloc(copy_bytes), device.alloc(copy_bytes)

        def seconds(work: Callable[[], None]) -> float:
            stream.copy_within(b, a)  # while it runs the host is ahead: launches are not what is measured
            start.record(stream)
            for _ in range(LAUNCHES):
                work()
            end.record(stream)
            end.wait()
            return end.seconds_since(start) / LAUNCHES

        for name, (nbytes, work) in kernels_of(device, stream, hw).items():
            work()
            pairs = [(seconds(work), seconds(lambda: stream.copy_within(b, a))) for _ in range(rounds)]
            took = median(pair[0] for pair in pairs)
            of_copy = median(nbytes / pair[0] / (2 * copy_bytes / pair[1]) for pair in pairs)
            found[name] = {"us": 1e6 * took, "bytes": nbytes, "gb_per_s": nbytes / took / 1e9, "of_copy": of_copy}
    return found


def kernels_of(device: PycudaDevice, stream, hw: tuple[int, int]) -> Kernels:
    """Each kernel with the bytes that it moves, on a frame of ``hw`` on which nothing and on which all is seen."""
    (h, w), t = hw, TILE
    merge = merge_plan_from_tiles(plan_from_size(hw, t, 32))
    n, (depth, rows, columns), (ph, pw) = len(merge.plan.origins_yx), merge.candidate.shape, merge.plan.padded_hw
    cells, grid, mask = n * SIDE**2, rows * columns, h * -(-w // 8)

    def up(array: np.ndarray) -> Buffer:
        return device.upload(array)

    rng = np.random.default_rng(0)
    raw, bayer = up(rng.integers(0, 256, h * w * 3, np.uint8)), up(rng.integers(0, 256, h * w, np.uint8))
    origins, tables = up(np.array(merge.plan.origins_yx, np.int32)), up(np.zeros((n, 1, 256, 3), np.uint8))
    matrix = up(fixed_point(np.array([[0.9999, -0.01, 2.3], [0.01, 0.9999, -1.7]])))
    candidate, cell0, border = (up(one) for one in (merge.candidate, merge.cell, merge.border))
    memory, tiles = up(np.zeros((4, ph, pw), np.uint8)), device.alloc(n * 14 * t**2)
    scores, misfit, level = up(np.zeros((n, t, t), np.float32)), *(up(np.zeros(cells, np.float32)) for _ in range(2))
    peaks = {"nothing seen": up(np.zeros(cells, np.float32)), "all seen": up(np.full(cells, 2, np.float32))}
    maps = {"nothing seen": up(np.zeros((ph, pw), np.float32)), "all seen": up(np.full((ph, pw), 2, np.float32))}
    tile, before, cell, no_number = (up(np.zeros(grid, np.int32)) for _ in range(4))
    gain, most_gain = up(np.ones((h, w), np.float32)), up(np.ones(grid, np.float32))
    out, values, bits = device.alloc(ph * pw * 4), device.alloc(h * w * 4), device.alloc(mask)
    small = {"nothing seen": up(np.zeros(grid, np.float32)), "all seen": up(np.full(grid, 2, np.float32))}
    rgb, mosaic, area = LAYOUTS.index("RGB8"), LAYOUTS.index("BayerRG8"), n * t * t

    def cut(kernel: str, source: Buffer, layout: int, *more: object) -> Callable[[], None]:
        return lambda: stream.launch(
            kernel, (t, t, n), source, layout, w, h, matrix, origins, tables, h, w, t, 0, *more
        )  # fmt: skip

    found: Kernels = {
        "tiles_u8, RGB": (h * w * 3 + area * 3, cut("tiles_u8", raw, rgb, None, tiles)),
        "tiles_u8, Bayer": (h * w + area * 3, cut("tiles_u8", bayer, mosaic, None, tiles)),
        "tiles_f16, RGB": (h * w * 7 + area * 14, cut("tiles_f16", raw, rgb, memory, ph, pw, tiles)),
        "tiles_f16, Bayer": (h * w * 5 + area * 14, cut("tiles_f16", bayer, mosaic, memory, ph, pw, tiles)),
        "region_figures": (scores.nbytes + 3 * cells * 4, lambda: stream.launch(
            "region_figures", (SIDE, SIDE, n), scores, misfit, t, level, peaks["nothing seen"], no_number)),
        "choose": ((3 * depth + 3) * grid * 4 + 2 * cells * 4, lambda: stream.launch(
            "choose", (columns, rows, 1), candidate, cell0, border, depth, rows, columns, SIDE**2, level, misfit,
            before, None, tile, cell)),
        "gather": (2 * ph * pw * 4, lambda: stream.launch(
            "gather", (pw, ph, 1), scores, t, tile, cell, ph, pw, out)),
    }  # fmt: skip
    for what, scored in maps.items():
        all_of_it = what == "all seen"
        found[f"region_scores, {what}"] = (all_of_it * h * w * 8 + 5 * grid * 4, partial(
            stream.launch, "region_scores", (columns, rows, 1), scored, gain, h, w, pw, peaks[what], SIDE**2, tile,
            cell, most_gain, out))  # fmt: skip
        found[f"mask_bits, {what}"] = (all_of_it * h * w * 12 + grid * 4 + mask, partial(
            stream.launch, "mask_bits", (-(-w // 8), h, 1), scored, gain, h, w, pw, small[what], matrix, h, w, bits,
            values))  # fmt: skip
    return found


if __name__ == "__main__":
    main()
