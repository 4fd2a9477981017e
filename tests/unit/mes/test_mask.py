"""Run-length masks: whatever was set comes back; whatever is no mask is refused, in bounded time and memory."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hisir_edge.errors import InputError
from hisir_edge.images import mask_rle_bytes
from hisir_edge.transport.run_lengths import HEAD, MAGIC, rle_from_runs, runs_of_rle, size_of_rle


def decoded(data: bytes) -> np.ndarray:
    width, height = size_of_rle(data)
    mask = np.zeros((height, width), bool)
    for y, x, length in runs_of_rle(data):
        assert not mask[y, x : x + length].any()
        mask[y, x : x + length] = True
    return mask


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
@settings(max_examples=300, deadline=None)
def test_any_mask_comes_back(mask):
    assert np.array_equal(decoded(mask_rle_bytes(mask)), mask)


@pytest.mark.parametrize("value", [False, True])
def test_one_colour(value):
    data = mask_rle_bytes(np.full((3000, 4096), value))
    assert len(data) <= HEAD.size + 8
    assert decoded(data).all() == value


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_mask_or_refused(data, with_head):
    if with_head:
        data = HEAD.pack(MAGIC, 300, 200) + data
    with contextlib.suppress(InputError):
        runs = list(runs_of_rle(data))
        assert sum(length for _, _, length in runs) <= 300 * 200


def test_more_pixels_than_the_frame_has_are_refused():
    for lengths in ([7], [0, 7], [3, 4], [6, 1], [2**34]):
        with pytest.raises(InputError):
            list(runs_of_rle(rle_from_runs(3, 2, lengths)))
    for data in (b"", b"HRL1", HEAD.pack(MAGIC, 0, 5), HEAD.pack(MAGIC, 2**31, 5), HEAD.pack(b"PNG1", 3, 2)):
        with pytest.raises(InputError):
            size_of_rle(data)
