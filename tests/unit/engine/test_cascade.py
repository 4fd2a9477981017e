"""A bundle gets a first look that loses no call of the network, on boards that it was not proven on either."""

from __future__ import annotations

import importlib.util
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from support.commands import here
from support.small import writable_copy

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bench.measure import measured
from hisir_edge.bundle.files import ENGINE, FIRST_LOOK, FIRST_LOOK_ENGINE, MANIFEST, MODEL
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.manifest import ZoneModel
from hisir_edge.bundle.write import write_manifest
from hisir_edge.corruption.plant import NAMES, plant
from hisir_edge.corruption.spots import part_boxes
from hisir_edge.cuda.tensorrt_engine import LOOK
from hisir_edge.engine.assemble import with_engine
from hisir_edge.engine.cascade import spoilt
from hisir_edge.engine.cascade.bound import MARGIN, Proof
from hisir_edge.engine.cascade.export import onnx_of_first_look
from hisir_edge.engine.cascade.make import Effort, with_first_look
from hisir_edge.engine.compiler import compiler_of
from hisir_edge.engine.export import OPSET, onnx_from_net
from hisir_edge.engine.facts import lines_of_manifest
from hisir_edge.engine.options import BuildOptions
from hisir_edge.engine.recipe import TensorRtTable
from hisir_edge.errors import BundleError
from hisir_edge.images import read_rgb
from hisir_edge.inspection.cascade.planes import PLANES
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import check_first_look, self_test
from hisir_edge.learn.data.run import load_record
from hisir_edge.net.first_look import FirstLookNet
from hisir_edge.net.hisir_net import HisirNet
from hisir_edge.records import Result
from hisir_edge.revisions.change import Change, with_change

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx has no wheel for this platform"
)
EFFORT = Effort(tiles=600, steps=300, proven_on=150, worth_it=1.0)


@pytest.fixture(scope="module")
def looking(small_run, small_bundle, tmp_path_factory) -> Path:
    """The small bundle with a first look of its own."""
    folder = writable_copy(small_bundle, tmp_path_factory.mktemp("cascade") / "bundle")
    bundle, scratch, told = load_bundle(folder), tmp_path_factory.mktemp("scratch"), []
    record = load_record(small_run)
    made = with_first_look(
        bundle.manifest, bundle, folder / MODEL, record, scratch, told.append, lambda *_: True, EFFORT
    )
    (folder / MANIFEST).unlink()
    if made.cascade is None:  # half trained as it is, the network may call half of a board
        pytest.fail(told[-1])
    write_manifest(folder, made)
    return folder


@pytest.fixture
def inspectors(looking):
    bundle = load_bundle(looking)
    both = [CpuInspector(bundle, engine_from_bundle(bundle, 1)) for _ in range(2)]
    for one in both:
        one.watch_optics()
    assert both[1].look_first()
    yield both
    for one in both:
        one.close()


def test_it_is_proven_on_every_class_and_says_so(looking):
    cascade = load_bundle(looking).manifest.cascade
    assert cascade.planted >= EFFORT.proven_on
    assert set(cascade.called_by_class) == set(NAMES) and min(cascade.called_by_class.values()) > 0
    assert cascade.called == sum(cascade.called_by_class.values()) <= cascade.planted
    assert cascade.boards >= 2
    assert 0 < cascade.look_from <= 1 and cascade.waved == 0
    assert cascade.waved_upper_bound_95 == pytest.approx(1 - 0.05 ** (1 / cascade.called))
    assert any(line.startswith("first look") for line in lines_of_manifest(load_bundle(looking).manifest))


def test_bench_says_what_is_looked_at_and_what_that_costs(looking):
    figures, _ = measured(load_bundle(looking), None, 1, 1, 1, lambda: None)
    assert 0 <= figures["looked_share"] <= 1
    assert figures["look_s"] > 0 and figures["suspicious_frames_per_s"] > 0
    whole, _ = measured(load_bundle(looking), None, 1, 1, 1, lambda: None, whole=True)
    assert not {"looked_share", "look_s", "suspicious_frames_per_s"} & set(whole)


def test_boards_are_judged_as_by_the_whole_network(inspectors, small_boards):
    """Good, defective, and planted anew: the same result, the same regions wherever there is one."""
    whole, looks = inspectors
    self_test(looks)
    boxes, shares = part_boxes(whole.bundle.memory_rgbd[..., :3], largest_px=100), []
    for number, path in enumerate(sorted((small_boards / "test").glob("*/*"))):
        board = read_rgb(path)
        if number % 2:
            plant(board, whole.plan.tile_px, boxes, (number, 99), number, most=2)
        a, b = whole.inspect(board), looks.inspect(board)
        shares.append(b.looked_share)
        assert a.result is b.result
        assert [region.box_xywh for region in a.regions] == [region.box_xywh for region in b.regions]
        np.testing.assert_array_equal(a.mask, b.mask)
        if a.result is Result.FAIL:
            assert a.score == b.score
    promised = whole.bundle.manifest.cascade.looked_share_good
    assert min(shares) < 1 or promised > 0.9, "it leaves out what it said"
    assert check_first_look(looks) is not None


