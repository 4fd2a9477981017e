"""Figures of a measurement: derived, written, read again and compared."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hisir_edge.bench.limits import device_name
from hisir_edge.bundle.load import Bundle
from hisir_edge.cuda.inspector import CudaInspector
from hisir_edge.errors import InputError
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.machine.cpu import available_threads
from hisir_edge.records import Result

Span = tuple[str, str, float, float]
"""(thread, what, start, end), seconds of ``time.perf_counter``."""


def figures_of_run(
    bundle: Bundle, inspector: BoardInspector, rows: list[dict[str, float]], result: Result, peak_mb: float,
    threads: int, slots: int,
) -> dict[str, Any]:  # fmt: skip
    """The figures of ``measured``. ``rows``: seconds by stage, one for each frame."""
    found: dict[str, Any] = {name: median(row[name] for row in rows) for name in rows[0]}
    latencies, (h, w) = [row["latency_s"] for row in rows], bundle.recipe.frame_hw
    tiles = len(inspector.numbers)
    engine_s, frame_s = found.pop("engine_s"), found.pop("frame_s")
    latency_s = found.pop("latency_s")
    found.setdefault("matmul_gflops", None)
    gflop = gflop_per_tile(bundle)
    moved = _bytes_moved(inspector) / 1e9
    return {
        "product": bundle.manifest.product, "backbone": bundle.manifest.backbone,
        "precision": bundle.manifest.precision, "engine": bundle.manifest.target,
        "device": device_name(inspector), "frame": f"{w}x{h}", "result": result.value,
        "rounds": len(rows), "tiles": tiles,
        "threads": threads or available_threads(), "callers": inspector.callers, "tiles_a_call": inspector.batch,
        "slots": slots,
        "latency_p50_s": latency_s, "latency_p95_s": float(np.quantile(latencies, 0.95)),
        "latency_p99_s": float(np.quantile(latencies, 0.99)), "latency_max_s": max(latencies),
        "frames_per_s": 1 / frame_s, "engine_only_frames_per_s": 1 / engine_s,
        # of paired rounds: both saw the same minute of a shared machine
        "pipeline_efficiency": median(row["engine_s"] / row["frame_s"] for row in rows),
        "s_per_megapixel": frame_s / (h * w / 1e6), "peak_memory_mb": peak_mb,
        **found,
        "gflop_per_frame": gflop * tiles if gflop else None,
        "network_gflops": gflop * tiles / engine_s if gflop else None,
        "network_of_matmul_peak": gflop * tiles / engine_s / found["matmul_gflops"]
        if gflop and found["matmul_gflops"]
        else None,
        "moved_gb_per_frame": moved, "moved_gb_per_s": moved / frame_s,
    }  # fmt: skip


def _bytes_moved(inspector: BoardInspector) -> float:
    """Bytes that the line itself reads and writes a frame, the network's own left out."""
    t, n = inspector.plan.tile_px, len(inspector.numbers)
    h, w = inspector.plan.padded_hw
    if isinstance(inspector, CudaInspector):
        taken = 14 if inspector.rig.engine.half_planes else 3
        across = h * w * 3 * 2 + h * w / 8 * 2  # over the bus, both ends: the frame in RGB, the mask
        return float(across + h * w * 3 + n * t * t * (taken + 4) + h * w * 4 * 2)
    cut = n * t * t * 2 * 7  # three planes of the frame and four of the memory, read and written
    merged = n * t * t * 2 * 4
    registered = h * w * 3 * 3  # read in grey, read and written by the warp
    return float(cut + merged + registered)


def gflop_per_tile(bundle: Bundle) -> float | None:
    """Multiply-adds of the convolutions of one tile, times two, in 1e9; None where ``onnx`` is not installed."""
    try:
        import onnx
    except ImportError:
        return None
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(bundle.network)).graph
    shapes = {
        value.name: [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        for value in [*graph.value_info, *graph.output, *graph.input]
    }
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    total = 0
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        weight = node.input[1]
        while weight not in sizes:  # a quantised weight is behind its DequantizeLinear
            weight = made_by[weight].input[0]
        channels, height, width = shapes[node.output[0]][1:]
        total += 2 * int(np.prod(sizes[weight][1:])) * channels * height * width
    return total / 1e9


def trace_json(spans: list[Span]) -> str:
    """Spans as a trace for Perfetto or chrome://tracing (Trace Event Format, complete events, microseconds)."""
    first = min((span[2] for span in spans), default=0.0)
    threads = {name: number for number, name in enumerate(sorted({span[0] for span in spans}), 1)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": name}}
        for name, number in threads.items()
    ]
    for thread, what, start, end in spans:
        microseconds = {"ts": round((start - first) * 1e6, 1), "dur": round((end - start) * 1e6, 1)}
        events.append({"ph": "X", "name": what, "cat": "line", "pid": 1, "tid": threads[thread], **microseconds})
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def figures_from_file(file: Path) -> dict[str, Any]:
    """Figures of an earlier ``--json``; InputError for anything else."""
    try:
        found = json.loads(file.read_text())
        if not isinstance(found, dict) or "latency_p50_s" not in found:
            raise ValueError("other content")
    except (OSError, ValueError) as error:
        raise InputError(
            expected="--vs of a file that bench --json wrote", received=f"{file}: {error}", fix="correct --vs"
        ) from error
    return found


def ratios(figures: dict[str, Any], before: dict[str, Any]) -> dict[str, float]:
    """Each number of the figures over the same one of other figures."""
    return {
        name: value / before[name]
        for name, value in figures.items()
        if isinstance(value, float) and isinstance(before.get(name), (int, float)) and before[name]
    }
