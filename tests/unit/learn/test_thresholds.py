"""Thresholds keep the stated false-call rate on boards that they have not seen."""

from __future__ import annotations

import numpy as np
import pytest

import hisir_edge.learn.evaluation.thresholds as thresholds_module
from hisir_edge.bundle.thresholds import Thresholds, Zone
from hisir_edge.errors import InputError
from hisir_edge.geometry.noise_shape import (
    NOISE_CELL_PX,
    WIDE_NOISE_CELL_PX,
    noise_cell_px,
    noise_shape,
)
from hisir_edge.inspection.gain import NOISE_STEPS_PER_LOGIT, gain_map, noise_in_logits
from hisir_edge.inspection.score import logit_of_score, score_of_one_logit
from hisir_edge.learn.evaluation.thresholds import (
    Derived,
    block_peaks,
    derived_from_peaks,
    noise_from_peaks,
    peaks_by_area,
)


def derived(peaks: list[np.ndarray], rate: float) -> Derived:
    return derived_from_peaks([[board] for board in peaks], rate, (9,))


def test_softplus_and_back():
    logits = np.linspace(-12, 30, 85)
    scores = np.array([score_of_one_logit(float(v)) for v in logits])
    assert np.allclose(logit_of_score(scores), logits, atol=1e-6)


def test_peaks_are_block_maxima():
    rng = np.random.default_rng(2)
    logits = rng.random((200, 330)).astype(np.float32)
    logits[10, 300], logits[11, 301], logits[199, 5] = 9, 8, 7
    cells = block_peaks(logits)
    assert cells.shape == (4, 6)
    assert cells[0, 4] == 9
    assert cells[3, 0] == 7
    assert np.sort(cells.ravel())[-3] < 1, "two peaks of one block count once"


def test_a_region_across_several_blocks_counts_once():
    logits = np.full((384, 384), -5, np.float32)
    logits[50:150, 50:70] = 6
    logits[80, 66] = 7
    logits[300, 300] = 3
    peaks = peaks_by_area(logits, (1,))[0]
    assert peaks[:3].tolist() == [7, 3, -5]


def test_a_board_with_many_regions_shows_them_all_and_the_bound_says_so():
    logits = np.full((256, 256), -5, np.float32)
    logits[8::32, 8::32] = 5
    many = peaks_by_area(logits, (1,))[0]
    assert (many == 5).sum() == 64
    quiet = np.sort(np.random.default_rng(3).normal(-3, 0.5, 12))[::-1]
    one = derived([many, *[quiet] * 19], 0.5)
    level = float(logit_of_score(np.array(one.thresholds.region_peak * one.thresholds.pixel)))
    seen = (many >= level).sum() / 20
    assert one.upper_bound >= seen


def test_small_regions_do_not_count_where_a_larger_area_is_asked_for():
    logits = np.full((256, 256), -5, np.float32)
    logits[10:13, 10:13] = 6  # 9 px
    logits[100:106, 100:106] = 4  # 36 px
    small, middle, large = peaks_by_area(logits, (9, 18, 36))
    assert small[:2].tolist() == [6, 4]
    assert middle[0] == large[0] == 4


def test_an_area_is_raised_only_where_it_lowers_the_threshold():
    rng = np.random.default_rng(8)
    speckled = [[np.sort(rng.normal(m, 0.3, 12))[::-1] for m in (5, 1, 0.9)] for _ in range(10)]
    assert derived_from_peaks(speckled, 0.1, (9, 18, 36)).thresholds.min_area_px == 18
    even = [[np.sort(rng.normal(2, 0.3, 12))[::-1]] * 3 for _ in range(10)]
    assert derived_from_peaks(even, 0.1, (9, 18, 36)).thresholds.min_area_px == 9


def test_the_bound_tightens_with_more_boards_and_lies_above_the_rate():
    rng = np.random.default_rng(4)
    few, many = ([_board_peaks(rng, "exponential") for _ in range(n)] for n in (6, 80))
    assert derived(few, 0.1).upper_bound > derived(many, 0.1).upper_bound >= 0.1
    assert derived(many, 0.1).boards_to_prove == 30
    assert derived(many, 0.01).boards_to_prove == 300


def test_the_bound_covers_the_true_rate():
    rng = np.random.default_rng(44)
    held = 0
    for _ in range(40):
        made = derived([_board_peaks(rng, "exponential") for _ in range(20)], 0.2)
        region = float(logit_of_score(np.array(made.thresholds.region_peak * made.thresholds.pixel)))
        true = np.mean([(_board_peaks(rng, "exponential") >= region).sum() for _ in range(150)])
        held += true <= made.upper_bound
    assert held >= 34, "95 % of bounds should hold; 85 % are asked for here"


def test_noise_is_found_where_it_is_and_nowhere_else():
    rng = np.random.default_rng(6)
    boards = []
    for _ in range(12):
        cells = rng.normal(-6, 0.5, (6, 8))
        cells[2, 5] += 9  # solder that always glitters
        boards.append(cells)
    noise = noise_from_peaks(boards)
    assert noise[2, 5] > 2 * NOISE_STEPS_PER_LOGIT
    assert noise[5, 0] < NOISE_STEPS_PER_LOGIT / 2
    assert not noise_from_peaks(boards[:2]).any(), "two boards do not tell noise from chance"


