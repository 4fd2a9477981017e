"""``hisir-edge bench``: what a bundle costs on this machine, beside what the machine itself can do.

Latency (one frame alone), throughput (frames in flight), the engine alone, a matrix product and a copy of memory take
turns in one process, so that other work on the machine falls on all of them; medians are reported.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import F32, U8, u8
from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bench.figures import Span, figures_of_run
from hisir_edge.bench.limits import CpuLimits, GpuLimits
from hisir_edge.bundle.load import Bundle
from hisir_edge.cuda.inspector import GPU_THREAD, CudaInspector
from hisir_edge.errors import InputError
from hisir_edge.geometry.noise_shape import noise_shape
from hisir_edge.geometry.tile import padded_size, scaled_hw, tiles_from_frame, tiles_from_planes
from hisir_edge.images.header import MAX_SIDE_PX
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import BoardInspector, in_flight
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.engine import OnSpan
from hisir_edge.inspection.selftest import picture_of
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.line.sockets.message import Provenance, message_from_judgement
from hisir_edge.machine.heap import return_freed_memory
from hisir_edge.records import Frame, Judgement, Result

LEAST_SIDE_PX = 64
KEPT_TILES = 128
"""Number of different tiles for the engine alone; larger frames use them repeatedly."""
LEAST_IN_A_ROW, MOST_IN_A_ROW, ROW_S = 4, 400, 1.0
"""Frames in a row: as many as take a second or so."""
SLOW_S = 10.0
"""Of frames that take so long each (a line camera's of 160 Mpx) as many in a row as are in flight, and no more."""


def bundle_of_size(bundle: Bundle, frame_hw: tuple[int, int]) -> Bundle:
    """The bundle as if its camera had this resolution: the same network, the board's pictures enlarged or cut down."""
    if frame_hw == bundle.recipe.frame_hw:
        return bundle
    recipe = replace(bundle.recipe, frame_hw=frame_hw)
    h, w = scaled_hw(frame_hw, recipe.scale)
    old_h, old_w = scaled_hw(bundle.recipe.frame_hw, recipe.scale)
    planes = np.empty((4, *padded_size((h, w))), np.uint8)
    for new, old in zip(planes, bundle.memory, strict=True):
        new[:h, :w] = cv2.resize(old[:old_h, :old_w], (w, h), interpolation=cv2.INTER_AREA)
        new[h:, :w], new[:, w:] = new[h - 1, :w], new[:, w - 1 : w]
    rows, columns = noise_shape((h, w))
    noise = np.asarray(cv2.resize(bundle.noise, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
    return replace(bundle, recipe=recipe, memory=planes, noise=noise.reshape(rows, columns), zones=(), places=())


def measured(
    bundle: Bundle,
    frame_hw: tuple[int, int] | None,
    threads: int,
    slots: int,
    rounds: int,
    on_round: Callable[[], None],
    torch_run: Path | None = None,
    whole: bool = False,
) -> tuple[dict[str, Any], list[Span]]:
    """Figures of a bundle on frames of a size, None: its own, and what every thread did with some frames at the end.

    ``torch_run``: a training run whose network torch runs on the GPU, in place of the bundle's engine. ``whole``: the
    network sees every tile, whatever a first look would say.
    """
    frame_hw = frame_hw or bundle.recipe.frame_hw
    if not all(LEAST_SIDE_PX <= side <= MAX_SIDE_PX for side in frame_hw):
        raise InputError(
            expected=f"frames of {LEAST_SIDE_PX} to {MAX_SIDE_PX} px a side",
            received=f"{frame_hw[1]}x{frame_hw[0]}",
            fix="correct --size",
        )
    return_freed_memory()
    frame = u8(cv2.resize(picture_of(bundle), frame_hw[::-1], interpolation=cv2.INTER_AREA))
    manifest, sized = bundle.manifest, bundle_of_size(bundle, frame_hw)
    del bundle  # where the caller has not kept it, only the one of this size takes memory from here on
    inspector = inspector_from_bundle(sized, threads) if torch_run is None else _by_torch(sized, torch_run)
    looks_first = not whole and inspector.look_first(guarded=False)
    inspector.watch_optics("off")  # at another size than its own a board is not as sharp as its good boards
    spans: list[Span] = []
    recipe = Provenance(line="bench", epoch="0" * 32, product=manifest.product, bundle_sha256=sized.manifest_sha256)
    work = _Work(recipe, frame)
    rows: list[dict[str, float]] = []
    pipeline = Pipeline[BoardInspector, int, Judgement](
        in_flight(inspector, slots), lambda one, _: work.verdict(one), lambda _: None
    )
    with pipeline:
        start = time.perf_counter()
        first = work.verdict(inspector)  # warms up, and shows whether it can be done
        least = slots if time.perf_counter() - start > SLOW_S else LEAST_IN_A_ROW
        one_s = _in_a_row(pipeline, least)
        frames = int(np.clip(ROW_S / one_s, least, MOST_IN_A_ROW))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        engine_alone = _engine_alone(inspector, frame)
        limits = GpuLimits(inspector) if isinstance(inspector, CudaInspector) else CpuLimits()
        for _ in range(rounds):
            row = limits.measured() | {"engine_s": engine_alone()} | work.alone(inspector)
            rows.append(row | {"frame_s": _in_a_row(pipeline, frames)})
            on_round()
        inspector.trace(_into(spans))
        traced_s = _in_a_row(pipeline, least) * least
        inspector.trace(None)
    figures = figures_of_run(sized, inspector, rows, first.result, peak_mb, threads, slots)
    if looks_first:
        figures |= _of_first_look(
            sized, first, [s[3] - s[2] for s in spans if s[1] == "look"], least * inspector.callers
        )
    figures |= {"engine": "torch", "precision": "fp16"} if torch_run is not None else {}
    figures |= _of_spans(spans, traced_s) | limits.memory()
    limits.close()
    inspector.close()
    if looks_first:
        figures["suspicious_frames_per_s"] = 1 / _suspicious_s(sized, threads, slots, work, frames)
    return figures, spans


def _of_first_look(bundle: Bundle, first: Judgement, looks_s: list[float], looked: int) -> dict[str, float]:
    """The share of tiles that the whole network sees, here and of good boards, and what the first look takes.

    ``looks_s``: seconds of each call of it, of so many frames times threads.
    """
    cascade = bundle.manifest.cascade
    found = {} if cascade is None else {"looked_share_good": cascade.looked_share_good}
    return found | {"looked_share": first.looked_share} | ({"look_s": sum(looks_s) / looked} if looks_s else {})


def _suspicious_s(bundle: Bundle, threads: int, slots: int, work: _Work, frames: int) -> float:
    """Seconds a frame where the first look finds everything suspicious: it, and the whole network over all tiles."""
    cascade = bundle.manifest.cascade
    if cascade is None:
        raise RuntimeError("a bundle without a first look")
    any_score = cascade.model_copy(update={"look_from": 1e-9})
    inspector = inspector_from_bundle(
        replace(bundle, manifest=bundle.manifest.model_copy(update={"cascade": any_score})), threads
    )
    inspector.look_first(guarded=False)
    pipeline = Pipeline[BoardInspector, int, Judgement](
        in_flight(inspector, slots), lambda one, _: work.verdict(one), lambda _: None
    )
    with pipeline:
        _in_a_row(pipeline, 1)
        took_s = _in_a_row(pipeline, max(frames // 2, slots))
    inspector.close()
    return took_s


def _by_torch(bundle: Bundle, run: Path) -> CudaInspector:
    """The bundle's line with a training run's network, in half precision by torch."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            expected="torch with CUDA, for --torch", received=str(error), fix="pip install 'hisir-edge[train]'"
        ) from error
    from hisir_edge.cuda.pycuda_device import first_device
    from hisir_edge.cuda.torch_engine import TorchEngine
    from hisir_edge.engine.export import folded_net
    from hisir_edge.learn.training.reached import trained_net
    from hisir_edge.net.hisir_net import PlanesNet

    if not torch.cuda.is_available():
        raise InputError(
            expected="a torch with CUDA, and a GPU, for --torch", received=f"torch {torch.__version__}",
            fix=f"pip install torch=={torch.__version__.split('+')[0]} --index-url https://download.pytorch.org/whl/cu130",
        )  # fmt: skip
    record, net = trained_net(run)
    if record.settings.tile_px != bundle.recipe.tile_px:
        raise InputError(
            expected=f"a run with tiles of {bundle.recipe.tile_px} px, as the bundle's",
            received=str(record.settings.tile_px),
            fix="give --torch the run that the bundle was built from",
        )
    net = folded_net(net)
    return CudaInspector(bundle, first_device(), lambda: TorchEngine(PlanesNet(net), record.settings.tile_px))


def _of_spans(spans: list[Span], wall_s: float) -> dict[str, float]:
    """How many threads (or streams of a GPU) were at work at a time, and a GPU's seconds a frame by step."""
    on_gpu = [span for span in spans if span[0].startswith(GPU_THREAD)]
    at_work = on_gpu or spans
    found = {"busy_streams" if on_gpu else "busy_threads": sum(s[3] - s[2] for s in at_work) / wall_s}
    if looked := [span[3] - span[2] for span in spans if span[1] == "optics"]:
        found["optics_s"] = median(looked)
    for step in dict.fromkeys(span[1] for span in on_gpu):
        found[f"gpu_{step.replace(' ', '_')}_s"] = median(s[3] - s[2] for s in on_gpu if s[1] == step)
    return found


def _into(spans: list[Span]) -> OnSpan:
    def keep(thread: str, what: str, start: float, end: float) -> None:
        spans.append((thread, what, start, end))

    return keep


class _Work:
    """The line's work on one frame, encoded message included; nothing is sent."""

    def __init__(self, recipe: Provenance, frame: U8) -> None:
        self.recipe, self.frame = recipe, frame

    def judged(self, inspector: BoardInspector) -> tuple[Judgement, float]:
        judgement = inspector.inspect(self.frame)
        if judgement.result is Result.ERROR:
            raise InputError(
                expected="the bundle's own board to be inspected at this size", received=judgement.reason,
                fix="choose another --size, or see why this engine fails",
            )  # fmt: skip
        start = time.perf_counter()
        message_from_judgement(
            self.recipe,
            1,
            Frame(image=Pixels(self.frame), source="bench", frame_id=1, unit="board", grabbed_at_ns=0),
            judgement,
        ).frames()
        end = time.perf_counter()
        inspector.span("encode", start, end)
        return judgement, end - start

    def alone(self, inspector: BoardInspector) -> dict[str, float]:
        """Latency and stages of one frame that nothing runs beside."""
        start = time.perf_counter()
        judgement, encode_s = self.judged(inspector)
        latency_s, times = time.perf_counter() - start, judgement.times
        return {
            "latency_s": latency_s, "register_s": times.register_s, "tile_s": times.tile_s, "infer_s": times.infer_s,
            "merge_s": times.merge_s, "judge_s": times.judge_s, "encode_s": encode_s,
        }  # fmt: skip

    def verdict(self, inspector: BoardInspector) -> Judgement:
        return self.judged(inspector)[0]


def _in_a_row(pipeline: Pipeline[BoardInspector, int, Judgement], frames: int) -> float:
    """Seconds a frame with all slots in use."""
    start = time.perf_counter()
    for number in range(frames):
        pipeline.put(number)
    pipeline.flush()
    return (time.perf_counter() - start) / frames


def _engine_alone(inspector: BoardInspector, frame: U8) -> Callable[[], float]:
    """Runs the network alone over a frame's tiles, and measures its seconds."""
    if isinstance(inspector, CpuInspector):
        return _EngineAlone(inspector, frame).seconds
    if isinstance(inspector, CudaInspector):
        return inspector.network_seconds
    raise TypeError(type(inspector).__name__)


class _EngineAlone:
    """The network on a frame's tiles that lie ready, called from as many threads as on the line; nothing else."""

    def __init__(self, inspector: CpuInspector, frame: U8) -> None:
        self.workers, plan = inspector.workers, inspector.plan
        _, gains = inspector.prepare(Pixels(frame))
        self.count, t = len(inspector.numbers), plan.tile_px
        numbers = inspector.numbers[: max(KEPT_TILES, inspector.engine.batch)]
        self.tiles = np.empty((len(numbers), 3, t, t), np.uint8)
        self.cues = np.empty((len(numbers), 4, t, t), np.uint8)
        tiles_from_frame(plan, inspector.padded, numbers, self.tiles, gains)
        tiles_from_planes(plan, self.workers.cues.memory, numbers, self.cues)

    def seconds(self) -> float:
        """Seconds for as many tiles as the frame has."""
        k = self.workers.engine.batch
        kept = max(len(self.tiles) // k, 1)
        calls = [(n % kept * k, min(k, self.count - n * k)) for n in range(-(-self.count // k))]
        start = time.perf_counter()
        self.workers.each(calls, self._call)
        return time.perf_counter() - start

    def _call(self, call: tuple[int, int], scores: F32, misfit: F32) -> None:
        first, n = call
        here = slice(first, first + n)
        self.workers.engine.infer(self.tiles[here], self.cues[here], scores[:n], misfit[:n])
