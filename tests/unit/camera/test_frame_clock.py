"""The camera's clock: what goes back, what comes late, and two clocks that drift apart."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisir_edge.camera.driver.features import ExposureCheck
from hisir_edge.camera.driver.frame_clock import MOST_KEPT, WINDOW_NS, FrameClock
from hisir_edge.camera.driver.profile import drift

MS = 1_000_000


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 400)), min_size=1, max_size=200),
    st.floats(-200, 200), st.integers(-(10**18), 10**18),
)  # fmt: skip
def test_frames_within_the_limit_are_never_late_whatever_the_clocks(steps, drift_ppm, offset):
    clock, taken_ns = FrameClock(late_ms=500.0), 0
    for period_ms, way_ms in steps:
        taken_ns += (period_ms + 400) * MS
        device_ns = round(taken_ns * (1 + drift_ppm * 1e-6)) + offset
        assert clock.wrong(device_ns, taken_ns + way_ms * MS) == ""


@given(st.lists(st.integers(0, 2000), min_size=2, max_size=300))
def test_late_is_what_takes_longer_than_the_quickest_of_the_last_minute(ways_ms):
    """Against the plain reckoning over all frames of the minute."""
    clock, came = FrameClock(late_ms=300.0), []
    for n, way_ms in enumerate(ways_ms):
        taken_ns = n * 2_500 * MS
        now_ns = taken_ns + way_ms * MS
        came.append((now_ns, way_ms))
        quickest = min(way for at, way in came if at >= now_ns - WINDOW_NS)
        assert bool(clock.wrong(taken_ns, now_ns)) == (way_ms - quickest > 300)


def test_time_that_goes_back_is_said_and_followed_from_there():
    clock = FrameClock(0.0)
    assert clock.wrong(1000, 0) == clock.wrong(1001, 1) == clock.wrong(None, 2) == ""
    assert clock.wrong(999, 3) == "timestamp went back: 999 ns after 1001 ns"
    assert clock.wrong(1000, 4) == ""
    clock.forget()
    assert clock.wrong(1, 5) == ""


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=100))
def test_a_clock_that_begins_anew_each_second_is_followed(periods_ms):
    """Where a whole number of seconds or more passes unseen between two frames, it does not even seem to go back."""
    clock, taken_ns = FrameClock(0.0), 0
    for period_ms in periods_ms:
        taken_ns += period_ms * MS
        assert clock.wrong(taken_ns % 1_000_000_000, taken_ns + 5 * MS) == ""
    assert clock.wrong((taken_ns - MS) % 1_000_000_000, taken_ns + 6 * MS).startswith("timestamp went back") or (
        taken_ns % 1_000_000_000 == 0
    )


def test_it_does_not_grow():
    clock = FrameClock(1.0)
    for n in range(3 * MOST_KEPT):
        clock.wrong(n, 2 * n)  # ever later, all within the minute
    assert len(clock._apart) <= MOST_KEPT


@pytest.mark.parametrize(
    ("exposed", "word"), [(4000.0, ""), (4100.0, ""), (5000.0, "exposed 5000 us"), (None, "no exp")]
)
def test_a_frame_says_how_long_it_was_exposed(exposed, word):
    node = SimpleNamespace(value=exposed)
    nodes = SimpleNamespace(
        ChunkSelector=SimpleNamespace(symbolics=("FrameID", "ExposureTime")), ChunkExposureTime=node
    )
    found = ExposureCheck(nodes, {"exposure_us": 4000.0, "chunk_data": True}).wrong()
    assert word in found and bool(word) == bool(found)
    assert ExposureCheck(nodes, {"exposure_us": 4000.0, "chunk_data": False}).wrong() == ""
    assert ExposureCheck(SimpleNamespace(), {"exposure_us": 4000.0, "chunk_data": True}).wrong() == ""


def test_drift_is_named_in_words():
    saved = {"Gain": "1.0", "TriggerMode[TriggerSelector=FrameStart]": "On", "Width": "640"}
    assert drift(saved, {**saved, "Gain": "1.0000001"}) == []
    assert drift(saved, {"Gain": "2", "Width": "640", "Gamma": "1"}) == [
        "Gain is 2, saved as 1.0", "TriggerMode[TriggerSelector=FrameStart] is not there, saved as On",
        "Gamma is 1, not in the profile",
    ]  # fmt: skip
