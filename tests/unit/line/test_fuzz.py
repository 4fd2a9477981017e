"""A short run of what `make fuzz` does a million times: see tests/fuzz."""

from __future__ import annotations

import random

import pytest
import structlog
from fuzz.mutate import mutated
from fuzz.targets import Targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def targets():
    with Targets() as targets:
        yield targets


NAMES = ("request", "verdict", "heartbeat", "answer", "mask", "key", "subscription", "hermes", "delivery")


@pytest.mark.parametrize("name", NAMES)
def test_changed_messages_are_refused_or_understood(targets, name):
    assert set(targets.all) == set(NAMES)
    rng, seeds = random.Random(name), targets.seeds()[name]
    with structlog.testing.capture_logs():
        for seed in seeds:
            targets.all[name](seed)
        for _ in range(1500):
            targets.all[name](mutated(rng, seeds))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused_or_understood(targets, name, data):
    with structlog.testing.capture_logs():
        targets.all[name](data)
