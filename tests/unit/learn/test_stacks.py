"""The stream of a pretraining: a tile, a memory of other boards of its product, and where it is corrupted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hisir_edge.errors import InputError
from hisir_edge.learn.training.pretrain import pretrain, pretrain_settings
from hisir_edge.learn.training.stacks import StackTiles, stack_files
from hisir_edge.net.hisir_net import HisirNet
from hisir_edge.net.pretrained import COUNTERS, weights_bytes


@pytest.fixture
def stacks(tmp_path):
    """Three products of plain colours with a bright part; the boards of each differ by noise alone."""
    rng = np.random.default_rng(0)
    for product in range(3):
        base = np.full((160, 160, 3), 60 + 50 * product, np.uint8)
        base[40:120, 30:70] = 220
        stack = np.clip(base + rng.normal(0, 2, (8, 160, 160, 3)), 0, 255).astype(np.uint8)
        np.save(tmp_path / f"{1000 + product}.npy", stack)
    return tmp_path


def test_a_number_fixes_a_batch_and_corruption_is_where_the_mask_says(stacks):
    stream = StackTiles(stack_files(stacks), 64, 4, seed=3)
    for number in range(6):
        batch, again = stream.batch_of(number), StackTiles(stack_files(stacks), 64, 4, seed=3).batch_of(number)
        assert all((a == b).all() for a, b in zip(batch, again, strict=True))
        assert batch.tile.shape == batch.clean.shape == (4, 3, 64, 64)
        assert batch.cue.shape == (4, 4, 64, 64)
        assert batch.mask.shape == batch.weight.shape == (4, 1, 64, 64)
        assert set(np.unique(batch.mask)) <= {0, 1}
        assert not (batch.mask & (batch.weight == 0)).any(), "nothing is to be found where nothing counts"
        changed = np.abs(batch.tile.astype(int) - batch.clean).max(1)
        noisy = changed[(batch.mask[:, 0] == 0) & (batch.weight[:, 0] > 0)]
        assert np.quantile(noisy, 0.98) < 40, "off the mask there is no more than noise and compression"


def test_held_out_products_are_never_trained_on(stacks):
    files = stack_files(stacks)
    assert StackTiles(files, 64, 4, 0, held_out=True).files == files[-1:]
    assert StackTiles(files, 64, 4, 0).files == files[:-1]


def test_a_folder_without_stacks_and_an_odd_batch_are_refused(tmp_path, stacks):
    with pytest.raises(InputError, match="stacks of drawn boards"):
        stack_files(tmp_path / "none")
    with pytest.raises(InputError, match="a batch that 2 divides"):
        StackTiles(stack_files(stacks), 64, 3, 0)
    with pytest.raises(InputError, match="two stacks of boards or more"):
        StackTiles(stack_files(stacks)[:1], 64, 4, 0)


def test_a_pretraining_goes_on_where_it_stopped_and_refuses_other_settings(stacks, tmp_path, monkeypatch):
    monkeypatch.setattr("hisir_edge.learn.training.pretrain.TILE_PX", 64)
    monkeypatch.setattr("hisir_edge.learn.training.pretrain.HELD_OUT_BATCHES", 1)
    run = tmp_path / "run"
    settings = pretrain_settings("rep", stacks, 2, 2, 1e-3)
    written = pretrain(settings, run, None, 0)
    with np.load(written) as stored:
        assert {stored[name].dtype for name in stored.files} == {np.dtype(np.float16)}
        names = {name for name in HisirNet("rep", settings.width).state_dict() if not name.endswith(COUNTERS)}
        assert set(stored.files) == names
    seen = []
    pretrain(settings, run, None, 0, seen.append)
    assert seen == [], "its two steps are done"
    with pytest.raises(InputError, match="steps 2"):
        pretrain(pretrain_settings("rep", stacks, 3, 2, 1e-3), run, None, 0)
    assert json.loads((run / "pretrain.json").read_text())["steps"] == 2


def test_half_floats_never_make_a_variance_zero():
    net = HisirNet("rep", 8)
    state = {**net.state_dict()}
    name = next(name for name in state if name.endswith("running_var"))
    state[name] = state[name] * 1e-12
    import io

    with np.load(io.BytesIO(weights_bytes(state))) as stored:
        assert (stored[name] > 0).all()