def test_a_place_that_differs_from_board_to_board_is_noisier_than_its_mean():
    rng = np.random.default_rng(8)
    boards = []
    for number in range(16):
        cells = rng.normal(-3.5, 0.05, (6, 8))
        cells[1, 1], cells[4, 6] = 2.5, (-0.5, 5.5)[number % 2]
        boards.append(cells)
    noise = noise_from_peaks(boards)
    assert int(noise[4, 6]) > int(noise[1, 1]) + 2 * NOISE_STEPS_PER_LOGIT > 3 * NOISE_STEPS_PER_LOGIT


def test_the_highest_of_24_boards_is_noise_and_of_48_the_second_highest():
    rng = np.random.default_rng(10)

    def noise_with(boards: int, strong: int) -> int:
        every = [rng.normal(-6, 0.1, (6, 8)) for _ in range(boards)]
        for board in every[:strong]:
            board[3, 4] = 3.0
        return int(noise_from_peaks(every)[3, 4])

    whole = 3 * NOISE_STEPS_PER_LOGIT
    assert noise_with(24, 1) == noise_with(47, 1) == noise_with(48, 2) == pytest.approx(whole, abs=2)
    assert noise_with(48, 1) < whole / 2


def test_what_stays_below_the_gates_own_boundary_is_no_noise():
    """Places of logit -1 among such of -6: with noise of 5 there the threshold of all the rest would be at -1."""
    boards = [np.full((6, 8), -6.0) for _ in range(12)]
    for board in boards:
        board[2:4] = -1.0
    assert not noise_from_peaks(boards).any()


def test_others_of_a_board_are_ranked_as_all_boards_are():
    """Of 48 boards the second highest counts, also where a board is judged by the other 47."""
    boards = [np.full((4, 4), -6.0) for _ in range(47)]
    boards[0][1, 1] = 5.0
    assert noise_from_peaks(boards)[1, 1] == 5 * NOISE_STEPS_PER_LOGIT
    assert noise_from_peaks(boards, of_boards=48)[1, 1] < NOISE_STEPS_PER_LOGIT


@pytest.mark.parametrize(("y", "x"), [(4 * 32, 4 * 32), (5 * 32 - 1, 5 * 32 - 1), (4 * 32 + 16, 4 * 32 + 16)])
def test_a_peak_is_noise_wherever_it_lies_in_its_cell_and_not_far_from_it(y, x):
    boards = [np.full((9 * NOISE_CELL_PX, 9 * NOISE_CELL_PX), -6, np.float32) for _ in range(12)]
    for board in boards[:2]:
        board[y, x] = 3
    noise = noise_in_logits(noise_from_peaks([block_peaks(b, NOISE_CELL_PX) for b in boards]), boards[0].shape)
    assert noise[y, x] == 3
    far = np.abs(np.indices(noise.shape) - np.array([y, x])[:, None, None]).max(0) > 2.5 * NOISE_CELL_PX
    assert not noise[far].any()


def test_a_noise_maps_cells_are_told_by_its_shape():
    for hw in ((384, 512), (65, 33), (1500, 3000)):
        for px in (NOISE_CELL_PX, WIDE_NOISE_CELL_PX):
            assert noise_cell_px(noise_shape(hw, px), hw) == px
    assert noise_cell_px((6, 7), (384, 512)) is None


def test_a_noise_map_of_before_means_what_it_meant():
    """Cells of 64 px, in the frame's own pixels."""
    noise = np.zeros((3, 4), np.uint8)
    noise[1, 2] = 96
    logits = noise_in_logits(noise, (192, 256))
    y, x = np.unravel_index(int(logits.argmax()), logits.shape)
    assert (abs(y - 95.5), abs(x - 159.5)) == (0.5, 0.5), "its cell's middle lies between two pixels"
    assert logits[y, x] == pytest.approx(3.0, rel=0.02)
    assert not logits[:30].any()


def test_a_noisy_place_does_not_set_the_threshold_of_the_whole_board():
    rng = np.random.default_rng(9)
    hw = (6 * NOISE_CELL_PX, 8 * NOISE_CELL_PX)

    def board() -> np.ndarray:
        logits = np.full(hw, -8, np.float32)
        for row in range(6):
            for column in range(8):
                y, x = row * NOISE_CELL_PX + 30, column * NOISE_CELL_PX + 30
                logits[y : y + 4, x : x + 4] = rng.normal(-5 if (row, column) != (2, 5) else 1.0, 0.5)
        return logits

    boards = [board() for _ in range(20)]
    noise = noise_from_peaks([block_peaks(b, NOISE_CELL_PX) for b in boards])
    none = np.zeros_like(noise)
    level = [
        derived_from_peaks([peaks_by_area(b - noise_in_logits(n, hw), (9,)) for b in boards], 0.05, (9,)).thresholds
        for n in (noise, none)
    ]
    with_noise, without = (t.pixel * t.region_peak for t in level)
    assert with_noise < 0.5 * without


