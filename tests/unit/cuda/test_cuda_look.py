"""The cascade on a GPU: a device that runs the very kernels on the CPU, ONNX Runtime in TensorRT's place."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from support.first_look import CASCADE, EVERYTHING, NOTHING, network
from support.host_device import HostDevice, HostEngine, HostLook

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.cuda.inspector import CudaInspector
from hisir_edge.cuda.rig import LOOKING, STEPS
from hisir_edge.images import read_rgb
from hisir_edge.inspection.board import in_flight
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import check_first_look
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.records import Result


@pytest.fixture(scope="module")
def frames(small_boards):
    return [read_rgb(p) for p in sorted((small_boards / "test").rglob("*.png"))]


@pytest.fixture
def bundle(small_bundle):
    plain = load_bundle(small_bundle)
    manifest = plain.manifest.model_copy(update={"cascade": CASCADE})
    return replace(plain, manifest=manifest, first_look=network(NOTHING))


class TellingInspector(CudaInspector):
    """One whose first look can be told what to expect."""

    def __init__(self, bundle, device, told):
        super().__init__(bundle, device, lambda: HostEngine(bundle, 7), lambda: told)
        self.told = told


@pytest.fixture
def gpu(bundle, kernels):
    """With a first look that is to be told what it expects: ``gpu.told.level``."""
    made = TellingInspector(bundle, HostDevice(kernels), HostLook(bundle, 5, NOTHING))
    made.watch_optics()
    assert made.look_first()
    yield made
    made.close()
    device = made.device
    assert isinstance(device, HostDevice)
    assert not device.held and not device.pinned_arrays, "all memory is given back"


@pytest.fixture
def whole(bundle, kernels):
    made = CudaInspector(bundle, HostDevice(kernels), lambda: HostEngine(bundle, 7))
    made.watch_optics()
    assert not made.look_first(), "no engine of a first look"
    yield made
    made.close()


@pytest.fixture
def cpu(bundle):
    made = CpuInspector(bundle, engine_from_bundle(bundle, 1))
    made.watch_optics()
    yield made
    made.close()


def failed(frames, inspector) -> np.ndarray:
    return next(frame for frame in frames if inspector.inspect(frame).result is Result.FAIL)


def test_where_everything_is_suspicious_all_is_as_without_it(gpu, whole, frames):
    gpu.told.level = EVERYTHING
    for frame in frames:
        one, other = gpu.inspect(frame), whole.inspect(frame)
        assert (one.result, one.score, one.regions, one.looked_share) == (other.result, other.score, other.regions, 1)
        np.testing.assert_array_equal(one.mask, other.mask)


def test_where_nothing_is_no_tile_is_run_and_nothing_is_left_of_the_board_before(gpu, frames):
    gpu.told.level = EVERYTHING
    bad = failed(frames, gpu)
    gpu.told.level = NOTHING
    for _ in range(4):  # the second is recorded, the third and fourth are graphs
        judged = gpu.inspect(bad)
        assert (judged.result, judged.looked_share, judged.mask.any()) == (Result.PASS, 0, False)
        assert 0 < judged.score < 1e-6, "what is expected of what was not looked at"
    gpu.told.level = EVERYTHING
    assert gpu.inspect(bad).result is Result.FAIL


@pytest.mark.parametrize("where", ["middle", "corner"])
def test_a_region_of_which_a_part_is_noticed_is_seen_whole_as_on_a_cpu(gpu, cpu, frames, monkeypatch, where):
    """A square over several tiles' borders; the first look notices one region of 16 px of it."""
    board, plan, t = frames[0].copy(), gpu.plan, gpu.plan.tile_px
    y, x = plan.origins_yx[len(plan.origins_yx) // 2]
    board[max(y - 30, 0) : y + t // 2, max(x - 30, 0) : x + t // 2] = board[:1, :1]
    rows, columns = np.nonzero(cpu.inspect(board).mask)
    at = len(rows) // 2 if where == "middle" else 0
    row, column, side = int(rows[at]) // 16, int(columns[at]) // 16, t // 16
    expected = np.full((len(gpu.numbers), side, side), NOTHING, np.float32)
    for k, number in enumerate(gpu.numbers):
        top, left = (v // 16 for v in plan.origins_yx[number])
        if 0 <= row - top < side and 0 <= column - left < side:
            expected[k, row - top, column - left] = EVERYTHING
    assert cpu.look_first()
    monkeypatch.setattr(cpu.workers, "expect", lambda *call: expected[np.searchsorted(cpu.numbers, call[3])])
    first = itertools.count(0, gpu._slot.look.per_call)
    calls = gpu._slot.look.calls

    def told(count, planes, address, stream):
        def run():
            begin = next(first) % (calls * count)
            here = np.full((count, side, side), NOTHING, np.float32)
            here[: len(expected[begin : begin + count])] = expected[begin : begin + count]
            gpu.told.level = here
            gpu.told.run_at(count, planes, address)

        stream.do(run)

    monkeypatch.setattr(gpu.told, "enqueue", told)
    one, other = gpu.inspect(board), cpu.inspect(board)
    assert 0 < one.looked_share < 1
    assert abs(one.looked_share - other.looked_share) < 0.1
    assert one.result is other.result is Result.FAIL
    assert one.regions_total == other.regions_total
    union = (one.mask | other.mask).sum()
    assert (one.mask & other.mask).sum() >= 0.9 * union
    again = gpu.inspect(board)
    assert (again.regions, again.looked_share) == (one.regions, one.looked_share)


@pytest.mark.parametrize("unusual", ["unwatched", "evidence", "residual"])
def test_a_board_that_is_unusual_is_looked_at_everywhere(gpu, frames, unusual):
    gpu.told.level = EVERYTHING
    bad = failed(frames, gpu)
    gpu.told.level = NOTHING
    if unusual == "unwatched":
        gpu._watch = None
    elif unusual == "evidence":
        gpu.keep_evidence()
    else:
        strict = gpu.bundle.manifest.model_copy(update={"cascade": CASCADE.model_copy(update={"most_residual_px": 0})})
        gpu.bundle = replace(gpu.bundle, manifest=strict)
    judged = gpu.inspect(bad)
    assert (judged.result, judged.looked_share) == (Result.FAIL, 1)


@pytest.mark.parametrize("level", [float("nan"), float("inf")])
def test_what_is_no_number_is_an_error(gpu, frames, level):
    gpu.told.level = level
    judged = gpu.inspect(frames[0])
    assert (judged.result, judged.mask) == (Result.ERROR, None)
    gpu.told.level = EVERYTHING
    assert gpu.inspect(frames[0]).result is not Result.ERROR, "the next one is judged"


def test_of_a_frame_the_host_waits_for_the_count_and_the_result_and_nothing_is_allocated(gpu, frames):
    gpu.inspect(frames[0])
    made, waits = gpu.device.made, gpu.device.waits
    assert gpu.inspect(frames[0]).result is Result.PASS
    assert gpu.device.waits - waits == 2
    assert gpu.device.made == made


def test_calls_hold_what_is_left_in_few_shapes(gpu):
    look = gpu._slot.look
    assert look.sizes == (1, 4, look.slot.rig.per_call)
    assert [look.calls_of(n) for n in (0, 1, 2, 4, 5)] == [(), (1,), (4,), (4,), (look.sizes[-1],)]
    most = look.sizes[-1]
    for n in range(40):
        calls = look.calls_of(n)
        assert n <= sum(calls) < n + most
        assert set(calls) <= set(look.sizes)


def test_frames_in_flight_have_each_their_own(gpu, frames):
    gpu.told.level = EVERYTHING
    alone = [gpu.inspect(frame) for frame in frames]
    done: list = []
    with Pipeline(in_flight(gpu, 3), CudaInspector.inspect, done.append) as pipeline:
        for item in frames:
            pipeline.put(item)
    for one, other in zip(alone, done, strict=True):
        assert (one.result, one.score, one.regions) == (other.result, other.score, other.regions)


def test_a_trace_has_the_look_among_its_steps(gpu, frames):
    spans = []
    gpu.inspect(frames[0])
    gpu.trace(lambda *span: spans.append(span))
    gpu.inspect(frames[0])
    gpu._looks_everywhere = True
    gpu.inspect(frames[0])
    gpu.trace(None)
    steps = [span[1] for span in spans if span[0].startswith("gpu stream")]
    assert steps == [*LOOKING, *STEPS]


def test_the_self_test_compares_both(bundle, kernels):
    look = HostLook(bundle, 5, EVERYTHING)
    one = CudaInspector(bundle, HostDevice(kernels), lambda: HostEngine(bundle, 7), lambda: look)
    assert check_first_look(one) == 1
    one.close()
