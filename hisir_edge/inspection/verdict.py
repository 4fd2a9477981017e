"""Where a verdict is decided, and where anything unexpected becomes an ERROR.

``judgement_from_regions`` decides one frame, ``judgement_from_views`` a board that several cameras see; both ask
``result_of``. ``fail_closed`` is the boundary: an exception, a score that is not finite, a frame that did not come or
a missed deadline leaves it as an ERROR with a reason, never as a PASS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np
import structlog

from hisir_edge.arrays import Bool
from hisir_edge.errors import HisirEdgeError, InspectionError, NotJudgedError
from hisir_edge.inspection.regions import Found
from hisir_edge.records import MAX_REGIONS, BoardPose, Frame, GrabFault, Judgement, Result, StageTimes, View

log = structlog.get_logger()

Made = TypeVar("Made")
Fault = TypeVar("Fault")


def result_of(regions_totals: Iterable[int | None]) -> Result:
    """The result of a board from the number of regions on each of its frames; None stands for a frame not judged."""
    totals = tuple(regions_totals)
    if not totals or any(total is None for total in totals):
        return Result.ERROR
    return Result.FAIL if any(totals) else Result.PASS


def judgement_from_regions(
    found: Found,
    score: float,
    times: StageTimes,
    registration_residual_px: float | None,
    board_pose: BoardPose | None = None,
    variants: tuple[int, ...] = (),
) -> Judgement:
    """The judgement of one frame. ``score``: its highest calibrated score; InspectionError unless that is finite."""
    if not np.isfinite(score):
        raise InspectionError(
            expected="finite calibrated scores", received=f"{score}", fix="verify or rebuild the bundle"
        )
    return Judgement(
        result=result_of([found.total]),
        reason=f"{found.total} region(s)" if found.total else "",
        score=score,
        regions=found.regions,
        regions_total=found.total,
        mask=found.mask,
        times=times,
        registration_residual_px=registration_residual_px,
        board_pose=board_pose,
        variants=variants,
    )


def not_judged_by_optics(judged: Judgement) -> Judgement:
    """The ERROR that a judgement becomes where its frame was not taken as those of good boards are."""
    first = judged.warnings[0]
    reason = InspectionError(
        expected="a frame taken as those of the good boards",
        received="; ".join(fault.words for fault in judged.warnings),
        fix=first.fix,
    )
    return replace(judged, result=Result.ERROR, reason=str(reason), score=None, regions=(), regions_total=0, mask=None)


def judgement_from_views(views: Sequence[View]) -> Judgement:
    """One judgement of several cameras' frames: ERROR if one is, else FAIL if one is; regions name their camera.

    Masks lie one below the other, each at the left, in the order of the views; the narrower are filled with zeros.
    """
    parts = [view.judgement for view in views]
    result = result_of(None if part.result is Result.ERROR else part.regions_total for part in parts)
    reason = "; ".join(f"{v.source}: {v.judgement.reason}" for v in views if v.judgement.result is result)
    residuals = [r for part in parts if (r := part.registration_residual_px) is not None]
    together = Judgement(
        result=result,
        reason="" if result is Result.PASS else reason,
        score=None,
        regions=(),
        regions_total=0,
        mask=None,
        times=StageTimes(**{name: sum(getattr(part.times, name) for part in parts) for name in StageTimes.__slots__}),
        registration_residual_px=max(residuals, default=None),
        views=tuple(views),
        warnings=tuple(fault for part in parts for fault in part.warnings),
    )
    if result is Result.ERROR:
        return together
    regions = [replace(region, view=v.source) for v in views for region in v.judgement.regions]
    regions.sort(key=lambda region: -region.peak)
    return replace(
        together,
        score=max(part.score for part in parts if part.score is not None),
        regions=tuple(regions[:MAX_REGIONS]),
        regions_total=sum(part.regions_total for part in parts),
        mask=_stacked(views),
    )


def frame_of(item: Frame | GrabFault) -> Frame:
    """The frame that a camera gave; NotJudgedError with the reason if it gave a fault."""
    if isinstance(item, GrabFault):
        raise NotJudgedError(item.reason)
    return item


def fail_closed(
    make: Callable[[], Made], as_error: Callable[[str], Fault], what: str = "inspection failed", **facts: object
) -> Made | Fault:
    """Return ``make()``; if it raises, return ``as_error(reason)``.

    An error of this package is its own reason. Any other exception is logged with its traceback, and its reason begins
    with ``what``. ``facts`` go to the log: which board it was.
    """
    try:
        return make()
    except (HisirEdgeError, NotJudgedError) as error:
        return as_error(str(error))
    except cv2.error as error:
        log.warning(what, reason=str(error), **facts)
        return as_error(f"image processing failed: {error}")
    except Exception as error:
        log.exception(what, **facts)
        return as_error(f"{what}: {type(error).__name__}: {error}")


def error_judgement(reason: str) -> Judgement:
    """An ERROR with its reason and nothing else."""
    return Judgement(result=Result.ERROR, reason=reason, score=None, regions=(), regions_total=0, mask=None)


def _stacked(views: Sequence[View]) -> Bool:
    width = max(view.frame_hw[1] for view in views)
    out = np.zeros((sum(view.frame_hw[0] for view in views), width), np.bool_)
    top = 0
    for view in views:
        h, w = view.frame_hw
        if view.judgement.mask is not None:
            out[top : top + h, :w] = view.judgement.mask
        top += h
    return out
