"""``make bench``: the demo bundle's speed and memory here. It prints; it asserts no time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from rich.console import Console
from rich.table import Table

from hisir_edge.engine.bundle import load_bundle
from hisir_edge.images import write_atomic

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "engines" / "demo"
OUT = HERE.parents[1] / "build"
ROUNDS = 9


def gflop_per_tile(model: Path, tile_px: int) -> float:
    """Multiply-adds of the convolutions of one tile, times two, in 1e9."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(model))).graph
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
        per_output = 2 * sizes[weight][1] * sizes[weight][2] * sizes[weight][3]
        channels, height, width = shapes[node.output[0]][1:]
        total += per_output * channels * height * width
    assert total > 0
    return total / 1e9


@pytest.mark.bench
def test_demo_bundle_on_this_machine(tmp_path):
    if not DEMO.is_dir():
        pytest.skip("no demo bundle")
    sys.path.insert(0, str(HERE))
    from line_speed import render

    bundle = load_bundle(DEMO)
    height, width = bundle.recipe.frame_hw
    render(7, tmp_path / "frame.npy", (width, height))
    command = [sys.executable, str(HERE / "line_speed.py"), str(DEMO), str(ROUNDS), str(tmp_path / "frame.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["verdict"] in ("PASS", "FAIL")
    figures["gflop_per_frame"] = gflop_per_tile(bundle.model, bundle.recipe.tile_px) * figures["tiles"]
    figures["network_gflops"] = figures["gflop_per_frame"] / figures["infer_s"]
    figures["of_float32_peak"] = figures["network_gflops"] / figures["matmul_gflops"]
    OUT.mkdir(exist_ok=True)
    write_atomic(OUT / "bench.json", json.dumps(figures, indent=1).encode())
    table = Table(title=f"{DEMO.name}: {bundle.manifest.precision}, {width}x{height}, {figures['threads']} cores")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("limit", justify="right")
    limits = {"end_to_end_s": "2.5", "not_network_share": "0.15", "resident_mib": "1536"}
    for name, value in figures.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value), limits.get(name, ""))
    Console(width=100).print(table)
