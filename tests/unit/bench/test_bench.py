"""``hisir-edge bench`` on a small bundle: its figures, their comparison, the trace."""

from __future__ import annotations

import itertools
import json

import pytest
from typer.testing import CliRunner

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bench.measure import bundle_of_size
from hisir_edge.bundle.load import load_bundle
from hisir_edge.cli.main import app
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import golden_picture
from hisir_edge.records import Result

POSITIVE = (
    "latency_p50_s", "latency_p95_s", "latency_p99_s", "latency_max_s", "frames_per_s", "engine_only_frames_per_s",
    "pipeline_efficiency", "peak_memory_mb", "register_s", "tile_s", "infer_s", "merge_s", "judge_s", "encode_s",
    "gflop_per_frame", "network_gflops", "network_of_matmul_peak", "moved_gb_per_s", "copy_gb_per_s", "busy_threads",
)  # fmt: skip


def _bench(*arguments: object):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_figures_comparison_and_trace(small_bundle, tmp_path):
    figures, trace = tmp_path / "bench.json", tmp_path / "trace.json"
    done = _bench("--bundle", small_bundle, "--rounds", 2, "--json", figures, "--trace", trace, "--threads", 2)
    assert done.exit_code == 0, done.output
    found = json.loads(figures.read_text())
    assert (found["frame"], found["result"], found["threads"], found["slots"]) == ("512x384", "PASS", 2, 2)
    assert all(found[name] > 0 for name in POSITIVE)
    stages = sum(found[f"{name}_s"] for name in ("register", "tile", "infer", "merge", "judge", "encode"))
    assert found["latency_max_s"] < 3 * stages

    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == "X"]
    steps = {"register", "tile", "infer", "merge", "choose", "judge", "optics", "encode"}
    assert {event["name"] for event in events} == steps
    by_thread: dict[int, list] = {}
    for event in events:
        by_thread.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for times in by_thread.values():  # a thread does one thing after the other
        times.sort()
        assert all(end <= start + 0.2 for (_, end), (start, _) in itertools.pairwise(times))

    again = _bench("--bundle", small_bundle, "--rounds", 1, "--vs", figures, "--size", "640x480")
    assert again.exit_code == 0, again.output
    assert "of the other" in again.output and "640x480" in again.output


def test_a_bundle_of_another_size_inspects_its_own_board(small_bundle):
    bundle = bundle_of_size(load_bundle(small_bundle), (500, 700))
    inspector = CpuInspector(bundle, engine_from_bundle(bundle))
    assert inspector.inspect(golden_picture(bundle)).result is not Result.ERROR
    inspector.workers.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--size", "4096"), "WIDTHxHEIGHT"),
        (("--size", "64x64"), "at least 128x128"),
        (("--size", "-5x900"), "64 to 32766"),
        (("--size", "99999x900"), "64 to 32766"),
        (("--vs", "nothing.json"), "--vs"),
    ],
)
def test_bad_input_names_the_fix(small_bundle, arguments, words):
    done = _bench("--bundle", small_bundle, "--rounds", 1, *arguments)
    assert done.exit_code != 0
    assert words in f"{done.output}{done.exception}"
