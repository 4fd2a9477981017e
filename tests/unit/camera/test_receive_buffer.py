"""What the kernel keeps of a camera's packets, and what the technician is told."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisir_edge.camera.driver import aravis, receive_buffer, viva
from hisir_edge.camera.driver.receive_buffer import network_notes, too_small_for
from hisir_edge.cli import service
from hisir_edge.machine.sockets import MOST_BYTES, SHIPPED_BYTES, largest_receive_buffer

FRAME_BYTES = 4096 * 3000
DEFAULT_BYTES = 212992


def nodes(payload: object) -> SimpleNamespace:
    return SimpleNamespace(PayloadSize=SimpleNamespace(value=payload))


@pytest.fixture
def narrow(monkeypatch) -> None:
    """A kernel as most distributions set it."""
    monkeypatch.setattr(receive_buffer, "largest_receive_buffer", lambda: DEFAULT_BYTES)


@pytest.mark.parametrize(("limit", "told"), [(DEFAULT_BYTES, True), (FRAME_BYTES - 1, True), (FRAME_BYTES, False)])
def test_what_does_not_fit_is_told_with_the_command_that_helps(limit, told):
    said = too_small_for(FRAME_BYTES, limit)
    assert bool(said) == told
    if told:
        assert f"may hold {limit} bytes" in said and f"is to hold {FRAME_BYTES};" in said
        assert f"sudo sysctl -w net.core.rmem_max={SHIPPED_BYTES}, then start the line again" in said


@given(wanted=st.integers(1, 2**64), limit=st.one_of(st.none(), st.integers(0, 2**40)))
def test_what_is_advised_is_enough_and_can_be_set(wanted, limit):
    said = too_small_for(wanted, limit)
    if said:
        advised = int(said.split("rmem_max=")[1].split(",")[0])
        assert limit < min(wanted, MOST_BYTES) <= advised <= MOST_BYTES < 2**31
        assert not too_small_for(wanted, advised), "whoever does it is not told again"


@pytest.mark.parametrize("content", [None, "", "no number"])
def test_where_nothing_is_known_nothing_is_said(tmp_path, content):
    path = tmp_path / "rmem_max"
    if content is not None:
        path.write_text(content)
    assert largest_receive_buffer(path) is None
    assert too_small_for(FRAME_BYTES, None) == ""


def test_the_limit_is_read_as_the_kernel_writes_it(tmp_path):
    (tmp_path / "rmem_max").write_text("212992\n")
    assert largest_receive_buffer(tmp_path / "rmem_max") == DEFAULT_BYTES


@pytest.mark.parametrize("payload", [None, "", "abc", float("nan"), float("inf"), 0, -5])
def test_a_camera_that_says_no_size_is_no_fault(narrow, payload):
    assert network_notes(nodes(payload), 2) == network_notes(SimpleNamespace(), 2) == []


def test_the_drivers_say_what_their_library_asks_for(narrow):
    """Two frames with viva, one with Aravis; nothing of a camera that is not on a network."""
    of_viva, of_aravis = object.__new__(viva.VivaDevice), object.__new__(aravis.AravisDevice)
    of_viva.nodes = of_aravis.nodes = nodes(FRAME_BYTES)
    kinds = SimpleNamespace(GvDevice=dict)
    for network in (True, False):
        of_viva.network = network
        of_aravis.aravis, of_aravis.camera = kinds, SimpleNamespace(get_device=dict if network else list)
        told = [of_viva.notes(), of_aravis.notes()]
        assert told == ([[too_small_for(n * FRAME_BYTES, DEFAULT_BYTES)] for n in (2, 1)] if network else [[], []])


@pytest.mark.parametrize(
    ("present", "written"), [(None, SHIPPED_BYTES), (DEFAULT_BYTES, SHIPPED_BYTES), (1 << 28,) * 2]
)
def test_the_service_sets_it_and_never_lower_than_it_is(tmp_path, monkeypatch, present, written):
    monkeypatch.setattr(service, "largest_receive_buffer", lambda: present)
    files = {file.path: file.text for file in service.service_files(False, tmp_path, 253)}
    assert f"\nnet.core.rmem_max = {written}\n" in files[service.SYSCTL]


def test_the_limit_is_looked_for_where_linux_has_it():
    if sys.platform == "linux":
        assert largest_receive_buffer() is None or largest_receive_buffer() > 0
