"""A bundle that knows variants of good: each frame is looked at with its own, on both backends, and says which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.host_device import HostDevice, HostEngine

from hisir_edge.arrays import u8
from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import Bundle, load_bundle
from hisir_edge.bundle.variants import Place, PlaceModel
from hisir_edge.cuda.inspector import CudaInspector
from hisir_edge.cuda.readback import crop_of_frame
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.registration.pose import Pose, straightened
from hisir_edge.inspection.rops import Rops
from hisir_edge.records import Result

X, Y, W, H = 200, 150, 40, 32
PAINTS = ((230, 210, 60), (60, 40, 200))


@pytest.fixture(scope="module")
def bundle(small_bundle) -> Bundle:
    """Its place looks as on the golden image, or painted in one of two colours."""
    found = load_bundle(small_bundle)
    golden = found.memory_rgbd[Y : Y + H, X : X + W]
    model = PlaceModel(x=X, y=Y, width=W, height=H, variants=3, looks=(0, 1, 2, 0), usual_levels=4.0)
    pictures = np.stack([golden[..., :3], *(np.broadcast_to(np.array(paint, np.uint8), (H, W, 3)) for paint in PAINTS)])
    place = Place(model=model, pictures=u8(pictures), deviation=u8(golden[..., 3].copy()))
    return replace(found, places=(place,))


@pytest.fixture(scope="module")
def inspector(bundle):
    made = CpuInspector(bundle, engine_from_bundle(bundle, 1), Rops)
    yield made
    made.close()


@pytest.fixture(scope="module")
def frames(small_boards) -> list[np.ndarray]:
    """A good board as it is and painted with each colour."""
    good = read_rgb(min((small_boards / "train" / "good").glob("*.png")))
    found = [good]
    for paint in PAINTS:
        painted = good.copy()
        painted[Y : Y + H, X : X + W] = paint
        found.append(painted)
    return found


def test_each_frame_says_which_variant_it_shows_and_none_is_a_defect(inspector, frames, bundle):
    judged = [inspector.inspect(frame) for frame in frames]
    assert [one.variants for one in judged] == [(0,), (1,), (2,)]
    without = CpuInspector(replace(bundle, places=()), inspector.engine)
    before = [without.inspect(frame) for frame in frames]
    assert [one.variants for one in before] == [(), (), ()]
    assert [one.result for one in before[1:]] == [Result.FAIL, Result.FAIL], "what a product without variants says"
    for one, other in zip(judged[1:], before[1:], strict=True):
        at_place = [here.mask[Y + 4 : Y + H - 4, X + 4 : X + W - 4].mean() for here in (one, other)]
        assert at_place[0] < 0.5 * at_place[1]


def test_what_came_before_changes_nothing(inspector, frames):
    first = [inspector.inspect_with_map(frame)[1] for frame in frames]
    for order in ((2, 1, 0), (0, 2, 1), (1, 1, 2)):
        for number in order:
            assert np.array_equal(inspector.inspect_with_map(frames[number])[1], first[number])


def test_siblings_do_not_see_each_others_variants(inspector, frames):
    other = inspector.sibling()
    expected = [inspector.inspect(frame).score for frame in frames]
    memory = inspector.bundle.memory.copy()
    assert other.memory is not inspector.memory
    assert other.inspect(frames[1]).variants == (1,)
    assert inspector.inspect(frames[2]).score == expected[2]
    assert other.inspect(frames[0]).score == expected[0]
    assert np.array_equal(inspector.bundle.memory, memory), "which both are laid over"


def test_a_part_that_is_planted_may_turn_the_choice_and_the_tiles_around_run_again(inspector, frames):
    """What the gate of a build plants is judged as the line would judge it."""
    _, gains = inspector.prepare(Pixels(frames[0]))
    inspector.map_with_tiles(inspector.numbers, gains)
    assert inspector.memory.chosen == (0,)
    inspector.padded[Y : Y + H, X : X + W] = PAINTS[0]
    found = inspector.map_with_tiles([], gains).copy()
    assert inspector.memory.chosen == (1,)
    assert np.array_equal(found, inspector.map_with_tiles(inspector.numbers, gains))


@pytest.mark.parametrize("planes", [False, True])
def test_a_gpu_chooses_and_judges_as_a_cpu(bundle, inspector, frames, kernels, planes):
    device = HostDevice(kernels)
    gpu = CudaInspector(bundle, device, lambda: HostEngine(bundle, 7, planes))
    other = gpu.sibling()
    for number in (0, 1, 2, 2, 0, 1):
        for one in (gpu, other):
            seen, wanted = one.inspect(frames[number]), inspector.inspect(frames[number])
            assert seen.variants == wanted.variants
            assert (seen.result, seen.regions_total) == (wanted.result, wanted.regions_total)
            assert seen.score == pytest.approx(wanted.score, rel=0.1, abs=0.05)
    gpu.close()
    assert not device.held
    assert not device.pinned_arrays


@pytest.mark.parametrize("layout", ["RGB8", "BGR8", "BayerRG8", "BayerGB8"])
def test_a_gpu_crops_raw_frames_as_the_whole_frame_would_show_them(layout):
    rng = np.random.default_rng(2)
    shape = (90, 130) if layout.startswith("Bayer") else (90, 130, 3)
    work = Pixels(rng.integers(0, 256, shape, np.uint8), layout)
    pose = Pose(np.array([[0.99, 0.03, 4.3], [-0.03, 0.99, -2.6], [0, 0, 1.0]]))
    for here in (None, pose):
        whole = work.rgb if here is None else straightened(work.rgb, here, (90, 130))
        crop = crop_of_frame(work, here)
        for box in ((0, 0, 20, 30), (51, 33, 25, 17), (110, 60, 20, 30)):
            x, y, w, h = box
            off = np.abs(crop(box).astype(int) - whole[y : y + h, x : x + w])
            assert np.mean(off <= 8) > 0.97, "OpenCV's warp rounds positions to 1/32 px"