def test_gain_is_one_over_the_threshold_with_zones_and_noise():
    noise = np.zeros((2, 3), np.uint8)
    noise[1, 2] = 64  # 2 logits
    square = ((0.0, 0.0), (31.0, 0.0), (31.0, 31.0), (0.0, 31.0))
    shifted = tuple((x + 64, y) for x, y in square)
    zones = (Zone("print", square, 0.0), Zone("connector", shifted, 2.0))
    thresholds = Thresholds(0.5, 4.0, 9)
    gain = gain_map((128, 192), 1.0, thresholds, noise, zones)
    assert gain.shape == (128, 192)
    assert gain.dtype == np.float32
    assert not gain[:32, :32].any()
    assert gain[10, 70] == pytest.approx(4.0)
    assert gain[100, 10] == pytest.approx(2.0)
    logit = float(logit_of_score(np.array(2.0)))
    assert score_of_one_logit(logit + 2) * gain[120, 180] == pytest.approx(4.0, rel=1e-5)


def test_the_bound_counts_what_sensitive_zones_call():
    rng = np.random.default_rng(12)
    peaks = [[_board_peaks(rng, "exponential")] for _ in range(20)]
    plain = derived_from_peaks(peaks, 0.2, (9,))
    zoned = derived_from_peaks(peaks, 0.2, (9,), zoned=[[board[0] + 3] for board in peaks])
    assert zoned.thresholds == plain.thresholds
    logit = float(logit_of_score(np.array(plain.thresholds.region_peak * plain.thresholds.pixel)))
    called = np.mean([(board[0] + 3 >= logit).sum() for board in peaks])
    assert called > 1
    assert zoned.upper_bound >= called > plain.upper_bound


@pytest.mark.parametrize("bad", [0.0, -1.0, 1.5, float("nan")])
def test_a_rate_that_is_none_is_refused(bad):
    with pytest.raises(InputError):
        derived([np.array([1.0, 0.5])], bad)


def test_no_boards_is_an_error():
    with pytest.raises(InputError):
        derived([], 0.1)


def _board_peaks(rng: np.random.Generator, law: str, count: int = 12) -> np.ndarray:
    """Highest block maxima of one simulated board of 3000 blocks, as logits."""
    if law == "normal":
        logits = rng.normal(-6.0, 2.0, 3000)
    elif law == "exponential":
        logits = rng.exponential(0.8, 3000) - 6.0
    else:  # boards differ as a whole, as light and lots do
        logits = rng.normal(-6.0 + rng.normal(0, 0.7), 1.8, 3000)
    return np.sort(logits)[::-1][:count]


@pytest.mark.parametrize("law", ["normal", "exponential", "mixed"])
@pytest.mark.parametrize(("held_out", "rate"), [(8, 0.05), (8, 0.1), (20, 0.05), (20, 0.5), (40, 0.02)])
def test_the_false_call_rate_holds_on_unseen_boards(law, held_out, rate, monkeypatch):
    monkeypatch.setattr(thresholds_module, "RESAMPLES", 2)  # they give the bound, which is not looked at here
    rng = np.random.default_rng(17)
    called = []
    for _ in range(60):
        seen = [_board_peaks(rng, law) for _ in range(held_out)]
        thresholds = derived(seen, rate).thresholds
        region = float(logit_of_score(np.array(thresholds.region_peak * thresholds.pixel)))
        called.append(np.mean([(_board_peaks(rng, law) >= region).sum() for _ in range(20)]))
    assert rate / 6 <= np.mean(called) <= 2.5 * rate


def test_no_seen_board_fails_where_the_rate_wants_fewer_than_one():
    rng = np.random.default_rng(5)
    for _ in range(50):
        seen = [_board_peaks(rng, "mixed") for _ in range(8)]
        thresholds = derived(seen, 0.12).thresholds
        assert score_of_one_logit(max(p.max() for p in seen)) <= thresholds.region_peak * thresholds.pixel * (1 + 1e-9)


@pytest.mark.parametrize("large_each", [0.1, 0.28, 0.6])
def test_regions_that_are_too_small_do_not_lower_the_threshold(large_each):
    """Many small regions, counted as 0, and a few large ones: of these alone the wanted share may remain."""
    rng, boards, rate = np.random.default_rng(11), 4000, 0.05

    def board():
        large = 1 + rng.exponential(0.5, rng.poisson(large_each))
        small = np.zeros(rng.poisson(0.8))
        return np.sort(np.concatenate([large, small, rng.normal(-2, 0.5, 12)]))[::-1]

    unseen = np.concatenate([board() for _ in range(boards)])
    rates = []
    for _ in range(20):
        one = derived([board() for _ in range(40)], rate)
        level = logit_of_score(np.array(one.thresholds.region_peak * one.thresholds.pixel))
        rates.append((unseen > max(level, 0)).sum() / boards)
    assert np.median(rates) < 1.3 * rate
