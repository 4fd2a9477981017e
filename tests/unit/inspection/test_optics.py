"""How a frame was taken is measured: blur in pixels, whatever the board, its pose and the camera's format."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.arrays import u8
from hisir_edge.bundle.load import Recipe
from hisir_edge.engine.acceptance.optics import CELLS, LOST_BLUR_PX, MOST_PLACES, WORTH_BLUR_PX, Survey
from hisir_edge.engine.facts import words_of_optics
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import RED_YX, Pixels
from hisir_edge.inspection.optics import OpticsWatch, Places, watch_of, white_share
from hisir_edge.inspection.registration.pose import pose_from_affine
from hisir_edge.inspection.verdict import judgement_from_views
from hisir_edge.records import Result, View


@pytest.fixture(scope="module")
def frames(small_boards) -> list[np.ndarray]:
    return [read_rgb(image) for image in sorted((small_boards / "test" / "good").iterdir())]


def blurred(frame: np.ndarray, blur_px: float) -> np.ndarray:
    return frame if not blur_px else u8(cv2.GaussianBlur(frame, (0, 0), blur_px))


def noisy(frame: np.ndarray, seed: int = 0, sigma: float = 2.0) -> np.ndarray:
    """As a sensor does: a lens blurs the board, not the noise."""
    noise = np.random.default_rng(seed).normal(0, sigma, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("blur_px", [1.0, 2.0, 3.0, 5.0, 8.0, 12.0])
@pytest.mark.parametrize("noise", [1.0, 5.0])
def test_blur_is_measured_in_pixels(inspector, frames, blur_px, noise):
    watch = watch_of(inspector.bundle)
    for frame in frames:
        pose = inspector.pose_of(Pixels(frame))
        before = watch.seen(Pixels(frame), pose).blur_px
        after = watch.seen(Pixels(noisy(blurred(frame, blur_px), sigma=noise)), pose).blur_px
        assert before is not None and before < 0.8
        assert after == pytest.approx(np.hypot(before, blur_px), rel=0.35)


@pytest.mark.parametrize("noise", [1.0, 5.0, 8.0])
def test_a_picture_without_edges_is_not_sharp_for_its_noise(inspector, frames, noise):
    watch, lost_px = watch_of(inspector.bundle), inspector.bundle.manifest.optics.lost_blur_px
    for blur_px in (6.0, 10.0, 20.0, 40.0, 80.0):
        pose = inspector.pose_of(Pixels(frames[0]))
        seen = watch.seen(Pixels(noisy(blurred(frames[0], blur_px), sigma=noise)), pose)
        assert seen.blur_px > lost_px and watch.is_lost(seen), blur_px
    nothing = noisy(np.full_like(frames[0], 110), sigma=noise)
    assert watch.is_lost(watch.seen(Pixels(nothing), pose))


def test_what_good_boards_do_is_nothing_to_warn_of(inspector, frames):
    inspector.watch_optics()
    for frame in frames:
        judged = inspector.inspect(frame)
        assert judged.warnings == ()
        assert judged.result is not Result.ERROR
        assert 0.85 < judged.optics.brightness < 1.2
        assert judged.optics.white_share < 0.01


def test_a_soft_frame_has_a_warning_and_one_without_edges_is_an_error(inspector, frames):
    inspector.watch_optics()
    limits = inspector.bundle.manifest.optics
    soft = inspector.inspect(blurred(frames[0], (limits.most_blur_px + limits.lost_blur_px) / 2))
    assert soft.result is not Result.ERROR
    assert [fault.kind for fault in soft.warnings] == ["blur"]
    assert soft.score is not None
    loose = inspector.inspect(blurred(frames[0], 4.0))
    assert loose.result is Result.ERROR
    assert "blurred by" in loose.reason and "check focus" in loose.reason
    assert (loose.score, loose.mask, loose.regions) == (None, None, ())
    assert loose.optics.blur_px > limits.lost_blur_px
    assert loose.warnings
    inspector.watch_optics("error")
    assert inspector.inspect(blurred(frames[0], limits.most_blur_px + 0.3)).result is Result.ERROR
    inspector.watch_optics("off")
    judged = inspector.inspect(blurred(frames[0], 4.0))
    assert (judged.result is Result.ERROR, judged.warnings) == (False, ())
    assert judged.optics.blur_px > 3


def test_a_board_that_is_not_found_for_its_blur_or_light_says_so(inspector, frames):
    inspector.watch_optics()
    gone = inspector.inspect(blurred(frames[0], 14.0))
    assert gone.result is Result.ERROR
    assert "; besides: blurred by" in gone.reason or "taken as those of the good boards" in gone.reason
    assert gone.optics.blur_px > 5 and gone.warnings
    dark = inspector.inspect((frames[0] * 0.45).astype(np.uint8))
    assert dark.result is Result.ERROR
    assert "darker" in dark.reason or "times as bright" in dark.reason
    assert dark.optics.brightness == pytest.approx(0.45, rel=0.15)
    inspector.watch_optics("off")
    assert inspector.inspect((frames[0] * 0.45).astype(np.uint8)).warnings == ()
    small = inspector.inspect(frames[0][:300])
    assert small.optics is None and "512x300" in small.reason
    for other in (frames[0][..., 0], frames[0].astype(np.uint16), np.dstack([frames[0], frames[0][..., :1]])):
        assert "8-bit RGB" in inspector.inspect(other).reason, "what is wrong is said, not what could not be measured"


def test_light_that_is_off_and_white_are_warnings(inspector, frames):
    inspector.watch_optics()
    dark = inspector.inspect((frames[0] * 0.75).astype(np.uint8))
    assert [fault.kind for fault in dark.warnings] == ["brightness"]
    assert dark.optics.brightness == pytest.approx(0.75, rel=0.08)
    glare = frames[0].copy()
    glare[100:200, 100:250] = 255
    seen = watch_of(inspector.bundle).seen(Pixels(glare), inspector.pose_of(Pixels(frames[0])))
    assert seen.white_share == pytest.approx(150 * 100 / glare[..., 0].size, rel=0.25)
    assert "white" in [fault.kind for fault in watch_of(inspector.bundle).faults(seen)]


@pytest.mark.parametrize("pixel_format", ["BGR8", "RGBa8", *RED_YX])
def test_the_cameras_format_is_no_blur(inspector, frames, pixel_format):
    frame, watch = frames[0], watch_of(inspector.bundle)
    pose = inspector.pose_of(Pixels(frame))
    if pixel_format in RED_YX:
        y, x = RED_YX[pixel_format]
        data = frame[..., 1].copy()
        data[y::2, x::2] = frame[y::2, x::2, 0]
        data[1 - y :: 2, 1 - x :: 2] = frame[1 - y :: 2, 1 - x :: 2, 2]
    elif pixel_format == "BGR8":
        data = frame[..., ::-1].copy()
    else:
        data = np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)])
    plain, other = watch.seen(Pixels(frame), pose), watch.seen(Pixels(u8(data), pixel_format), pose)
    assert other.blur_px == pytest.approx(plain.blur_px, abs=0.5)
    assert other.blur_px < inspector.bundle.manifest.optics.most_blur_px, "no warning comes of it"
    assert other.brightness == pytest.approx(plain.brightness, rel=0.03)
    assert other.white_share < 0.01, "a fourth channel is no colour"


@given(st.floats(-25, 25), st.floats(-25, 25), st.floats(-4, 4), st.sampled_from([0.0, 2.0]))
@settings(max_examples=25, deadline=None)
def test_where_the_board_lies_is_no_blur(inspector, frames, shift_x, shift_y, turn_deg, blur_px):
    frame, watch = frames[0], watch_of(inspector.bundle)
    h, w = frame.shape[:2]
    move = cv2.getRotationMatrix2D((w / 2, h / 2), turn_deg, 1.0)
    move[:, 2] += (shift_x, shift_y)
    moved = u8(cv2.warpAffine(frame, move, (w, h), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
    still = inspector.pose_of(Pixels(frame))
    back = cv2.invertAffineTransform(move)
    pose = pose_from_affine((still.matrix @ np.vstack([back, (0, 0, 1)]))[:2])
    before = watch.seen(Pixels(blurred(frame, blur_px)), still)
    after = watch.seen(Pixels(blurred(moved, blur_px)), pose)
    assert after.blur_px == pytest.approx(before.blur_px, abs=0.7)
    assert after.brightness == pytest.approx(before.brightness, rel=0.05)


def test_places_out_of_the_frame_say_nothing(inspector, frames):
    watch = watch_of(inspector.bundle)
    away = pose_from_affine(np.array([[1.0, 0, 400.0], [0, 1.0, 0]]))
    seen = watch.seen(Pixels(frames[0]), away)
    assert (seen.blur_px, seen.brightness) == (None, None)
    assert [fault.kind for fault in watch.faults(seen)] == ["blur"], "what cannot be said is not well"
    assert not watch.is_lost(seen)
    nowhere = pose_from_affine(np.array([[1.0, 0, 9000.0], [0, 1.0, 9000.0]]))
    assert watch.seen(Pixels(frames[0]), nowhere).white_share == 0.0


def bundle_of(boards: list[np.ndarray], scale: float = 1.0) -> Any:
    h, w = boards[0].shape[:2]
    golden = u8(np.median(np.stack(boards), 0).astype(np.uint8))
    if scale != 1.0:
        golden = u8(cv2.resize(golden, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    recipe = Recipe((h, w), scale, 128, 32, "off")
    return SimpleNamespace(memory_rgbd=np.dstack([golden, golden[..., :1]]), recipe=recipe, area=None)


def survey_of(bundle: Any) -> Survey:
    inspector: Any = SimpleNamespace(bundle=bundle)
    return Survey(inspector)


def surveyed(boards: list[np.ndarray], scale: float = 1.0):
    survey = survey_of(bundle_of(boards, scale))
    for board in boards:
        survey.add(Pixels(board), None)
    return survey.model()


def test_limits_come_from_the_good_boards(frames):
    rng = np.random.default_rng(4)
    alike = [noisy(frames[0], n) for n in range(12)]
    model = surveyed(alike)
    assert 6 <= len(model.places) <= MOST_PLACES
    assert model.most_blur_px == pytest.approx(WORTH_BLUR_PX), "boards that are alike by chance make no limit stricter"
    assert model.least_brightness == pytest.approx(1 / 1.1, abs=0.01)
    assert model.boards == 12
    assert [step.drop for step in model.blur] == sorted(step.drop for step in model.blur)
    focus = [blurred(noisy(frames[0], n), float(rng.uniform(0, 1.2))) for n in range(12)]
    light = [np.clip(board * rng.uniform(0.85, 1.15), 0, 255).astype(np.uint8) for board in focus]
    wide = surveyed(light)
    assert WORTH_BLUR_PX < wide.most_blur_px <= LOST_BLUR_PX
    assert wide.least_brightness < 0.85 and wide.most_brightness > 1.15
    one = surveyed(alike[:1])
    assert one.most_blur_px == pytest.approx(LOST_BLUR_PX), "of one board nothing is known but what is gross"


def test_one_board_that_was_taken_otherwise_widens_no_limit(frames):
    alike = [noisy(frames[0], n) for n in range(12)]
    model = surveyed([*alike, blurred(frames[0], 6.0)])
    assert model.most_blur_px < 1.5
    white = frames[0].copy()
    white[:150] = 255
    assert surveyed([*alike, white]).most_white_share < 0.05


def test_a_plain_board_says_nothing_of_focus():
    plain = [np.full((256, 320, 3), 90 + n, np.uint8) for n in range(6)]
    model = surveyed(plain)
    assert (model.places, model.blur, model.most_blur_px, model.lost_blur_px) == ((), (), None, None)
    assert words_of_optics(model).startswith("blur not watched")
    assert words_of_optics(None).startswith("not watched")
    tiny = surveyed([np.random.default_rng(n).integers(0, 255, (70, 90, 3), np.uint8) for n in range(3)])
    assert tiny.most_blur_px is None, "there is no room for a place"
    assert model.most_white_share < 0.1


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_a_scaled_bundle_allows_the_blur_that_it_does_not_see(frames, scale):
    large = cv2.resize(frames[0], None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_CUBIC)
    alike = [noisy(large, n) for n in range(4)]
    model = surveyed(alike, scale)
    assert model.lost_blur_px == pytest.approx(LOST_BLUR_PX / scale)
    watch = OpticsWatch(bundle_of(alike, scale), model)
    for blur_px in (1.5 / scale, 4 / scale):
        seen = watch.seen(Pixels(noisy(blurred(large, blur_px), 9)), None)
        assert seen.blur_px == pytest.approx(blur_px, rel=0.3)
        assert watch.is_lost(seen) == (blur_px > 3 / scale)


def test_a_board_whose_places_lie_outside_of_its_frame_says_nothing(frames):
    part = np.full_like(frames[0], 90)
    part[30:330, :70] = frames[0][30:330, 200:270]
    alike = [noisy(part, n) for n in range(6)]
    survey = survey_of(bundle_of(alike))
    for number, board in enumerate(alike):
        away = pose_from_affine(np.array([[1.0, 0, 60.0 if number == 2 else 0.0], [0, 1.0, 0]]))
        survey.add(Pixels(board), away)
    model = survey.model()
    assert model is not None and 0.8 < model.least_brightness < 1 < model.most_brightness
    assert len(model.places) <= CELLS, "one part does not speak for the board"


def test_soft_photos_have_a_measure_too(frames):
    soft = [noisy(blurred(frames[0], 3.0), n, 0.5) for n in range(6)]
    model = surveyed(soft)
    assert model.most_blur_px is not None
    seen = OpticsWatch(bundle_of(soft), model).seen(Pixels(noisy(blurred(soft[0], 6.0), 9, 0.5)), None)
    assert seen.blur_px > model.lost_blur_px


def test_of_several_cameras_the_one_that_is_soft_is_named(inspector, frames):
    inspector.watch_optics()
    parts = [inspector.inspect(frames[0]), inspector.inspect(blurred(frames[0], 4.0))]
    views = [View(name, 1, (384, 512), "0" * 64, part) for name, part in zip(("top", "bottom"), parts, strict=True)]
    both = judgement_from_views(views)
    assert both.result is Result.ERROR
    assert both.reason.startswith("bottom: ") and "blurred" in both.reason
    assert [fault.kind for fault in both.warnings] == ["blur"]


def test_a_bundle_of_before_watches_nothing(inspector, frames):
    bundle = replace(inspector.bundle, manifest=inspector.bundle.manifest.model_copy(update={"optics": None}))
    assert watch_of(bundle) is None
    assert white_share(Pixels(np.full((8, 8), 255, np.uint8), "Mono8"), np.array([(1.0, 1.0), (99.0, 0.0)])) == 1.0
    assert len(Places(bundle, np.empty((0, 2))).golden_xy) == 0
