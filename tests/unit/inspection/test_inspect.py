"""One frame through the line's inner half, with a real, small, trained bundle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hisir_edge.backends import engine_from_bundle, onnxruntime_engine
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.errors import InspectionError
from hisir_edge.images import read_mask, read_rgb
from hisir_edge.images.pixels import CONVERSIONS, Pixels
from hisir_edge.inspection.board import check_frame
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.regions import regions_from_map
from hisir_edge.inspection.rops import Rops
from hisir_edge.records import Result


def test_a_planted_missing_part_is_found_where_it_is(inspector, small_boards):
    for image in sorted((small_boards / "test" / "missing").iterdir()):
        judgement = inspector.inspect(read_rgb(image))
        truth = read_mask(small_boards / "ground_truth" / "missing" / f"{image.stem}_mask.png")
        assert judgement.result is Result.FAIL
        assert (judgement.mask & truth).any()


def test_the_same_frame_gives_the_same_judgement(inspector, small_boards):
    frame = read_rgb(next(iter(sorted((small_boards / "test" / "good").iterdir()))))
    one, two = inspector.inspect(frame), inspector.inspect(frame)
    assert one.score == two.score
    assert np.array_equal(one.mask, two.mask)
    assert one.registration_residual_px < 1.5


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (np.zeros((384, 513, 3), np.uint8), "513x384"),
        (np.zeros((384, 512), np.uint8), "8-bit RGB"),
        (np.zeros((384, 512, 4), np.uint8), "8-bit RGB"),
        (np.zeros((384, 512, 3), np.uint16), "uint16"),
        (np.zeros((384, 512, 3), np.uint8), "anchors"),
        (np.random.default_rng(1).integers(0, 256, (384, 512, 3), np.uint8), "anchors"),
    ],
)
def test_what_cannot_be_judged_is_an_error_with_its_reason(inspector, frame, words):
    judgement = inspector.inspect(frame)
    assert judgement.result is Result.ERROR
    assert words in judgement.reason
    assert judgement.mask is None
    assert judgement.score is None


def test_nan_scores_are_an_error_never_a_pass(small_bundle, small_boards):
    bundle = load_bundle(small_bundle)
    real = engine_from_bundle(bundle, 1)

    class Poisoned:
        """The real engine with one pixel or one misfit of one tile turned into NaN."""

        batch, callers = real.batch, real.callers
        spoil = "scores"

        def infer(self, tiles, cues, scores, misfit):
            real.infer(tiles, cues, scores, misfit)
            if self.spoil == "scores":
                scores[0, 70, 70] = np.nan
            elif self.spoil == "misfit":
                misfit[0, 0, 0] = np.inf
            else:
                raise InspectionError(expected="an engine", received="a failure", fix="none")

    engine = Poisoned()
    inspector = CpuInspector(bundle, engine)
    frame = read_rgb(next(iter(sorted((small_boards / "test" / "good").iterdir()))))
    for spoil in ("scores", "misfit", "failure"):
        engine.spoil = spoil
        assert inspector.inspect(frame).result is Result.ERROR


@pytest.fixture(scope="module")
def looking(inspector) -> CpuInspector:
    """The same one, keeping whole maps; on the same threads."""
    other = CpuInspector(inspector.bundle, inspector.engine, Rops)
    other.workers.close()
    other.workers = inspector.workers
    return other


def test_the_line_that_keeps_little_sees_what_the_whole_map_shows(inspector, looking, small_boards):
    for image in sorted((small_boards / "test").rglob("*.png")):
        frame = read_rgb(image)
        little, whole = inspector.inspect(frame), looking.inspect(frame)
        assert (little.result, little.score, little.regions) == (whole.result, whole.score, whole.regions)
        assert np.array_equal(little.mask, whole.mask)
    with pytest.raises(RuntimeError, match="merger=Rops"):
        inspector.inspect_with_map(frame)


def test_the_mask_is_where_the_map_is_over_the_threshold(looking, small_boards):
    inspector = looking
    for image in sorted((small_boards / "test").rglob("*.png")):
        judgement, seen = inspector.inspect_with_map(read_rgb(image))
        assert judgement.score >= seen.max() - 1e-4  # the frame's pixels lie between those of the golden image
        expected = regions_from_map(seen, inspector.bundle.thresholds)
        assert judgement.regions_total == expected.total
        assert (judgement.mask != expected.mask).sum() <= 0.02 * expected.mask.sum()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(small_bundle, small_boards, monkeypatch, threads):
    bundle = load_bundle(small_bundle)
    image = read_rgb(next(iter(sorted((small_boards / "test" / "missing").iterdir()))))
    one = CpuInspector(bundle, onnxruntime_engine(bundle.network, bundle.recipe, 1), Rops).inspect_with_map(image)
    many = CpuInspector(bundle, onnxruntime_engine(bundle.network, bundle.recipe, threads), Rops).inspect_with_map(
        image
    )
    assert np.array_equal(one[1], many[1])  # type: ignore[arg-type]
    assert np.array_equal(one[0].mask, many[0].mask)  # type: ignore[arg-type]
    assert one[0].score == many[0].score


def test_tiles_that_see_ignored_zones_alone_are_not_run(small_bundle, small_boards):
    bundle = load_bundle(small_bundle)
    zone = Zone("left", ((-9.0, -9.0), (300.0, -9.0), (300.0, 400.0), (-9.0, 400.0)), 0.0)
    real, ran = engine_from_bundle(bundle, 1), []

    class Counting:
        batch, callers = real.batch, 1

        def infer(self, tiles, cues, scores, misfit):
            ran.append(len(tiles))
            real.infer(tiles, cues, scores, misfit)

    whole, blind = (
        CpuInspector(bundle, Counting(), Rops),
        CpuInspector(replace(bundle, zones=(zone,)), Counting(), Rops),
    )
    for image in sorted((small_boards / "test").rglob("*.png")):
        frame = read_rgb(image)
        ran.clear()
        _, everywhere = whole.inspect_with_map(frame)
        all_tiles = sum(ran)
        ran.clear()
        judgement, seen = blind.inspect_with_map(frame)
        assert sum(ran) < all_tiles == len(whole.plan.origins_yx)
        assert (seen[:, :280] == 0).all()
        assert np.array_equal(seen[:, 420:], everywhere[:, 420:])
        assert not judgement.mask[:, :280].any()


def test_a_board_that_is_ignored_as_a_whole_passes_with_nothing_run(small_bundle, small_boards):
    bundle = load_bundle(small_bundle)
    zone = Zone("all", ((-9.0, -9.0), (600.0, -9.0), (600.0, 400.0), (-9.0, 400.0)), 0.0)
    inspector = CpuInspector(replace(bundle, zones=(zone,)), engine_from_bundle(bundle))
    judgement = inspector.inspect(read_rgb(next((small_boards / "test" / "missing").iterdir())))
    assert len(inspector.numbers) == 0
    assert (judgement.result, judgement.score) == (Result.PASS, 0.0)


@pytest.mark.parametrize(
    ("grey", "pixel_format", "colours", "taken"),
    [
        (False, "Mono8", False, False), (False, "RGB8", True, True), (False, "BayerRG8", False, True),
        (True, "Mono8", False, True), (True, "RGB8", False, True), (True, "RGB8", True, False),
        (True, "BayerRG8", False, False), (True, "BGR8", True, False), (None, "Mono8", False, True),
        (None, "RGB8", True, True),
    ],
)  # fmt: skip
def test_a_frame_of_the_other_kind_is_refused(inspector, grey, pixel_format, colours, taken):
    """Grey and colour; a bundle from before does not say which it is for."""
    recipe = replace(inspector.bundle.recipe, grey=grey)
    rng, (h, w) = np.random.default_rng(2), recipe.frame_hw
    data = rng.integers(0, 256, (h, w, 3), np.uint8)
    if not colours:
        data[:] = data[..., :1]
    flat = CONVERSIONS[pixel_format][0] == 1
    image = Pixels(np.ascontiguousarray(data[..., 0]) if flat else data, pixel_format)
    if taken:
        check_frame(image, recipe)
        return
    with pytest.raises(InspectionError, match=f"frames in {'grey' if grey else 'colour'}, for which"):
        check_frame(image, recipe)
