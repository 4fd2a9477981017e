"""What the kernel keeps of a camera's packets, and what the technician is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisir_edge.camera.driver.receive_buffer import SHIPPED_BYTES, network_notes, too_small_for
from hisir_edge.cli.service import SYSCTL, service_files

FRAME_BYTES = 4096 * 3000


class Node:
    def __init__(self, value):
        self.value = value


class NodeMap:
    def __init__(self, **features):
        self.__dict__.update({name: Node(value) for name, value in features.items()})


@pytest.mark.parametrize(("limit", "told"), [(212992, True), (FRAME_BYTES - 1, True), (FRAME_BYTES, False)])
def test_a_frame_that_does_not_fit_is_told_with_the_command_that_helps(tmp_path, limit, told):
    path = tmp_path / "rmem_max"
    path.write_text(f"{limit}\n")
    said = too_small_for(FRAME_BYTES, path)
    assert bool(said) == told
    if told:
        assert str(limit) in said and f"sudo sysctl -w net.core.rmem_max={SHIPPED_BYTES}" in said


@pytest.mark.parametrize("content", [None, "", "no number"])
def test_where_nothing_is_known_nothing_is_said(tmp_path, content):
    path = tmp_path / "rmem_max"
    if content is not None:
        path.write_text(content)
    assert too_small_for(FRAME_BYTES, path) == ""


@given(frame_bytes=st.integers(1, 2**31))
def test_what_is_advised_is_enough_for_two_frames(tmp_path_factory, frame_bytes):
    path = tmp_path_factory.getbasetemp() / "none"
    path.write_text("0")
    advised = int(too_small_for(frame_bytes, path).split("rmem_max=")[1].split(",")[0])
    assert advised >= 2 * frame_bytes and advised >= SHIPPED_BYTES


def test_the_camera_says_what_it_sends():
    assert network_notes(NodeMap()) == network_notes(NodeMap(PayloadSize=0)) == []
    notes = network_notes(NodeMap(PayloadSize=2**40))
    assert notes == [] or str(2**40) in notes[0]


def test_the_service_sets_what_is_advised(tmp_path):
    files = {file.path: file.text for file in service_files(False, tmp_path, 253)}
    assert f"\nnet.core.rmem_max = {SHIPPED_BYTES}\n" in files[SYSCTL]
