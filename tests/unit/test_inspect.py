"""One frame through the line's inner half, with a real, small, trained bundle."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.engine.bundle import load_bundle
from hisir_edge.engine.load import engine_from_bundle
from hisir_edge.errors import InspectionError
from hisir_edge.images import read_mask, read_rgb
from hisir_edge.line.inspect import Inspector
from hisir_edge.records import Result


@pytest.fixture(scope="module")
def inspector(small_bundle) -> Inspector:
    bundle = load_bundle(small_bundle)
    return Inspector(bundle, engine_from_bundle(bundle, 2))


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

        batch = real.batch
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
    inspector = Inspector(bundle, engine)
    frame = read_rgb(next(iter(sorted((small_boards / "test" / "good").iterdir()))))
    for spoil in ("scores", "misfit", "failure"):
        engine.spoil = spoil
        assert inspector.inspect(frame).result is Result.ERROR
