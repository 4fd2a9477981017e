"""Frames in flight come out in order, each with what it would have come to alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hisir_edge.engine.bundle import load_bundle
from hisir_edge.engine.load import engine_from_bundle
from hisir_edge.images import read_rgb
from hisir_edge.line.inspect import Inspector
from hisir_edge.line.pipeline import Pipeline

FRAMES = 14


@pytest.fixture(scope="module")
def frames(small_boards):
    return [read_rgb(p) for p in sorted((small_boards / "test").rglob("*.png"))]


@pytest.fixture
def inspector(small_bundle):
    bundle = load_bundle(small_bundle)
    made = Inspector(bundle, engine_from_bundle(bundle))
    yield made
    made.workers.close()


def _all(pipeline: Pipeline, items: list) -> list:
    done = []
    for item in items:
        if len(pipeline) == pipeline.slots:
            done.append(pipeline.take())
        pipeline.put(item)
    return [*done, *pipeline.drain()]


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_frames_in_flight_do_not_see_each_other(inspector, frames, slots):
    items = [frames[i % len(frames)] for i in range(FRAMES)]
    alone = [inspector.inspect(frame) for frame in items]
    with Pipeline(inspector, slots, Inspector.inspect) as pipeline:
        together = _all(pipeline, items)
    assert len({judgement.result for judgement in alone}) == 2
    for one, other in zip(alone, together, strict=True):
        assert (one.result, one.score, one.regions) == (other.result, other.score, other.regions)
        assert np.array_equal(one.mask, other.mask)


def test_the_second_frame_begins_before_the_first_ends(inspector):
    both = threading.Barrier(2, timeout=30)
    with Pipeline(inspector, 2, lambda _, item: (both.wait(), item)[1]) as pipeline:
        assert _all(pipeline, [1, 2]) == [1, 2]


def test_results_wait_for_the_oldest(inspector):
    first = threading.Event()

    def work(_: Inspector, item: int) -> int:
        if item == 1:
            assert first.wait(30)
        return item

    with Pipeline(inspector, 2, work) as pipeline:
        pipeline.put(1)
        pipeline.put(2)
        assert not pipeline.ready()
        with pytest.raises(RuntimeError, match="free slot"):
            pipeline.put(3)
        first.set()
        assert [pipeline.take(), pipeline.take()] == [1, 2]
        assert not pipeline.ready()


def test_what_fails_fails_alone_and_gives_its_slot_back(inspector, frames):
    def work(one: Inspector, item: int) -> str:
        if item % 3 == 0:
            raise ValueError(str(item))
        return one.inspect(frames[item % len(frames)]).result.value

    with Pipeline(inspector, 2, work) as pipeline:
        for item in range(8):
            pipeline.put(item)
            if item % 3 == 0:
                with pytest.raises(ValueError, match=str(item)):
                    pipeline.take()
            else:
                assert pipeline.take() in ("PASS", "FAIL")
