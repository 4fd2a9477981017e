"""Thresholds from good boards only, for a stated number of false calls per board.

Peaks over threshold (Coles 2001, An Introduction to Statistical Modeling of Extreme Values, ch. 4)
with an exponential tail on the gate's logits: the highest local peaks of the held-out good boards,
about one a board, say how fast peaks thin out, and the tail is followed to the wanted rate. Before
that, the noise of each place, as all good boards show it, is taken off its peaks.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.stats import chi2

from hisir_edge.arrays import F32, F64, U8, Bool
from hisir_edge.bundle.thresholds import Thresholds
from hisir_edge.errors import InputError
from hisir_edge.inspection.gain import NOISE_STEPS_PER_LOGIT
from hisir_edge.inspection.score import score_of_one_logit
from hisir_edge.learn.evaluation.tails import alone_on, tail_of, without_highest

PEAKS_PER_BOARD = 12
PEAK_BLOCK_PX = 64
"""Peaks of one such block are one peak."""
SURE_SCORE = float(np.log(2.0))
"""softplus(0): the score at which the gate trusts input and reconstruction alike."""
AREAS_NETWORK_PX = (9, 18, 36)
"""Minimum areas tried, in the network's (scaled) pixels: 3 x 3 up to 6 x 6."""
WORTH_A_DOUBLING_LOGITS = 0.5
QUIET_SHARE, QUIETER_SHARE = 0.6, 0.8
MOST_NOISE_LOGITS, MOST_SPREAD_LOGITS = 255 / NOISE_STEPS_PER_LOGIT, 6.0
LEAST_NOISE_BOARDS = 4
LOWEST_NOISE_LOGIT = -4.0
NOISE_DEVIATIONS = 2.0
"""How many standard deviations of its peaks belong to a place's noise, beside their mean."""
BOARDS_A_PEAK = 24
"""Of so many boards the highest peak is a place's noise; of twice as many the second highest."""
CONFIDENCE = 0.95
RESAMPLES = 400
FEW_BOARDS = 4


@dataclass(frozen=True, slots=True)
class Derived:
    """Thresholds and what is known of them.

    ``upper_bound``: false calls per board that these thresholds stay under with 95 % confidence, by
    resampling the held-out boards along the fitted tail. ``boards_to_prove``: good boards without one
    false call that would prove the wanted rate with 95 % confidence and no assumption (rule of three,
    Hanley and Lippman-Hand 1983). ``tail_scale_logits``: every so much fewer peaks of good boards remain, by e.
    ``alone``: by board, held-out ones first, how many of its highest peaks were not counted (``tails.alone_on``).
    """

    thresholds: Thresholds
    upper_bound: float
    boards_to_prove: int
    tail_scale_logits: float = 1.0
    alone: tuple[int, ...] = ()


def block_peaks(logits: F32, cell_px: int = PEAK_BLOCK_PX) -> F64:
    """Highest logit of each square of ``cell_px``, (rows, columns)."""
    h, w = logits.shape
    padded = np.pad(logits, ((0, -h % cell_px), (0, -w % cell_px)), constant_values=-np.inf)
    rows, columns = padded.shape[0] // cell_px, padded.shape[1] // cell_px
    # along the columns first: whole rows at a time
    cells = padded.reshape(rows, cell_px, -1).max(1).reshape(rows, columns, cell_px).max(2)
    return np.asarray(cells, np.float64)


def spread_from_peaks(peaks: list[F64], seen: Bool | None = None) -> U8:
    """As ``noise_from_peaks``, by what one board moves little: by mean and deviations alone, and smooth.

    With it boards are compared to find what one alone shows: by the highest peaks a bad board would quieten the others.
    """
    if len(peaks) < LEAST_NOISE_BOARDS:
        return np.zeros(peaks[0].shape, np.uint8)
    typical = _typical(np.maximum(np.stack(peaks), LOWEST_NOISE_LOGIT))
    quiet = float(np.quantile(typical if seen is None else typical[seen], QUIETER_SHARE))
    excess = np.clip(typical - quiet, 0, MOST_SPREAD_LOGITS).astype(np.float32)
    return np.round(cv2.blur(_to_neighbours(excess), (3, 3)) * NOISE_STEPS_PER_LOGIT).astype(np.uint8)


def _typical(audible: F64) -> F64:
    """By place what boards mostly stay below; ``audible`` (boards, rows, columns)."""
    return np.asarray(audible.mean(0) + NOISE_DEVIATIONS * audible.std(0), np.float64)


def _to_neighbours(excess: F32) -> F32:
    """A peak may lie at a cell's border, and a little beside it on the next board."""
    return np.asarray(cv2.dilate(excess, np.ones((3, 3), np.uint8)), np.float32)


