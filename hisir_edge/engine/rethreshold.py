"""More good boards for what is built: they say more of the thresholds, and network and memory stay."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from hisir_edge.backends import onnxruntime_engine
from hisir_edge.bundle.files import FIRST_LOOK, MODEL, SELF_TEST
from hisir_edge.bundle.integrity import sha256_of
from hisir_edge.bundle.load import Bundle, bundle_from_manifest, load_bundle
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.bundle.metrics import MetricsModel
from hisir_edge.bundle.write import memory_as_shipped, write_noise
from hisir_edge.engine.acceptance.alone import show_places
from hisir_edge.engine.acceptance.asked import Asked, asked_again, settled
from hisir_edge.engine.acceptance.derive import Reading, reading_from_maps
from hisir_edge.engine.acceptance.difference import recall_of_difference
from hisir_edge.engine.acceptance.gate import Drift, by_class, check_recall, percent, recall_of, strengths_by_class
from hisir_edge.engine.acceptance.left_out import others_of_run
from hisir_edge.engine.acceptance.maps import boards_compared, maps_from_inspector
from hisir_edge.engine.acceptance.reviewed import with_reviewed
from hisir_edge.engine.assemble import held_out_boards, with_self_test, with_thresholds
from hisir_edge.engine.options import counting
from hisir_edge.engine.staging import finish, resolved, staging
from hisir_edge.engine.task import OnProgress, OnStage
from hisir_edge.errors import InputError
from hisir_edge.images.kept import arrays_kept
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.rops import Rops
from hisir_edge.learn.data.datasets import frame_size, good_images
from hisir_edge.learn.data.distinct import boards_of_pictures, same_boards
from hisir_edge.learn.data.run import RunRecord, load_memory, load_record, pictures_of, save_record
from hisir_edge.machine.cpu import available_threads
from hisir_edge.registry import TARGETS


def add_good_boards(run: Path, folder: Path, recursive: bool = False) -> list[str]:
    """Good boards for the thresholds of a run; returns the pictures that are none, as they show a board of the run.

    InputError for pictures of another size, and where none is new.
    """
    record = load_record(run)
    good = good_images(folder, recursive)
    if (hw := frame_size(good)) != record.frame_hw:
        h, w = record.frame_hw
        raise InputError(
            expected=f"good boards of {w}x{h}, as those of {run}",
            received=f"{hw[1]}x{hw[0]}",
            fix="take them with the same camera settings",
        )
    known = [Path(path) for path in pictures_of(record) if Path(path).is_file()]
    digests = {sha256_of(path) for path in known}
    offered = [path for path in good if sha256_of(path) not in digests]
    every = [*known, *offered]
    boards = boards_of_pictures(every, record.frame_hw, rules=record.rules)
    of_run = set(boards[: len(known)])
    new = [path for path, board in zip(offered, boards[len(known) :], strict=True) if board not in of_run]
    if not new:
        raise InputError(
            expected="good boards that the run has not seen",
            received=f"{len(good)} pictures, all of boards that it has",
            fix="take other boards",
        )
    record = replace(
        record,
        held_out=(*record.held_out, *map(str, new)),
        added=record.added + len(new),
        same_board=same_boards(every, boards),
    )
    save_record(run, record)
    return [str(path) for path in good if path not in new]


@arrays_kept()
def rethreshold(
    run: Path,
    out: Path,
    rate: float | None,
    least_planted_recall: float | None,
    keep_odd: bool = False,
    despite_reviewed: bool = False,
    on_stage: OnStage = lambda stage: None,
    on_progress: OnProgress = lambda phase, done, total: True,
) -> Manifest:
    """Derive noise map and thresholds of a bundle anew from all held-out boards of its run, and replace it.

    ``rate`` (false calls a board) and ``least_planted_recall`` are as for a build, None: as it was built with;
    ``keep_odd``: what one board alone shows counts, too; ``despite_reviewed``: as for a build.
    InputError for a bundle of another run, and for one whose network does not run on a CPU: what its thresholds come
    from is not in it.
    """
    out, record = resolved(out), counting(load_record(run), keep_odd)
    bundle = load_bundle(out)
    _check_of_run(bundle, run, record)
    wanted = bundle.manifest.thresholds.false_calls_per_board if rate is None else rate
    with staging(out) as (staged, scratch):
        opened = _opened(bundle, staged)
        engine = onnxruntime_engine(opened.model, opened.recipe, available_threads())
        inspector = CpuInspector(opened, engine, Rops, record.each_left_out)
        on_stage(f"{len(record.held_out)} good boards")
        others = others_of_run(inspector, record, scratch) if record.each_left_out else None

        def tell(done: int, total: int) -> None:
            on_progress("good boards", done, total)

        if bundle.manifest.cascade is not None:
            on_stage("without its first look, which was proven for other thresholds: build-engine --cascade makes one")
        maps = maps_from_inspector(inspector, record, scratch / "maps", tell, others, boards_compared(record))
        reading = reading_from_maps(opened, maps, wanted)

        def difference() -> float:
            on_stage("few planted defects are found: measuring how many a golden-image difference finds")
            compared = boards_compared(record)
            return recall_of_difference(opened, record, scratch / "difference", wanted, compared, others, tell)

        fewer = wanted < bundle.manifest.thresholds.false_calls_per_board
        asked = asked_again(bundle.manifest.metrics, least_planted_recall, fewer_calls=fewer)
        asked = settled(asked, recall_of(reading), len(reading.peaks), difference)
        show_places(inspector, record, reading.alone, run, on_stage)
        manifest = with_thresholds(opened.manifest, reading, staged)
        counted = {"held_out_boards": held_out_boards(record), "false_calls_per_board": wanted}
        manifest = manifest.model_copy(
            update={
                "thresholds": manifest.thresholds.model_copy(update=counted),
                "revision": None,  # strengths count from these thresholds on
                "metrics": _metrics(bundle.manifest, reading, maps.held_out, asked),
                "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
        )
        manifest = with_self_test(manifest, staged, staged / MODEL, record, on_stage)
        manifest = with_reviewed(manifest, staged, staged / MODEL, run, record, despite_reviewed, on_stage)
        finish(staged, out, manifest)
    return manifest


def _check_of_run(bundle: Bundle, run: Path, record: RunRecord) -> None:
    if TARGETS[bundle.manifest.target].graph != "cpu":
        raise InputError(
            expected="a bundle for onnxruntime with --thresholds-only",
            received=f"{bundle.folder} for {bundle.manifest.target}",
            fix="leave --thresholds-only out: the run keeps the boards that were added",
        )
    memory = load_memory(run)
    as_shipped = memory_as_shipped(memory.mean_rgb, memory.deviation)
    if not np.array_equal(bundle.memory_rgbd, as_shipped) or bundle.manifest.backbone != record.settings.backbone:
        raise InputError(
            expected=f"a bundle that was built from {run}",
            received=f"{bundle.folder} of another run",
            fix="name its own run, or leave --thresholds-only out",
        )


def _opened(bundle: Bundle, staged: Path) -> Bundle:
    """A copy of a bundle with open thresholds and no noise map: every score counts."""
    for name in bundle.manifest.files:
        if name not in (SELF_TEST, FIRST_LOOK):  # the first look was proven for the thresholds of before
            shutil.copyfile(bundle.folder / name, staged / name)
    write_noise(staged, np.zeros(bundle.noise.shape, np.uint8))
    manifest = bundle.manifest
    open_ones = manifest.thresholds.model_copy(update={"pixel": 1.0, "region_peak": 1.0, "min_area_px": 1})
    return bundle_from_manifest(staged, manifest.model_copy(update={"thresholds": open_ones, "cascade": None}), "")


def _metrics(manifest: Manifest, reading: Reading, boards: int, asked: Asked) -> MetricsModel | None:
    """The gate's figures with what is found now; InputError where that is too little."""
    if manifest.metrics is None:
        return None
    peaks = by_class(reading)
    found = manifest.metrics.model_copy(
        update={
            "recall": recall_of(reading),
            "recall_by_class": {name: float(np.mean([p >= 1 for p in of])) for name, of in peaks.items()},
            "planted_strengths": strengths_by_class(reading),
            "held_out_boards": boards,
            "false_regions": reading.false_regions,
            "least_planted_recall": asked.share,
            "least_by_difference": asked.or_as_a_difference,
            "difference_recall": asked.difference,
            "usual_planted_recall": asked.usual,
        }
    )
    before = percent(manifest.metrics.recall)
    whose = f"the bundle's network, which found {before} by its thresholds of before"
    check_recall(
        Drift(**found.model_dump()), whose, "allow more false calls, leave out boards that may be bad, or train longer"
    )
    return found
