"""Frames in flight come out in order, each with what it would have come to alone."""

from __future__ import annotations

import threading

import numpy as np
import psutil
import pytest

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.images import read_rgb
from hisir_edge.inspection.board import in_flight
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.line.pipeline import Pipeline

FRAMES = 14


@pytest.fixture(scope="module")
def frames(small_boards):
    return [read_rgb(p) for p in sorted((small_boards / "test").rglob("*.png"))]


@pytest.fixture
def inspector(small_bundle):
    bundle = load_bundle(small_bundle)
    made = CpuInspector(bundle, engine_from_bundle(bundle))
    yield made
    made.workers.close()


def _all(inspector: CpuInspector, slots: int, work, items: list) -> list:
    done: list = []
    with Pipeline(in_flight(inspector, slots), work, done.append) as pipeline:
        for item in items:
            pipeline.put(item)
        pipeline.flush()
        assert len(done) == len(items)
    return done


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_frames_in_flight_do_not_see_each_other(inspector, frames, slots):
    items = [frames[i % len(frames)] for i in range(FRAMES)]
    alone = [inspector.inspect(frame) for frame in items]
    together = _all(inspector, slots, CpuInspector.inspect, items)
    assert len({judgement.result for judgement in alone}) == 2
    for one, other in zip(alone, together, strict=True):
        assert (one.result, one.score, one.regions) == (other.result, other.score, other.regions)
        assert np.array_equal(one.mask, other.mask)


def test_the_second_frame_begins_before_the_first_ends(inspector):
    both = threading.Barrier(2, timeout=30)
    assert _all(inspector, 2, lambda _, item: (both.wait(), item)[1], [1, 2]) == [1, 2]


def test_results_come_in_order_though_the_second_is_done_first(inspector):
    second, out = threading.Event(), []

    def work(_: CpuInspector, item: int) -> int:
        if item == 1:
            assert second.wait(30)
        else:
            second.set()
        return item

    with Pipeline(in_flight(inspector, 2), work, out.append) as pipeline:  # type: ignore[arg-type]
        pipeline.put(1)
        pipeline.put(2)
    assert out == [1, 2]


def test_a_result_goes_out_while_nothing_new_comes(inspector):
    gone = threading.Event()
    with Pipeline(in_flight(inspector, 2), lambda _, item: item, lambda _: gone.set()) as pipeline:
        pipeline.put(1)
        assert gone.wait(30)  # with the pipeline open, and this thread waiting as for a camera


def test_what_fails_fails_alone_and_is_raised_at_the_end(inspector, frames):
    out: list[int] = []

    def work(one: CpuInspector, item: int) -> int:
        if item % 3 == 0:
            raise ValueError(f"work {item}")
        one.inspect(frames[item % len(frames)])
        return item

    with pytest.raises(ValueError, match="work 0"), Pipeline(in_flight(inspector, 2), work, out.append) as pipeline:  # type: ignore[arg-type]
        for item in range(8):
            pipeline.put(item)
        pipeline.flush()
        assert pipeline.failed
    assert out == [1, 2, 4, 5, 7]


def test_a_result_that_cannot_be_handed_over_keeps_no_other_back(inspector):
    out: list[int] = []

    def hand_over(item: int) -> None:
        if item == 2:
            raise MemoryError("a picture")
        out.append(item)

    with (
        pytest.raises(MemoryError, match="picture"),
        Pipeline(in_flight(inspector, 2), lambda _, i: i, hand_over) as pipeline,
    ):
        for item in range(1, 6):
            pipeline.put(item)
    assert out == [1, 3, 4, 5]


def test_an_error_of_the_source_still_lets_everything_out(inspector):
    out: list[int] = []
    with pytest.raises(KeyError), Pipeline(in_flight(inspector, 2), lambda _, item: item, out.append) as pipeline:
        pipeline.put(1)
        pipeline.put(2)
        raise KeyError("camera")
    assert out == [1, 2]


def test_without_threads_it_does_not_begin_and_leaves_none(inspector, monkeypatch):
    started = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "results":
            raise RuntimeError("can't start new thread")
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="new thread"), Pipeline(in_flight(inspector, 2), lambda _, i: i, print):
        pytest.fail("it began")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("slot_")]


@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_frames(inspector, frames):
    process, seen = psutil.Process(), []
    with Pipeline(
        in_flight(inspector, 2), CpuInspector.inspect, lambda _: seen.append(process.memory_info().rss)
    ) as pipeline:
        for number in range(1100):
            pipeline.put(frames[number % len(frames)])
    assert max(seen[-100:]) < max(seen[50:150]) + 3e6


def test_what_is_late_has_a_result_all_the_same_and_the_rest_goes_on():
    hang, done = threading.Event(), []

    def work(_: int, item: int) -> str:
        if item == 2:
            hang.wait(30)
        return f"done {item}"

    with Pipeline([0, 1], work, done.append, 0.4, lambda item: f"late {item}") as pipeline:
        for item in range(1, 6):
            pipeline.put(item)
        pipeline.flush()
        assert done == ["done 1", "late 2", "done 3", "done 4", "done 5"]
        assert (pipeline.late_slots, pipeline.stuck) == (1, 0)
        hang.set()  # what it comes to now is dropped
        pipeline.put(6)
        pipeline.flush()
    assert done[5:] == ["done 6"]
    assert pipeline.late_slots == 0


def test_where_all_slots_hang_each_item_is_late_and_the_end_comes():
    hang, done = threading.Event(), []
    with Pipeline(
        [0, 1], lambda _, item: hang.wait(30), done.append, 0.1, lambda item: f"late {item}", 0.0
    ) as pipeline:
        for item in range(4):
            pipeline.put(item)
        pipeline.flush()
        assert pipeline.stuck == 2
        assert not pipeline.failed
    assert done == [f"late {item}" for item in range(4)]
    hang.set()


def test_a_full_pipeline_takes_no_more_for_so_long():
    gate = threading.Event()
    with Pipeline([0], lambda _, item: gate.wait(30), lambda _: None) as pipeline:
        assert pipeline.put(1)
        assert not pipeline.put(2, timeout_s=0.05)
        assert pipeline.waiting == 1
        gate.set()