def noise_from_peaks(peaks: list[F64], seen: Bool | None = None, of_boards: int | None = None) -> U8:
    """Noise map (rows, columns) in steps of 1/32 logit from the peaks of many good boards in its cells.

    Where boards peak higher than in three fifths of all places, and over the gate's own boundary, by how much: by
    their mean and ``NOISE_DEVIATIONS``, or by the highest peak of ``BOARDS_A_PEAK`` boards where that is more. Zero
    everywhere with fewer than ``LEAST_NOISE_BOARDS`` boards: what they share would be chance. ``seen`` (rows, columns):
    the places that show the board; the others do not count. ``of_boards``: how many boards the bundle's own map comes
    from, where these are the others of one of them; None: so many.
    """
    if len(peaks) < LEAST_NOISE_BOARDS:
        return np.zeros(peaks[0].shape, np.uint8)
    # far below logit 0 a peak says nothing of the place
    audible = np.maximum(np.stack(peaks), LOWEST_NOISE_LOGIT)
    rank = len(peaks) - max((of_boards or len(peaks)) // BOARDS_A_PEAK, 1)
    typical = np.maximum(_typical(audible), np.partition(audible, rank, axis=0)[rank])
    # below the boundary all is quiet: counted from less, noise would take the margin from all other thresholds
    quiet = max(float(np.quantile(typical if seen is None else typical[seen], QUIET_SHARE)), 0.0)
    excess = np.clip(typical - quiet, 0, MOST_NOISE_LOGITS).astype(np.float32)
    return np.round(_to_neighbours(excess) * NOISE_STEPS_PER_LOGIT).astype(np.uint8)


def peaks_by_area(logits: F32, areas_px: tuple[int, ...], seen: Bool | None = None) -> list[F64]:
    """Per minimum area a board's peaks, highest first.

    Each region (over logit 0) of that area or more gives one, however many blocks it covers: at thresholds from logit 0
    on it would be one false call. Of the blocks without such a region the ``PEAKS_PER_BOARD`` highest follow, smaller
    regions counting as 0. ``seen`` (rows, columns): the blocks that show the board; the others have no peak.
    """
    over = (logits > 0).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(over, connectivity=8)
    tops = np.full(len(stats), -np.inf)
    inside = np.flatnonzero(over)
    np.maximum.at(tops, np.asarray(labels, np.int32).ravel()[inside], logits.ravel()[inside])
    out = []
    for area in areas_px:
        large = stats[:, cv2.CC_STAT_AREA] >= area
        large[0] = False
        of_region = block_peaks(np.asarray(large[labels], np.float32)) > 0
        quiet = block_peaks(np.minimum(logits, np.float32(0)))[~of_region if seen is None else ~of_region & seen]
        out.append(np.sort(np.concatenate([tops[large], np.sort(quiet)[-PEAKS_PER_BOARD:]]))[::-1])
    return out


def check_rate(false_calls_per_board: float) -> None:
    """InputError unless the wanted rate is one that can be derived."""
    if not 0 < false_calls_per_board <= 1:
        raise InputError(
            expected="a false-call rate above 0 and up to 1 a board",
            received=str(false_calls_per_board),
            fix="change --false-calls-per-board",
        )


def derived_from_peaks(
    peaks: list[list[F64]],
    false_calls_per_board: float,
    areas_px: tuple[int, ...],
    seed: int = 0,
    zoned: list[list[F64]] | None = None,
    others: list[list[F64]] | None = None,
    keep_alone: bool = False,
) -> Derived:
    """Thresholds at which a good board shows ``false_calls_per_board`` regions in the mean.

    ``peaks``: per held-out board the peaks of each minimum area (``peaks_by_area``). A larger area is
    taken where it lowers the threshold enough to be worth the small defects it hides. The mask's threshold
    is the gate's own boundary, or the region threshold where that is lower. ``zoned``: the same peaks with
    zones that are more sensitive than the board; the bound is theirs, while the thresholds stay the board's.
    ``others``: peaks of boards that the network has learnt, which say how seldom high peaks are once they are raised to
    the level of the held-out boards' (``_as_if_held_out``). ``keep_alone``: what one board alone shows counts, too.
    """
    check_rate(false_calls_per_board)
    if not peaks:
        raise InputError(
            expected="at least one held-out good board", received="none", fix="train with more good boards"
        )
    alone = _alone_by_area(peaks, others or [], keep_alone)
    held_out, learnt = [counts[: len(peaks)] for counts in alone], [counts[len(peaks) :] for counts in alone]
    peaks, zoned = _less(peaks, held_out), None if zoned is None else _less(zoned, held_out)
    more = _as_if_held_out(peaks, _less(others or [], learnt))
    logits = [
        _logit_at_rate([board[i] for board in (*peaks, *more)], false_calls_per_board) for i in range(len(areas_px))
    ]
    chosen = 0
    while chosen + 1 < len(areas_px) and logits[chosen] - logits[chosen + 1] > WORTH_A_DOUBLING_LOGITS:
        chosen += 1
    region = score_of_one_logit(logits[chosen])
    pixel = min(region, SURE_SCORE)
    called = [board[chosen] for board in zoned or peaks]
    known = called if zoned else [*called, *(board[chosen] for board in more)]
    bound = max(_upper_bound(known, logits[chosen], seed), _bound_of_few(called, logits[chosen]))
    needed = int(np.ceil(-np.log(1 - CONFIDENCE) / false_calls_per_board))
    return Derived(
        Thresholds(pixel, max(region / pixel, 1.0), areas_px[chosen]),
        bound,
        needed,
        tail_of([board[chosen] for board in (*peaks, *more)])[1],
        alone[chosen],
    )


def _alone_by_area(peaks: list[list[F64]], others: list[list[F64]], keep: bool) -> list[tuple[int, ...]]:
    """By minimum area and board, held-out ones first, how many of its highest peaks are those of one board alone."""
    raised = _as_if_held_out(peaks, others)
    found = []
    for i in range(len(peaks[0])):
        counts = alone_on([board[i] for board in (*peaks, *raised)])
        found.append((0,) * (len(peaks) + len(others)) if keep else (*counts, *(0,) * (len(others) - len(raised))))
    return found


def _less(boards: list[list[F64]], alone: list[tuple[int, ...]]) -> list[list[F64]]:
    by_area = [without_highest([board[i] for board in boards], counts) for i, counts in enumerate(alone)]
    return [list(board) for board in zip(*by_area, strict=True)]


def _as_if_held_out(peaks: list[list[F64]], others: list[list[F64]]) -> list[list[F64]]:
    """Peaks of learnt boards, raised by what their highest ones lie below the held-out boards' in the mean.

    None where there are too few of either to know that. Peaks of 0, regions too small to count, stay 0.
    """
    if min(len(peaks), len(others)) < FEW_BOARDS:
        return []
    shifts = [
        max(float(np.mean([b[i][0] for b in peaks]) - np.mean([b[i][0] for b in others])), 0.0)
        for i in range(len(peaks[0]))
    ]
    return [
        [np.where(found == 0, found, found + by) for found, by in zip(board, shifts, strict=True)] for board in others
    ]


def _logit_at_rate(peaks: list[F64], rate: float) -> float:
    """Where ``rate`` peaks a board remain: the tail above the highest peaks, followed.

    Never below the highest peak seen where fewer than one is wanted on all these boards together; nor below 0 where
    regions were too small to count: below 0 they would grow.
    """
    floor, scale, over = tail_of(peaks)
    # peaks over the floor thin by e every `scale` logits
    at_rate = floor + scale * float(np.log(over / len(peaks) / rate))
    if any((board == 0).any() for board in peaks):
        at_rate = max(at_rate, 0.0)
    highest = max(float(board[0]) for board in peaks)
    return max(at_rate, highest) if rate * len(peaks) < 1 else at_rate


def _bound_of_few(peaks: list[F64], logit: float) -> float:
    """The rate that so few boards can exclude with 95 % confidence by what was counted on them, with no tail assumed.

    0 from ``FEW_BOARDS`` on: below, resampling knows next to nothing of how boards differ. The upper limit of a Poisson
    mean (Garwood 1936, Biometrika 28); 3 divided by the number of boards where none was called.
    """
    if len(peaks) >= FEW_BOARDS:
        return 0.0
    count = sum(int((board >= logit).sum()) for board in peaks)
    return float(chi2.ppf(CONFIDENCE, 2 * (count + 1)) / 2 / len(peaks))


def _upper_bound(peaks: list[F64], logit: float, seed: int) -> float:
    """The rate at ``logit`` that 95 % of resampled sets of boards stay under."""
    rng = np.random.default_rng([seed, 1983])
    rates = []
    for _ in range(RESAMPLES):
        sample = [peaks[i] for i in rng.integers(0, len(peaks), len(peaks))]
        floor, scale, over = tail_of(sample)
        # the scale of an exponential tail is itself known to about 1 / sqrt(peaks over the floor)
        scale = scale * over / rng.gamma(over, 1.0)
        beyond = over / len(peaks) * np.exp(min((floor - logit) / scale, 0.0))
        rates.append(max(beyond, np.mean([(board >= logit).sum() for board in sample])))
    return float(np.quantile(rates, CONFIDENCE))