def test_a_changed_or_missing_first_look_is_refused(looking, tmp_path):
    for name, spoil in (
        ("changed", lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")),
        ("gone", Path.unlink),
    ):
        folder = shutil.copytree(looking, tmp_path / name)
        spoil(folder / FIRST_LOOK)
        with pytest.raises(BundleError):
            load_bundle(folder)


@pytest.mark.parametrize(
    "change",
    [
        Change(strength=1.3),
        Change(strength=0.8),
        Change(zones=(ZoneModel(name="a", polygon=((0, 0), (90, 0), (90, 90)), sensitivity=0.5),)),
    ],
)
def test_a_revision_looks_everywhere(looking, change):
    """The first look was proven for the thresholds and zones of its build."""
    assert with_change(load_bundle(looking).manifest, change).cascade is None


def test_with_thresholds_alone_it_is_refused(small_run):
    done = here("build-engine", small_run, "--out", "x", "--thresholds-only", "--cascade")
    assert done.returncode == 2
    assert "--cascade without --thresholds-only" in done.stderr


def test_too_few_boards_prove_nothing(small_run, small_bundle, tmp_path):
    bundle, record, told = load_bundle(small_bundle), load_record(small_run), []
    pictures = record.held_out + record.train
    one_board = replace(record, same_board=(pictures,), held_out=record.held_out[:1])
    blind = replace(bundle, manifest=bundle.manifest.model_copy(update={"optics": None}))
    for of, boards, words in ((bundle, one_board, "it takes 4 good boards"), (blind, record, "blur cannot be told")):
        made = with_first_look(
            of.manifest, of, small_bundle / MODEL, boards, tmp_path, told.append, lambda *_: True, EFFORT
        )
        assert made.cascade is None
        assert words in told[-1]


def test_the_bound_is_that_of_none_of_so_many():
    proof = Proof(expected=[0.5, 0.9, 2.0] * 1000, kinds=[0, 1, -1] * 1000)
    assert proof.look_from == pytest.approx(MARGIN * 0.5)
    assert proof.upper_bound_95 == pytest.approx(0.000998, rel=1e-2)
    assert proof.by_class()[NAMES[1]] == 1000
    assert Proof().look_from == 0 and Proof(expected=[9.0]).look_from == 1


@pytest.mark.parametrize("style", ["cpu", "gpu"])
def test_the_file_gives_what_the_network_gives(tmp_path, style):
    torch.manual_seed(3)
    net = FirstLookNet().eval()
    planes = np.random.default_rng(0).integers(0, 256, (24, PLANES, 64, 64), np.uint8)
    shipped, proven_by = onnx_of_first_look(net, planes, 64, tmp_path, style)
    found, proven = (
        ort.InferenceSession(one, providers=["CPUExecutionProvider"]).run(None, {"planes": planes})[0]
        for one in (shipped, proven_by)
    )
    assert (shipped == proven_by) == (style == "cpu")
    np.testing.assert_allclose(found, proven, atol=0.02)
    with torch.no_grad():
        wanted = net(torch.from_numpy(planes)).numpy()
        np.testing.assert_allclose(net.folded()(torch.from_numpy(planes)).numpy(), wanted, atol=1e-4)
    assert found.shape == wanted.shape == (24, 4, 4)
    assert np.abs(found - wanted).mean() < (0.15 if style == "cpu" else 0.01) * wanted.std() + 0.02


@needs_rtx
def test_for_a_gpu_it_is_compiled_and_verified_with_the_bundle(looking, tmp_path):
    """A bundle for TensorRT for RTX with two engines; each of them is missed."""
    torch.manual_seed(3)
    folder = writable_copy(looking, tmp_path / "bundle")
    bundle = load_bundle(folder)
    side = bundle.recipe.tile_px
    planes = np.zeros((2, PLANES, side, side), np.uint8)
    onnx_from_net(HisirNet("rep", 8).eval(), side, folder / MODEL, OPSET)
    (folder / FIRST_LOOK).write_bytes(onnx_of_first_look(FirstLookNet().eval(), planes, side, tmp_path, "gpu")[0])
    options = BuildOptions(target="tensorrt-rtx", precision="fp16", gpu_arch=("sm86",))
    compiler = compiler_of("tensorrt-rtx")
    assert compiler is not None
    plain = bundle.manifest.model_copy(update={"target": "tensorrt-rtx", "precision": "fp16"})
    made = with_engine(plain, folder, options, compiler, lambda *_: True)
    look = compiler.engine_from_onnx(
        (folder / FIRST_LOOK).read_bytes(), side, TensorRtTable(), ("sm86",), lambda *_: True
    )
    assert [(t.name, t.dtype, t.shape) for t in look.inputs + look.outputs] == [
        ("planes", "UINT8", (-1, PLANES, side, side)), ("expected", "FLOAT", (-1, side // 16, side // 16)),
    ]  # fmt: skip
    assert {t.name: t.dtype for t in look.inputs + look.outputs} == LOOK, "as the line asks for it"
    assert look.network_layers["HALF"] > 4
    (folder / MANIFEST).unlink()
    write_manifest(folder, made)
    assert {ENGINE, FIRST_LOOK_ENGINE} <= set(load_bundle(folder).manifest.files)
    (folder / FIRST_LOOK_ENGINE).unlink()
    with pytest.raises(BundleError, match=FIRST_LOOK_ENGINE):
        load_bundle(folder)


def test_each_class_is_planted_on_each_board_where_there_is_room_for_one_window():
    assert math.gcd(spoilt.TURN_STEP, len(NAMES)) == 1
