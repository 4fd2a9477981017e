"""Shifts of the test pictures do what their names say, and move the truth along."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.errors import InputError
from hisir_edge.geometry.merge_plan import merge_plan_from_tiles
from hisir_edge.geometry.tile import plan_from_size
from hisir_edge.learn.evaluation.merge_baselines import MERGES, merge_from_name
from hisir_edge.learn.evaluation.shifts import STANDARD, Shift, shift_from_text, shifted


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    frame = np.clip(rng.normal(110, 2.0, (200, 260, 3)), 0, 255).astype(np.uint8)
    truth = np.zeros((200, 260), bool)
    truth[90:110, 120:150] = True
    frame[truth] = 230
    return frame, truth


@pytest.mark.parametrize("amount", [2, 8, 12])
def test_fixture_error_moves_picture_and_truth_alike(scene, amount):
    frame, truth = shifted(Shift("fixture", amount), *scene, number=4)  # type: ignore[misc]
    ys, xs = np.nonzero(truth)
    assert np.hypot(ys.mean() - 99.5, xs.mean() - 134.5) == pytest.approx(amount, abs=0.8)
    assert frame[truth].mean() > 220


def test_brightness_and_noise_have_the_asked_for_size(scene):
    frame, _ = shifted(Shift("brightness", -20), *scene, number=0)  # type: ignore[misc]
    assert frame[:50].mean() == pytest.approx(0.8 * scene[0][:50].mean(), rel=0.01)
    loud, _ = shifted(Shift("noise", 3), *scene, number=0)  # type: ignore[misc]
    assert loud[:80].std() == pytest.approx(3 * scene[0][:80].std(), rel=0.15)


@pytest.mark.parametrize("shift", STANDARD, ids=str)
def test_every_standard_shift_keeps_shape_type_and_is_repeatable(scene, shift):
    one, two = (shifted(shift, *scene, number=7) for _ in range(2))  # type: ignore[misc]
    assert one[0].shape == scene[0].shape
    assert one[0].dtype == np.uint8
    assert one[1].dtype == bool
    assert np.array_equal(one[0], two[0])


@pytest.mark.parametrize(
    "text", ["fixture", "fixture=", "fixture=x", "tilt=3", "noise=nan", "", "jpeg=1e30", "fixture=-2"]
)
def test_an_unknown_shift_is_refused(text):
    with pytest.raises(InputError, match=r"fixture|from 1 to 100"):
        shift_from_text(text)


def test_noise_reaches_a_picture_that_has_none():
    smooth = np.full((64, 64, 3), 90, np.uint8)
    loud, _ = shifted(Shift("noise", 3), smooth, np.zeros((64, 64), bool), number=0)
    assert loud.std() > 1


def _cells(padded: np.ndarray) -> np.ndarray:
    h, w = padded.shape
    return padded.reshape(h // 16, 16, w // 16, 16).max((1, 3))


def test_merges_agree_where_tiles_agree_and_name_themselves():
    plan = merge_plan_from_tiles(plan_from_size((160, 224), 96, 32))
    field = np.random.default_rng(1).random(plan.plan.padded_hw).astype(np.float32)
    scores = np.stack([field[y : y + 96, x : x + 96] for y, x in plan.plan.origins_yx])
    misfit = np.zeros((len(scores), 6, 6), np.float32)
    for name in MERGES:
        merger = merge_from_name(name)(plan)
        merger.put(np.arange(len(scores)), scores, misfit)
        merged = merger.merged()
        assert np.allclose(merger.cell_max, _cells(field[: plan.plan.padded_hw[0]]), atol=1e-6), name
        assert np.allclose(merged, field[:160, :224], atol=1e-6), name
    with pytest.raises(InputError, match="rops"):
        merge_from_name("median")
