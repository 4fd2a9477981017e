"""A bundle gets a first look that loses no call of the network, on boards that it was not proven on either."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from support.small import writable_copy

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.files import FIRST_LOOK, MANIFEST, MODEL
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.manifest import Manifest, ZoneModel
from hisir_edge.bundle.write import write_manifest
from hisir_edge.corruption.plant import NAMES, plant
from hisir_edge.corruption.spots import part_boxes
from hisir_edge.engine.cascade.bound import MARGIN, Proof
from hisir_edge.engine.cascade.export import onnx_of_first_look
from hisir_edge.engine.cascade.make import Effort, with_first_look
from hisir_edge.engine.facts import lines_of_manifest
from hisir_edge.errors import BundleError
from hisir_edge.images import read_rgb
from hisir_edge.inspection.cascade.planes import PLANES
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import check_first_look, self_test
from hisir_edge.learn.data.run import load_record
from hisir_edge.net.first_look import FirstLookNet
from hisir_edge.records import Result
from hisir_edge.revisions.change import Change, with_change

EFFORT = Effort(tiles=500, steps=200, proven_on=150)


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
    assert both[1].look_first()
    yield both
    for one in both:
        one.close()


def test_it_is_proven_on_every_class_and_says_so(looking):
    cascade = load_bundle(looking).manifest.cascade
    assert cascade.planted >= EFFORT.proven_on
    assert set(cascade.called_by_class) == set(NAMES)
    assert 0 < cascade.look_from <= 1 and cascade.waved == 0
    assert cascade.waved_upper_bound_95 == pytest.approx(1 - 0.05 ** (1 / cascade.called))
    assert any(line.startswith("first look") for line in lines_of_manifest(load_bundle(looking).manifest))


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
    assert min(shares) < 1, "it leaves something out"
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
    ("sensitivity", "strength", "kept"), [(None, 1.3, True), (None, 0.8, False), (0.5, 1.0, True), (2.0, 1.0, False)]
)
def test_a_revision_that_calls_from_less_looks_everywhere(looking, sensitivity, strength, kept):
    manifest: Manifest = load_bundle(looking).manifest
    zones = None
    if sensitivity is not None:
        zones = (ZoneModel(name="a", polygon=((0, 0), (90, 0), (90, 90)), sensitivity=sensitivity),)
    assert (with_change(manifest, Change(zones=zones, strength=strength)).cascade is not None) == kept
    if sensitivity == 0.5:  # and back: what the zone hid may be called again
        hidden = manifest.model_copy(update={"zones": zones})
        assert with_change(hidden, Change(zones=())).cascade is None


def test_the_bound_is_that_of_none_of_so_many():
    proof = Proof(expected=[0.5, 0.9, 2.0] * 1000, kinds=[0, 1, -1] * 1000)
    assert proof.look_from == pytest.approx(MARGIN * 0.5)
    assert proof.upper_bound_95 == pytest.approx(0.000998, rel=1e-2)
    assert proof.by_class()[NAMES[1]] == 1000
    assert Proof().look_from == 0 and Proof(expected=[9.0]).look_from == 1


def test_the_file_gives_what_the_network_gives(tmp_path):
    torch.manual_seed(3)
    net = FirstLookNet().eval()
    planes = np.random.default_rng(0).integers(0, 256, (24, PLANES, 64, 64), np.uint8)
    content = onnx_of_first_look(net, planes, 64, tmp_path)
    (found,) = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"planes": planes})
    with torch.no_grad():
        wanted = net(torch.from_numpy(planes)).numpy()
        np.testing.assert_allclose(net.folded()(torch.from_numpy(planes)).numpy(), wanted, atol=1e-4)
    assert found.shape == wanted.shape == (24, 4, 4)
    assert np.abs(found - wanted).mean() < 0.15 * wanted.std() + 0.02
