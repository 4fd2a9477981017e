"""Ranges: each method does to a known distribution what it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hisir_edge.engine.calibration.ranges import (
    BINS,
    Activation,
    activations_from_tiles,
    float_tensors,
    range_by_method,
)
from hisir_edge.errors import InputError

METHODS = ("minmax", "percentile", "entropy", "mse")


def seen(values: np.ndarray) -> Activation:
    peak = float(np.abs(values).max())
    bins = np.minimum(np.abs(values) * (BINS / max(peak, 1e-30)), BINS - 1).astype(int)
    return Activation(float(values.min()), float(values.max()), np.bincount(bins, minlength=BINS).astype(float))


def test_minmax_takes_everything():
    values = np.random.default_rng(0).normal(0, 1, 10000)
    assert range_by_method(seen(values), "minmax") == (values.min(), values.max())


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_outlier_does_not_set_the_range(method):
    values = np.abs(np.random.default_rng(1).normal(0, 1, 200_000))
    values[0] = 400
    low, high = range_by_method(seen(values), method)
    assert low == 0
    assert high < 0.5 * 400, "eight bits over 400 would leave two levels for all the rest"


def test_mse_beats_minmax_at_what_it_minimises():
    values = np.random.default_rng(2).laplace(0, 1, 200_000)

    def error(limits: tuple[float, float]) -> float:
        clip = max(-limits[0], limits[1])
        step = clip / 127
        return float(((np.clip(np.round(values / step), -127, 127) * step - values) ** 2).mean())

    assert error(range_by_method(seen(values), "mse")) < 0.8 * error(range_by_method(seen(values), "minmax"))


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_has_a_range(method):
    assert range_by_method(seen(np.zeros(100)), method) == (0, 0)


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(1e-3, 1e3), st.sampled_from(METHODS))
def test_ranges_hold_zero_and_lie_within_what_was_seen(seed, shift, scale, method):
    values = (np.random.default_rng(seed).normal(0, 1, 500) + shift) * scale
    low, high = range_by_method(seen(values), method)
    assert min(values.min(), 0) - 1e-9 <= low <= 0 <= high <= max(values.max(), 0) + 1e-9
    assert high > low


def _doubling(path: Path) -> Path:
    """Score = 2 * tile, as float: activations that can be told without running anything."""
    inputs = [helper.make_tensor_value_info(n, TensorProto.UINT8, ["n", c, 4, 4]) for n, c in (("tile", 3), ("cue", 4))]
    nodes = [
        helper.make_node("Cast", ["tile"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["cue"], ["cue_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["as_float", "two"], ["score"]),
    ]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 3, 4, 4])
    constant = numpy_helper.from_array(np.float32(2), "two")  # type: ignore[arg-type]
    graph = helper.make_graph(nodes, "g", inputs, [output], [constant])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_activations_are_those_of_every_tile(tmp_path):
    model = _doubling(tmp_path / "m.onnx")
    assert float_tensors(onnx.load(str(model))) == ["as_float", "cue_float", "score"]
    tiles = np.random.default_rng(3).integers(3, 200, (9, 3, 4, 4), dtype=np.uint8)
    tiles[7, 0, 0, 0] = 255
    found = activations_from_tiles(model, tiles, np.zeros((9, 4, 4, 4), np.uint8))
    assert (found["score"].lowest, found["score"].highest) == (2 * tiles.min(), 510)
    assert found["score"].magnitudes.sum() == tiles.size
    assert found["score"].magnitudes[-1] == (tiles == 255).sum()


def test_no_tiles_are_refused(tmp_path):
    with pytest.raises(InputError, match="calibration tiles"):
        activations_from_tiles(
            _doubling(tmp_path / "m.onnx"), np.zeros((0, 3, 4, 4), np.uint8), np.zeros((0, 4, 4, 4), np.uint8)
        )


def _roots(path: Path) -> Path:
    """Score = sqrt(tile - 1): not a number for the pixels that are 0."""
    inputs = [helper.make_tensor_value_info(n, TensorProto.UINT8, ["n", c, 4, 4]) for n, c in (("tile", 3), ("cue", 4))]
    nodes = [
        helper.make_node("Cast", ["tile"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["cue"], ["cue_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["as_float", "one"], ["lower"]),
        helper.make_node("Sqrt", ["lower"], ["score"]),
    ]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 3, 4, 4])
    graph = helper.make_graph(nodes, "g", inputs, [output], [numpy_helper.from_array(np.float32(1), "one")])  # type: ignore[arg-type]
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("tile", [0, 3, 4, 11])
def test_a_tile_that_gives_no_number_is_named(tmp_path, tile):
    tiles = np.random.default_rng(3).integers(3, 200, (12, 3, 4, 4), dtype=np.uint8)
    tiles[tile, 1, 2, 3] = 0
    places = tuple(f"at {n},0 px of board{n}.png" for n in range(12))
    with pytest.raises(InputError, match=rf"NaN or infinity at score for tile {tile + 1} \(at {tile},0 px of board"):
        activations_from_tiles(_roots(tmp_path / "m.onnx"), tiles, np.zeros((12, 4, 4, 4), np.uint8), places=places)
