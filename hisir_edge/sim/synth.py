"""Writes rendered boards in the MVTec-AD folder layout (train/good, test/*, ground_truth/*)."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from hisir_edge.arrays import U8
from hisir_edge.errors import InputError
from hisir_edge.images import png_bytes, write_atomic
from hisir_edge.sim.camera import frame_from_board, mask_to_frame, shot_from_seed
from hisir_edge.sim.defects import DEFECTS, PlacedDefect, plant_defect
from hisir_edge.sim.layout import layout_from_product
from hisir_edge.sim.mat import Loose, board_on_mat, lay_matrix, mask_on_mat, mat_picture
from hisir_edge.sim.render import board_from_seed, draw_board

# keeps the three splits of one --seed apart
SPLIT_STRIDE = 100_000
ROOMY_PX = 2_000_000
"""On smaller frames a board may have no place for a class."""


@dataclass(frozen=True, slots=True)
class RenderedBoard:
    """A frame (h, w, 3) RGB uint8, its defect mask (h, w) uint8 0/255, and what was planted."""

    frame_rgb: U8
    mask: U8
    defects: tuple[PlacedDefect, ...]


def render_board(
    product: int, seed: int, size_wh: tuple[int, int], defect_kinds: tuple[str, ...] = (), loose: Loose | None = None
) -> RenderedBoard:
    """One board before the camera, with these defects on it; the same arguments give the same pixels.

    ``loose``: the board is smaller than the frame and lies on a mat so far from its middle.
    """
    board = board_from_seed(product, seed, size_wh if loose is None else loose.board_wh(size_wh))
    canvas = draw_board(board)
    mask = np.zeros(canvas.shape[:2], np.uint8)
    rng = np.random.default_rng([product, seed, 9])
    planted = []
    for kind in defect_kinds:
        board, defect = plant_defect(board, kind, rng, canvas, mask)
        planted.append(defect)
    shot = shot_from_seed(product * 1_000_003 + seed)
    if loose is not None:
        to_frame = lay_matrix(shot.seed, loose, size_wh)
        picture = board_on_mat(canvas, mat_picture(product, size_wh), to_frame)
        frame = frame_from_board(picture, replace(shot, shift_xy_px=(0.0, 0.0), turn_deg=0.0))
        return RenderedBoard(frame, mask_on_mat(mask, to_frame, size_wh), tuple(planted))
    return RenderedBoard(frame_from_board(canvas, shot), mask_to_frame(mask, shot), tuple(planted))


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardJob:
    """One picture of a synthetic data set and where it goes."""

    product: int
    seed: int
    size_wh: tuple[int, int]
    kind: str
    image: Path
    mask: Path | None
    loose: Loose | None = None


def _render_and_write(job: BoardJob) -> dict[str, object]:
    kinds = () if job.kind == "good" else (job.kind,)
    board = render_board(job.product, job.seed, job.size_wh, kinds, job.loose)
    write_atomic(job.image, png_bytes(board.frame_rgb, compression=1))
    if job.mask is not None:
        write_atomic(job.mask, png_bytes(board.mask, compression=3))
    return {
        "image": job.image.name,
        "class": job.kind,
        "board_seed": job.seed,
        "defects": [asdict(d) for d in board.defects],
    }


def jobs_from_counts(
    product: int,
    seed: int,
    size_wh: tuple[int, int],
    out: Path,
    counts: tuple[int, int, int],
    classes: tuple[str, ...] = tuple(DEFECTS),
) -> list[BoardJob]:
    """Plan a data set; ``counts`` is (train good, test good, test defective), classes in turn."""
    train_good, test_good, defective = counts
    base = seed * 10 * SPLIT_STRIDE
    jobs = [
        BoardJob(
            product=product,
            seed=base + i,
            size_wh=size_wh,
            kind="good",
            image=out / "train" / "good" / f"{i:03d}.png",
            mask=None,
        )
        for i in range(train_good)
    ]
    jobs += [
        BoardJob(
            product=product,
            seed=base + SPLIT_STRIDE + i,
            size_wh=size_wh,
            kind="good",
            image=out / "test" / "good" / f"{i:03d}.png",
            mask=None,
        )
        for i in range(test_good)
    ]
    for i in range(defective):
        kind = classes[i % len(classes)]
        image = out / "test" / kind / f"{i // len(classes):03d}.png"
        truth = out / "ground_truth" / kind / f"{image.stem}_mask.png"
        jobs.append(
            BoardJob(
                product=product, seed=base + 2 * SPLIT_STRIDE + i, size_wh=size_wh, kind=kind, image=image, mask=truth
            )
        )
    return jobs


def write_boards(
    jobs: list[BoardJob], workers: int, on_done: Callable[[], None] = lambda: None
) -> list[dict[str, object]]:
    """Render and write every job in worker processes; returns one record per board, in job order."""
    for folder in {path.parent for job in jobs for path in (job.image, job.mask) if path is not None}:
        folder.mkdir(parents=True, exist_ok=True)
    if workers <= 1:
        return list(_serially(jobs, on_done))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(_render_and_write, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                on_done()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _check_fits(jobs: list[BoardJob]) -> None:
    """InputError that names all classes at once that the first board of each has no place for."""
    unfit = []
    for kind in dict.fromkeys(job.kind for job in jobs if job.mask is not None):
        job = next(job for job in jobs if job.kind == kind)
        size_wh = job.size_wh if job.loose is None else job.loose.board_wh(job.size_wh)
        board = board_from_seed(job.product, job.seed, size_wh)
        canvas = draw_board(board)
        try:
            plant_defect(board, kind, np.random.default_rng([job.product, job.seed, 9]), canvas, canvas[..., 0] * 0)
        except InputError:
            unfit.append(kind)
    if unfit:
        w, h = jobs[0].size_wh
        fit = [kind for kind in dict.fromkeys(job.kind for job in jobs if job.mask is not None) if kind not in unfit]
        raise InputError(
            expected=f"boards with room for a visible defect of each class at {w}x{h}",
            received=f"no room for {', '.join(unfit)} on product {jobs[0].product}",
            fix=f"use a larger --size, or --classes {','.join(fit)}" if fit else "use a larger --size",
        )


def _serially(jobs: list[BoardJob], on_done: Callable[[], None]) -> Iterator[dict[str, object]]:
    for job in jobs:
        yield _render_and_write(job)
        on_done()


def write_dataset(
    product: int,
    seed: int,
    size_wh: tuple[int, int],
    out: Path,
    counts: tuple[int, int, int],
    classes: tuple[str, ...] = tuple(DEFECTS),
    workers: int = 1,
    on_done: Callable[[], None] = lambda: None,
    loose: Loose | None = None,
) -> int:
    """Write a whole data set and ``synth.json`` (what was planted where); returns the number of boards."""
    if out.exists() and any(out.iterdir()):
        raise InputError(
            expected="a new or empty folder", received=f"{out} with files in it", fix="choose another --out"
        )
    unknown = [c for c in classes if c not in DEFECTS]
    if unknown or not classes:
        raise InputError(
            expected=f"defect classes out of {', '.join(DEFECTS)}",
            received=", ".join(unknown) or "none",
            fix="change --classes",
        )
    layout_from_product(
        product, size_wh if loose is None else loose.board_wh(size_wh)
    )  # a size that cannot be drawn is refused before anything is written
    jobs = [replace(job, loose=loose) for job in jobs_from_counts(product, seed, size_wh, out, counts, classes)]
    out.mkdir(parents=True, exist_ok=True)
    if size_wh[0] * size_wh[1] < ROOMY_PX:
        _check_fits(jobs)
    try:
        records = write_boards(jobs, workers, on_done)
    except BaseException:  # the corrected command finds an empty folder again
        for folder in ("train", "test", "ground_truth"):
            shutil.rmtree(out / folder, ignore_errors=True)
        raise
    for job, record in zip(jobs, records, strict=True):
        record["image"] = str(job.image.relative_to(out))
    meta = {"product": product, "seed": seed, "size_wh": list(size_wh), "boards": records}
    write_atomic(out / "synth.json", json.dumps(meta, indent=1).encode())
    return len(jobs)
