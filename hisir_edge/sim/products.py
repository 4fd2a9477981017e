"""Many products to pretrain a network on: for each a stack of good boards, drawn as they are, before any camera.

Numbers that are measured with are never drawn: the demonstration's, those of docs/RESULTS.md, and all above 4000.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import U8, u8
from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic
from hisir_edge.sim.clutter import clutter_of_product, strew, wires
from hisir_edge.sim.render import bare_board, board_from_seed, draw_board

FIRST_PRODUCT, LAST_PRODUCT = 1000, 3999
STACK_SIDE_PX = 576
STACK_BOARDS = 16
SMALLEST, LARGEST = 0.45, 1.3
PLAIN_SHARE = 0.4
CLUTTERED_ONLY_SHARE = 0.25
WIRED_SHARE = 0.15
SEED_BASE = 50_000_000
"""Boards of a stack are none that ``synth`` draws for any --seed below 50."""


def stack_of_product(product: int) -> U8:
    """Boards (16, 576, 576, 3) uint8 of one product, seen at a scale of its own."""
    if not FIRST_PRODUCT <= product <= LAST_PRODUCT:
        raise InputError(
            expected=f"a product number from {FIRST_PRODUCT} to {LAST_PRODUCT}",
            received=str(product),
            fix="other numbers are kept for measuring",
        )
    rng = np.random.default_rng([product, 30])
    scale = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
    side = max(round(STACK_SIDE_PX / scale), 256)
    way = rng.random()
    things, megapixels = 0, side * side / 1e6
    if way > PLAIN_SHARE:
        things = int(megapixels * rng.uniform(10, 90)) + 2
    wired = int(rng.integers(1, 4)) if rng.random() < WIRED_SHARE else 0
    clutter = clutter_of_product(product, (side, side), things)
    stack = np.empty((STACK_BOARDS, STACK_SIDE_PX, STACK_SIDE_PX, 3), np.uint8)
    for number in range(STACK_BOARDS):
        seed = SEED_BASE + number
        if way > 1 - CLUTTERED_ONLY_SHARE:
            canvas = bare_board(product, (side, side)).copy()
        else:
            canvas = draw_board(board_from_seed(product, seed, (side, side)))
        strew(canvas, clutter, seed)
        wires(canvas, product, seed, wired)
        how = cv2.INTER_AREA if side > STACK_SIDE_PX else cv2.INTER_CUBIC
        stack[number] = cv2.resize(canvas, (STACK_SIDE_PX, STACK_SIDE_PX), interpolation=how)
    return u8(stack)


def _write(product: int, path: Path) -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, stack_of_product(product))
    write_atomic(path, buffer.getvalue())


def write_stacks(out: Path, count: int, workers: int, on_done: Callable[[int, int], None]) -> None:
    """Stacks of the first ``count`` products, ``out/NNNN.npy``; those that are there already are kept."""
    out.mkdir(parents=True, exist_ok=True)
    products = range(FIRST_PRODUCT, FIRST_PRODUCT + count)
    missing = [(p, out / f"{p}.npy") for p in products if not (out / f"{p}.npy").is_file()]
    on_done(count - len(missing), count)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_write, *job) for job in missing]
        try:
            for number, future in enumerate(as_completed(futures), start=count - len(missing) + 1):
                future.result()
                on_done(number, count)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
