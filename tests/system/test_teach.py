"""Teaching: photos of good boards become a bundle without a step of training."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from support.building import one_line
from support.commands import here
from support.training import small_settings

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.write import memory_as_shipped
from hisir_edge.engine.acceptance.left_out import others_of_run
from hisir_edge.engine.assemble import float_bundle
from hisir_edge.engine.options import BuildOptions
from hisir_edge.errors import InputError
from hisir_edge.images import png_bytes, read_rgb
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.learn.data.run import SHIPPED, load_checkpoint, load_record
from hisir_edge.learn.data.statistics import mean_memory, robust_memory
from hisir_edge.learn.evaluation.evaluate import evaluate
from hisir_edge.learn.evaluation.figures import figures
from hisir_edge.learn.training.reached import trained_net
from hisir_edge.learn.training.teach import teach
from hisir_edge.net.backbones import default_width


@pytest.fixture(scope="module")
def taught(small_boards, tmp_path_factory):
    """The small product taught from its ten good boards, by the command: folder, bundle, what was printed."""
    folder = tmp_path_factory.mktemp("taught")
    options = ("--product", "p3", "--false-calls-per-board", 0.2)
    done = here("teach", small_boards, "--out", folder / "bundle", *options)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_ten_boards_make_a_bundle_that_finds_defects(taught, small_boards):
    folder, done = taught
    assert "from 10 boards, each judged by the others: at most" in done.stdout
    assert "learnt from 10 pictures, each also judged by the others" in done.stdout
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
    assert manifest["product"] == "p3"
    assert manifest["precision"] == "int8"
    assert manifest["thresholds"]["held_out_boards"] == 10
    assert manifest["metrics"]["recall"] >= 0.5
    seen = figures(evaluate(folder / "bundle", small_boards))
    assert seen["pixel_auroc"] > 0.99
    assert seen["image_auroc"] == 1.0
    record = load_record(folder / "bundle-run")
    assert record.each_left_out
    assert record.settings.start == "shipped"
    assert load_checkpoint(folder / "bundle-run")["step"] == 0


def made_of(pictures):
    """The board memory of these pictures, as a bundle has it: (h, w, 4)."""
    memory = robust_memory(lambda a, b: [one[a:b].copy() for one in pictures], pictures.shape[1:3])
    return memory_as_shipped(memory.mean_rgb, memory.deviation)


def test_each_board_is_judged_without_itself(taught, tmp_path):
    folder, _ = taught
    record, bundle = load_record(folder / "bundle-run"), load_bundle(folder / "bundle")
    inspector = CpuInspector(bundle, engine_from_bundle(bundle), own_memory=True)
    others = others_of_run(inspector, record, tmp_path)
    h, w = inspector.plan.frame_hw
    whole = bundle.memory[:, :h, :w].astype(int)
    for number in (0, 4, 9):
        mine = others.memory_of(inspector, record.in_memory[number]).whole()[:, :h, :w].astype(int)
        expected = made_of(np.delete(others.pictures, number, 0)).transpose(2, 0, 1)
        assert np.abs(mine - expected).max() <= 4, "sums of float32 round otherwise, and JPEG after them"
        assert (mine != whole).any()


def settings_of(good, **changes):
    return small_settings(good, 0, start=SHIPPED, width=default_width("unet"), **changes)


def test_a_run_that_was_taught_is_taught_anew_and_others_are_kept(small_boards, tmp_path):
    good, run = tmp_path / "good", tmp_path / "run"
    shutil.copytree(small_boards / "train" / "good", good)
    assert len(teach(settings_of(good), run).train) == 10
    min(good.iterdir()).unlink()
    assert len(teach(settings_of(good, variants=1), run).train) == 9
    for path in good.iterdir():
        path.unlink()
    with pytest.raises(InputError):
        teach(settings_of(good), run)
    assert len(load_record(run).train) == 9, "what was taught stays until the new one is whole"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".run.new")] == []
    (run / "area.json").write_text("[]")
    with pytest.raises(InputError, match=r"other files, such as area\.json"):
        teach(settings_of(small_boards), run)
    assert (run / "area.json").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        teach(settings_of(good), other)
    assert (other / "notes.txt").read_text() == "mine"


def test_a_width_without_weights_is_told(small_boards, tmp_path):
    with pytest.raises(InputError, match=r"unet of width 8.*--from scratch"):
        teach(small_settings(small_boards, 0, start=SHIPPED), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_three_boards_are_too_few(small_boards, tmp_path):
    good = tmp_path / "good"
    good.mkdir()
    for path in sorted((small_boards / "train" / "good").iterdir())[:3]:
        shutil.copy(path, good)
    done = here("teach", good, "--out", tmp_path / "bundle")
    assert done.returncode == 2
    assert "at least 4 good boards" in one_line(done)
    assert not (tmp_path / "bundle").exists()


def test_two_photos_of_each_board_are_left_out_together(taught, small_boards, tmp_path):
    good = tmp_path / "good"
    good.mkdir()
    rng = np.random.default_rng(0)
    for path in sorted((small_boards / "train" / "good").iterdir())[:4]:
        shutil.copy(path, good)
        again = np.clip(read_rgb(path) + rng.normal(0, 1.5, (384, 512, 3)), 0, 255).astype(np.uint8)
        (good / f"{path.stem}-again.png").write_bytes(png_bytes(again))
    record = teach(settings_of(good), tmp_path / "run")
    assert len(record.held_out) == 8
    bundle = load_bundle(taught[0] / "bundle")
    inspector = CpuInspector(bundle, engine_from_bundle(bundle), own_memory=True)
    others = others_of_run(inspector, record, tmp_path)
    boards = others.memories.boards
    assert sorted(boards) == [0, 0, 1, 1, 2, 2, 3, 3]
    h, w = inspector.plan.frame_hw
    rest = np.array(boards) != boards[2]
    mine = others.memory_of(inspector, record.in_memory[2]).whole()[:, :h, :w].transpose(1, 2, 0)
    assert (mine == made_of(others.pictures[rest])).all()


def test_loose_objects_are_judged_by_the_mean_of_the_others(small_boards, tmp_path):
    record = teach(settings_of(small_boards, register="off"), tmp_path / "run")
    assert not record.registered
    _, net = trained_net(tmp_path / "run")
    (tmp_path / "staged").mkdir()
    bundle = float_bundle(tmp_path / "run", record, net, tmp_path / "staged", BuildOptions(precision="fp32"))
    inspector = CpuInspector(bundle, engine_from_bundle(bundle), own_memory=True)
    others = others_of_run(inspector, record, tmp_path)
    rest = mean_memory(others.pictures[1:])
    h, w = inspector.plan.frame_hw
    mine = others.memory_of(inspector, record.in_memory[0]).whole()[:, :h, :w].transpose(1, 2, 0)
    assert (mine == memory_as_shipped(rest.mean_rgb, rest.deviation)).all()
