"""The line on a GPU, with a device that runs the very kernels on the CPU and ONNX Runtime in TensorRT's place.

What this cannot show is in device.py and tensorrt_engine.py: that pycuda, the driver and TensorRT do as asked. That is
for ``make gpu-check``, on a machine with a GPU.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.host_device import HostDevice, HostEngine

from hisir_edge.archive.judge_again import JudgeAgain
from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.cuda.inspector import CudaInspector
from hisir_edge.cuda.readback import windows_of_bits
from hisir_edge.cuda.reference import LAYOUTS
from hisir_edge.cuda.rig import STEPS
from hisir_edge.errors import HisirEdgeError
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import RED_YX, Pixels
from hisir_edge.inspection.board import in_flight
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import self_test
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.records import Result


@pytest.fixture
def gpu(small_bundle, kernels):
    bundle = load_bundle(small_bundle)
    return CudaInspector(bundle, HostDevice(kernels), lambda: HostEngine(bundle, 7))


@pytest.fixture
def cpu(small_bundle):
    bundle = load_bundle(small_bundle)
    made = CpuInspector(bundle, engine_from_bundle(bundle, 1))
    yield made
    made.close()


@pytest.fixture(scope="module")
def frames(small_boards):
    return [read_rgb(p) for p in sorted((small_boards / "test").rglob("*.png"))]


def _alike(one, other, rel=0.1, region_peak=None):
    """The same verdict; positions are rounded to 1/256 px here and to 1/32 px in OpenCV's warp, so nearly the map.

    With ``region_peak`` a region within ``rel`` of it may be called on one side alone, and one that hangs together by
    a thread be two on the other.
    """
    least, apart = (0.0, 0) if region_peak is None else ((1 + rel) * region_peak, 1)
    for side, seen in ((one, other.mask), (other, one.mask)):
        for x, y, w, h in (region.box_xywh for region in side.regions if region.peak > least):
            assert seen[y : y + h, x : x + w].any(), "called on one side alone"
    assert one.result == other.result
    assert abs(one.regions_total - other.regions_total) <= apart
    assert one.score == pytest.approx(other.score, rel=rel, abs=0.05)
    union = (one.mask | other.mask).sum()
    assert (one.mask & other.mask).sum() >= (0.8 if one.regions_total != other.regions_total else 0.9) * union


def test_both_backends_see_how_a_frame_was_taken(gpu, cpu, frames):
    soft = cv2.GaussianBlur(frames[0], (0, 0), 4.0)
    try:
        for one in (gpu, cpu):
            one.watch_optics()
        for frame in (frames[0], soft):
            ours, theirs = gpu.inspect(frame), cpu.inspect(frame)
            assert ours.optics == theirs.optics and ours.optics is not None
            assert [fault.kind for fault in ours.warnings] == [fault.kind for fault in theirs.warnings]
        assert ours.result is theirs.result is Result.ERROR
        assert gpu.inspect(frames[0]).optics == cpu.inspect(frames[0]).optics, "and goes on"
    finally:
        gpu._watch = cpu._watch = None


def test_both_backends_judge_alike(gpu, cpu, frames):
    for frame in frames:  # the third and later ones run as a graph
        _alike(gpu.inspect(frame), cpu.inspect(frame))
    assert gpu._slot.stream.launches == len(frames) - 1
    assert set(gpu.device.launched) == {"tiles_u8", "region_figures", "choose", "gather", "region_scores", "mask_bits"}
    assert gpu.device.streams == 1
    assert len(gpu.rig.engine.shapes) == 1, "a graph holds for one shape"
    self_test(gpu)
    gpu.close()
    assert not gpu.device.held and not gpu.device.pinned_arrays, "all memory is given back"


def test_a_board_is_judged_again_from_what_the_gpu_kept(gpu, cpu, frames):
    again = JudgeAgain(gpu.bundle)
    assert gpu.inspect(frames[0]).evidence is None
    for one in (gpu, cpu):
        one.keep_evidence()
    try:
        for frame in frames:
            ours, theirs = gpu.inspect(frame), cpu.inspect(frame)
            assert ours.evidence is not None and theirs.evidence is not None
            judged = again.judge(ours.evidence)
            assert (judged.result, judged.found.total) == (ours.result, ours.regions_total)
            assert judged.score == pytest.approx(ours.score, rel=0.1, abs=0.05)
            union = (judged.found.mask | ours.mask).sum()
            assert (judged.found.mask & ours.mask).sum() >= 0.9 * union
            mine, other = (set(map(tuple, one.evidence.cells_yx.tolist())) for one in (ours, theirs))
            assert len(mine ^ other) <= 0.2 * max(len(mine | other), 10), "nearly the same regions as on a CPU"
        gpu.keep_evidence(called_only=True)
        results = {(judged.result, judged.evidence is None) for judged in map(gpu.inspect, frames)}
        assert results == {(Result.PASS, True), (Result.FAIL, False)}
    finally:
        gpu._keeps_evidence = cpu._keeps_evidence = False
    gpu.close()
    assert not gpu.device.held and not gpu.device.pinned_arrays, "all memory is given back"


def test_a_map_that_does_not_come_back_costs_no_verdict(gpu, frames, monkeypatch):
    before = [gpu.inspect(frame) for frame in frames]
    gpu.keep_evidence()

    def fails() -> None:
        raise MemoryError("page-locked memory")

    monkeypatch.setattr(gpu._slot, "fetch_map", fails)
    for frame, judged in zip(frames, before, strict=True):
        again = gpu.inspect(frame)
        assert (again.result, again.regions, again.evidence) == (judged.result, judged.regions, None)


def test_the_same_frame_gives_the_same_verdict_whatever_came_before(gpu, frames):
    first = [gpu.inspect(frame) for frame in frames]
    again = [gpu.inspect(frame) for frame in reversed(frames)][::-1]
    for one, other in zip(first, again, strict=True):
        assert (one.result, one.score, one.regions) == (other.result, other.score, other.regions)
        assert np.array_equal(one.mask, other.mask)


def test_frames_in_flight_do_not_see_each_other(gpu, frames):
    items = [frames[i % len(frames)] for i in range(14)]
    alone, done = [gpu.inspect(frame) for frame in items], []
    with Pipeline(in_flight(gpu, 3), CudaInspector.inspect, done.append) as pipeline:
        for item in items:
            pipeline.put(item)
    assert gpu.rig.engine.contexts == gpu.device.streams == 3
    for one, other in zip(alone, done, strict=True):
        assert (one.result, one.score, one.regions) == (other.result, other.score, other.regions)


@pytest.mark.parametrize("spoil", ["failure", "nan", "inf", "misfit"])
def test_what_fails_is_an_error_and_the_slot_is_built_anew(gpu, frames, spoil):
    before = gpu.inspect(frames[0])
    gpu.rig.engine.spoil = spoil
    for _ in range(2):
        judgement = gpu.inspect(frames[0])
        assert (judgement.result, judgement.mask) == (Result.ERROR, None)
    gpu.rig.engine.spoil = ""
    after = gpu.inspect(frames[0])
    assert (after.result, after.score, after.regions) == (before.result, before.score, before.regions)
    assert gpu.device.streams == gpu.rig.engine.contexts == 3
    gpu.close()
    assert not gpu.device.held and not gpu.device.pinned_arrays, "what failed has given its memory back, too"


def test_what_cannot_be_recorded_is_done_step_by_step(gpu, frames):
    gpu.rig.engine.spoil = "no graph"
    first, second, third = (gpu.inspect(frames[0]) for _ in range(3))
    assert first.result is second.result is third.result is not Result.ERROR
    assert all(one.whole.graph is None for one in gpu._slot.inputs.values())
    assert gpu.device.streams == 1


def test_boards_anywhere_are_judged_as_on_a_cpu(small_bundle, kernels, frames):
    """A homography is no matrix of the kernels: the frame is straightened before, the regions put back afterwards."""
    bundle = load_bundle(small_bundle)
    bundle = replace(bundle, recipe=replace(bundle.recipe, locate="anywhere"))
    gpu = CudaInspector(bundle, HostDevice(kernels), lambda: HostEngine(bundle, 7))
    cpu = CpuInspector(bundle, engine_from_bundle(bundle, 1))
    h, w = bundle.recipe.frame_hw
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32)
    moved = corners + np.array([(1.5, 1), (-1, 1.5), (-1.5, -1), (1, -1)], np.float32)
    oblique = cv2.getPerspectiveTransform(corners, moved)
    judged = 0
    for frame in frames[:6]:
        seen = np.asarray(cv2.warpPerspective(frame, oblique, (w, h), borderMode=cv2.BORDER_REPLICATE), np.uint8)
        one, other = gpu.inspect(seen), cpu.inspect(seen)
        assert one.result is other.result
        if one.result is Result.ERROR:
            continue
        judged += 1
        assert one.regions_total == other.regions_total
        if one.mask.any():
            near = cv2.dilate(one.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            assert (other.mask & near).sum() >= 0.95 * other.mask.sum()
            assert (one.mask & other.mask).sum() >= 0.8 * (one.mask | other.mask).sum()
    assert judged >= 4
    gpu.close()
    cpu.close()


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 90), st.integers(1, 120)), st.integers(0, 40))
@settings(max_examples=80, deadline=None)
def test_windows_hold_all_that_is_set_and_cut_nothing(seed, hw, dots):
    rng = np.random.default_rng(seed)
    mask = np.zeros(hw, np.uint8)
    mask[rng.integers(0, hw[0], dots), rng.integers(0, hw[1], dots)] = 1
    _, labels = cv2.connectedComponents(mask, connectivity=8)
    left = mask.copy()
    for y0, y1, x0, x1 in windows_of_bits(np.packbits(mask, axis=1), hw):
        inside = set(np.unique(labels[y0:y1, x0:x1])) - {0}
        outside = labels.copy()
        outside[y0:y1, x0:x1] = 0
        assert not inside & set(np.unique(outside)), "a region is cut"
        assert left[y0:y1, x0:x1].any(), "empty, or there twice"
        left[y0:y1, x0:x1] = 0
    assert not left.any()


def test_of_a_frame_the_host_waits_once_and_nothing_is_allocated(gpu, frames):
    device, results = gpu.device, set()
    gpu.inspect(frames[0])  # memory for its layout
    made = device.made
    for frame in frames * 2:
        waits = device.waits
        judgement = gpu.inspect(frame)
        results.add(judgement.result)
        fetched = bool(gpu._slot.host.bits.any())  # the scores of those rows
        assert device.waits - waits == 1 + fetched
        assert device.made == made
    assert results == {Result.PASS, Result.FAIL}


@pytest.mark.parametrize("pixel_format", [name for name in LAYOUTS if name != "Mono8"])
def test_a_frame_crosses_as_its_camera_gave_it(small_bundle, kernels, frames, pixel_format):
    """The frame as such a camera would have given it, judged raw, and as the RGB that the host makes of it."""
    bundle = load_bundle(small_bundle)
    gpu = CudaInspector(bundle, HostDevice(kernels), lambda: HostEngine(bundle, 16))
    for frame in frames:
        raw = _as_from_camera(frame, pixel_format)
        _alike(gpu.inspect(raw), gpu.inspect(raw.rgb), region_peak=bundle.thresholds.region_peak)
    sizes = {len(one.owner) for one in (slot.there for slot in gpu._slot.inputs.values())}
    assert raw.data.nbytes in sizes
    gpu.close()
    assert not gpu.device.held  # type: ignore[attr-defined]


def _as_from_camera(rgb, pixel_format):
    if pixel_format == "RGB8":
        return Pixels(rgb)
    if pixel_format == "BGR8":
        return Pixels(np.ascontiguousarray(rgb[..., ::-1]), pixel_format)
    if pixel_format == "RGBa8":
        return Pixels(np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)]), pixel_format)
    (red_y, red_x), mosaic = RED_YX[pixel_format], rgb[..., 1].copy()
    mosaic[red_y::2, red_x::2] = rgb[red_y::2, red_x::2, 0]
    mosaic[1 - red_y :: 2, 1 - red_x :: 2] = rgb[1 - red_y :: 2, 1 - red_x :: 2, 2]
    return Pixels(mosaic, pixel_format)


def test_a_grey_board_is_the_same_from_a_grey_camera(gpu, frames):
    grey = np.ascontiguousarray(frames[0][..., 1])
    one, other = gpu.inspect(Pixels(grey, "Mono8")), gpu.inspect(np.repeat(grey[..., None], 3, 2))
    assert (one.result, one.score, one.regions) == (other.result, other.score, other.regions)


def test_a_trace_has_each_step_of_each_frame(gpu, frames):
    plain = gpu.inspect(frames[0])
    spans = []
    gpu.trace(lambda *span: spans.append(span))
    traced = gpu.inspect(frames[0])
    gpu.trace(None)
    assert (plain.result, plain.score, plain.regions) == (traced.result, traced.score, traced.regions)
    steps = [span for span in spans if span[0].startswith("gpu stream")]
    assert [span[1] for span in steps] == list(STEPS)
    assert all(start <= end for _, _, start, end in steps)
    assert all(one[3] == other[2] for one, other in itertools.pairwise(steps))
    gpu.inspect(frames[0])
    assert len([span for span in spans if span[0].startswith("gpu stream")]) == len(STEPS)


def test_two_slots_that_are_made_anew_at_once_are_no_lost_gpu(gpu, frames, monkeypatch):
    other, both, seen = gpu.sibling(), threading.Barrier(2), []
    gpu.rig.engine.spoil = "failure"
    assert [one.inspect(frames[0]).result for one in (gpu, other)] == [Result.ERROR] * 2
    gpu.rig.engine.spoil = ""
    alloc = gpu.device.alloc

    def slow(nbytes):
        if not seen:
            both.wait(5)
            seen.append(gpu.lost)
        return alloc(nbytes)

    monkeypatch.setattr(gpu.device, "alloc", slow)
    threads = [threading.Thread(target=one.inspect, args=(frames[0],)) for one in (gpu, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen and not any(seen) and not gpu.lost


def test_a_sibling_for_which_there_is_no_room_leaves_the_others_as_they_are(gpu, frames):
    before = [gpu.inspect(frame) for frame in frames[:3]]
    gpu.device.broken = True
    with pytest.raises(HisirEdgeError):
        gpu.sibling()
    gpu.device.broken = False
    assert [gpu.inspect(frame).score for frame in frames[:3]] == [one.score for one in before]
    gpu.close()
    assert not gpu.device.held and not gpu.device.pinned_arrays


def test_a_board_full_of_specks_is_looked_at_as_a_whole():
    mask = np.zeros((640, 960), np.uint8)
    mask[::32, ::32] = 1
    assert windows_of_bits(np.packbits(mask, axis=1), mask.shape) == [(0, 624, 0, 944)]


def test_a_gpu_that_is_lost_says_so_and_one_that_comes_back_does_not(gpu, frames):
    before = gpu.inspect(frames[0])
    gpu.rig.engine.spoil = "failure"
    assert gpu.inspect(frames[0]).result is Result.ERROR
    assert not gpu.lost
    gpu.device.broken, gpu.rig.engine.spoil = True, ""
    for lost in (False, True, True):
        assert gpu.inspect(frames[0]).result is Result.ERROR
        assert gpu.lost is lost
    gpu.device.broken = False
    assert gpu.inspect(frames[0]).score == before.score
    assert not gpu.lost
    gpu.close()
    assert not gpu.device.held and not gpu.device.pinned_arrays


def test_tiles_of_ignored_zones_are_not_run(small_bundle, kernels, cpu, frames):
    bundle = load_bundle(small_bundle)
    left = Zone("left", ((-9.0, -9.0), (300.0, -9.0), (300.0, 400.0), (-9.0, 400.0)), 0.0)
    gpu = CudaInspector(replace(bundle, zones=(left,)), HostDevice(kernels), lambda: HostEngine(bundle, 64))
    assert 0 < len(gpu.numbers) < len(gpu.plan.origins_yx)
    for frame in frames:
        judgement, whole = gpu.inspect(frame), cpu.inspect(frame)
        assert not judgement.mask[:, :280].any()
        assert judgement.mask[:, 420:].any() == whole.mask[:, 420:].any()
    right = Zone("all but the right", ((301.0, -9.0), (600.0, -9.0), (600.0, 400.0), (301.0, 400.0)), 0.0, outside=True)
    same = CudaInspector(replace(bundle, zones=(right,)), HostDevice(kernels), lambda: HostEngine(bundle, 64))
    assert np.array_equal(same.numbers, gpu.numbers)
    assert np.array_equal(same.gain.most, gpu.gain.most)
    everything = replace(left, polygon_xy=((-9.0, -9.0), (600.0, -9.0), (600.0, 400.0), (-9.0, 400.0)))
    blind = CudaInspector(replace(bundle, zones=(everything,)), HostDevice(kernels), lambda: HostEngine(bundle, 64))
    assert (blind.inspect(frames[0]).result, blind.inspect(frames[0]).score) == (Result.PASS, 0.0)


def test_a_wrong_frame_is_an_error_and_costs_no_slot(gpu, frames):
    gpu.inspect(frames[0])
    assert gpu.inspect(frames[0][:-16]).result is Result.ERROR
    assert gpu.inspect(np.zeros_like(frames[0])).result is Result.ERROR  # no board there: not registered
    assert gpu.device.streams == 1


def test_a_network_run_by_torch_is_the_bundles_own(small_run, small_bundle, kernels, cpu, frames):
    """The torch engine of training machines, on addresses of the host: half-float planes in, made by `tiles_f16`."""
    from hisir_edge.cuda.torch_engine import TorchEngine
    from hisir_edge.learn.training.reached import trained_net
    from hisir_edge.net.hisir_net import PlanesNet

    record, net = trained_net(small_run)
    gpu = CudaInspector(
        load_bundle(small_bundle), HostDevice(kernels),
        lambda: TorchEngine(PlanesNet(net), record.settings.tile_px, "cpu", batch=5),
    )  # fmt: skip
    for frame in frames:
        # half floats against int8: peaks differ by more
        _alike(gpu.inspect(frame), cpu.inspect(frame), rel=0.2, region_peak=cpu.bundle.thresholds.region_peak)
    assert "tiles_f16" in gpu.device.launched and "tiles_u8" not in gpu.device.launched  # type: ignore[attr-defined]
    gpu.close()
    assert not gpu.device.held  # type: ignore[attr-defined]
