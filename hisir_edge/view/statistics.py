"""Figures over time from the history: false calls, yield, where boards are called, drift with SPC run rules.

A board was *called* where its verdict is FAIL. It was *reviewed* where each of its defects, or the board, has a
decision. A false call is a reviewed, called board none of whose defects was confirmed. Denominators stand beside.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import numpy as np

from hisir_edge.view.history import History

CONFIRMED, FALSE_CALL, REPAIRED, NOT_YET = "DefectConfirmed", "DefectRejected", "DefectAccepted", "NotVerifiedYet"
MOST_POINTS = 400
BASELINE = 400
"""Boards that limits of a drift are taken from, the first of the time looked at; fewer say nothing."""
SIGMA_OF_MAD = 1.4826
MOVING = 8
HEAT_CELLS = 64
DRIFTS = ("score", "blur_px", "brightness", "total_s")


IN_ORDER = "ifnull(d.line_id, 4611686018427387904), d.id"
"""As the line numbers decisions, which tells what came last whatever clocks say; those that wait come after them.

A decision that a line refused is what somebody said all the same, and counts.
"""


@dataclass(frozen=True, slots=True)
class Range:
    """Of one line (empty: all) and product (empty: all), from ``since`` to ``until``, seconds since 1970."""

    line: str = ""
    product: str = ""
    since: float = 0.0
    until: float = 1e11

    @property
    def where(self) -> tuple[str, tuple[Any, ...]]:
        """As SQL and its values."""
        text = "v.at >= ? AND v.at < ? AND (? = '' OR v.line = ?) AND (? = '' OR v.product = ?)"
        return text, (self.since, self.until, self.line, self.line, self.product, self.product)


def judged_by_people(history: History, asked: Range) -> dict[tuple[str, str, int], dict[int, str]]:
    """Of each board that was decided on, the last decision of each defect (0: the board)."""
    where, values = asked.where
    rows = history.query(
        "SELECT d.line, d.epoch, d.seq, d.defect, d.verification FROM decision d JOIN verdict v ON v.line = d.line "
        f"AND v.epoch = d.epoch AND v.seq = d.seq WHERE {where} ORDER BY {IN_ORDER}",
        values,
    )
    found: dict[tuple[str, str, int], dict[int, str]] = defaultdict(dict)
    for row in rows:
        found[row["line"], row["epoch"], row["seq"]][row["defect"]] = row["verification"]
    return found


def last_words(decisions: list[dict[str, Any]]) -> dict[int, str]:
    """The last decision on each defect of a board (0: the board), of ``History.decisions``."""
    return {one["defect"]: one["verification"] for one in decisions}


def outcome_of(result: str, defects: int, said: dict[int, str]) -> str:
    """What people made of a board: confirmed, false call, waiting (called, not reviewed), escape, or as judged."""
    decided = {number: word for number, word in said.items() if word != NOT_YET}
    if result == "FAIL":
        if any(word in (CONFIRMED, REPAIRED) for word in decided.values()):
            return "confirmed"
        whole = decided.get(0) == FALSE_CALL or all(decided.get(n) == FALSE_CALL for n in range(1, defects + 1))
        return "false call" if whole else "waiting"
    if result == "PASS" and CONFIRMED in decided.values():
        return "escape"
    return "passed" if result == "PASS" else "error"


def summary(history: History, asked: Range, step_s: float) -> dict[str, Any]:
    """Counts in all and by time step, false calls per board, first-pass yield, with their denominators."""
    where, values = asked.where
    rows = history.query(
        f"SELECT line, epoch, seq, at, result, defects FROM verdict v WHERE {where} ORDER BY at", values
    )
    said = judged_by_people(history, asked)
    steps: dict[int, Counter[str]] = defaultdict(Counter)
    for row in rows:
        outcome = outcome_of(row["result"], row["defects"], said.get((row["line"], row["epoch"], row["seq"]), {}))
        steps[int(row["at"] // step_s)][outcome] += 1
    whole = Counter[str]()
    series = [{"at": number * step_s, **_rates(steps[number])} for number in sorted(steps)[-MOST_POINTS:]]
    for counts in steps.values():
        whole.update(counts)
    return {"step_s": step_s, "all": _rates(whole), "series": series}


def _rates(counts: Counter[str]) -> dict[str, Any]:
    boards = sum(counts.values())
    judged = boards - counts["error"]
    reviewed = judged - counts["waiting"]
    first_pass = counts["passed"] + counts["escape"]
    looked_at = counts["confirmed"] + counts["false call"] > 0 or not counts["waiting"]
    return {
        "boards": boards, "judged": judged, "reviewed": reviewed, **{k.replace(" ", "_"): counts[k] for k in (
            "passed", "waiting", "confirmed", "false call", "escape", "error")},
        "first_pass_yield": first_pass / judged if judged else None,
        "false_calls_per_board": counts["false call"] / reviewed if reviewed and looked_at else None,
    }  # fmt: skip


def pareto(history: History, asked: Range, most: int = 20) -> list[dict[str, Any]]:
    """Where boards are called most: by part, or by place (cells of the frame) where no part is known."""
    where, values = asked.where
    rows = history.query(
        "SELECT f.line, f.epoch, f.seq, f.number, f.camera, f.component, f.x, f.y, f.w, f.h FROM defect f "
        f"JOIN verdict v ON v.line = f.line AND v.epoch = f.epoch AND v.seq = f.seq WHERE {where}",
        values,
    )
    said = judged_by_people(history, asked)
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        x, y = (row["x"] + row["w"] / 2) // HEAT_CELLS, (row["y"] + row["h"] / 2) // HEAT_CELLS
        place = row["component"] or f"{row['camera']} {int(x * HEAT_CELLS)}, {int(y * HEAT_CELLS)}"
        decided = said.get((row["line"], row["epoch"], row["seq"]), {})
        word = decided.get(row["number"], decided.get(0, NOT_YET))
        found[place]["called"] += 1
        found[place]["false_calls"] += word == FALSE_CALL
        found[place]["confirmed"] += word in (CONFIRMED, REPAIRED)
    ordered = sorted(found.items(), key=lambda one: (-one[1]["called"], one[0]))[:most]
    return [
        {"place": place, **{k: counts[k] for k in ("called", "false_calls", "confirmed")}} for place, counts in ordered
    ]


def heat(history: History, asked: Range) -> list[dict[str, Any]]:
    """How often each cell of the frame, of each camera, was called: ``cells`` of x, y (cells) and count.

    ``width`` and ``height``: the frame's; ``board``: line, epoch and number of the last board that was called there.
    """
    where, values = asked.where
    rows = history.query(
        f"SELECT f.camera AS camera, CAST((f.x + f.w / 2) / {HEAT_CELLS} AS INTEGER) AS cx, "
        f"CAST((f.y + f.h / 2) / {HEAT_CELLS} AS INTEGER) AS cy, count(*) AS n, max(v.at) AS at FROM defect f "
        "JOIN verdict v "
        f"ON v.line = f.line AND v.epoch = f.epoch AND v.seq = f.seq WHERE {where} GROUP BY 1, 2, 3",
        values,
    )
    cameras: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for row in rows:
        cameras[row["camera"]].append((row["cx"], row["cy"], row["n"]))
    return [
        {"camera": camera, "cell_px": HEAT_CELLS, "cells": cells, **_frame_of(history, asked, camera)}
        for camera, cells in sorted(cameras.items())
    ]


def _frame_of(history: History, asked: Range, camera: str) -> dict[str, Any]:
    """Size of a camera's frame, and ``board``: the last one that it saw a defect on, and its number among cameras."""
    where, values = asked.where
    (newest,) = history.query(
        "SELECT v.line, v.epoch, v.seq, v.body FROM defect f JOIN verdict v ON v.line = f.line AND v.epoch = f.epoch "
        f"AND v.seq = f.seq WHERE {where} AND f.camera = ? ORDER BY v.at DESC LIMIT 1",
        (*values, camera),
    )
    names = [one["InspectionName"] for one in json.loads(newest["body"])["InspectedUnits"][0]["Inspections"]]
    number = names.index(camera)
    frame = json.loads(newest["body"])["InspectedUnits"][0]["Inspections"][number]["vision"]["frame"]
    path = f"{quote(newest['line'], safe='')}/{newest['epoch']}/{newest['seq']}/{number}"
    return {"width": frame["width"], "height": frame["height"], "board": path}


def drift(history: History, asked: Range) -> list[dict[str, Any]]:
    """Of score, light, focus and time a board: means of ``MOVING`` boards, limits of the first ones, and run rules."""
    where, values = asked.where
    if not asked.product:  # a chart is of one product: that of the newest board
        newest = history.query(f"SELECT product FROM verdict v WHERE {where} ORDER BY at DESC LIMIT 1", values)
        return drift(history, replace(asked, product=newest[0]["product"])) if newest else []
    rows = history.query(
        f"SELECT at, {', '.join(DRIFTS)} FROM verdict v WHERE {where} AND v.result != 'ERROR' ORDER BY at", values
    )
    out = []
    for name in DRIFTS:
        points = [(row["at"], row[name]) for row in rows if row[name] is not None]
        if len(points) < MOVING:
            continue
        at, value = (np.array(column, np.float64) for column in zip(*points, strict=True))
        if name == "score":  # a called board's says nothing of the others
            value = np.minimum(value, np.quantile(value, 0.98))
        out.append({"name": name, "product": asked.product, **control_chart(at, value)})
    return out


def control_chart(at: Any, value: Any) -> dict[str, Any]:
    """A chart of means of ``MOVING`` values each: points, centre, sigma of such a mean, and which rules were broken.

    Centre and sigma are the median and the scaled median deviation of the means of the first ``BASELINE`` values:
    robust, so that a few odd boards widen no limit, and of means, so that skewed values are no alarm. ``now``: the rule
    that the newest mean breaks, empty for none; ``tested``: whether there are enough boards to say so.
    """
    whole = len(value) // MOVING * MOVING
    means = value[:whole].reshape(-1, MOVING).mean(1)
    ends = at[:whole].reshape(-1, MOVING)[:, -1]
    first = means[: BASELINE // MOVING]
    centre = float(np.median(first))
    sigma = float(np.median(np.abs(first - centre)) * SIGMA_OF_MAD)
    after = means[len(first) :]
    tested = len(first) == BASELINE // MOVING and len(after) > 0
    least = np.spacing(max(abs(centre), 1e-6)) * 16  # of values that never differed: any other is beyond
    rules = run_rules((after - centre) / max(sigma, least)) if tested else []
    broken = [{"at": float(ends[len(first) + index]), "rule": rule} for index, rule in rules]
    shown = slice(max(len(means) - MOST_POINTS, 0), None)
    return {
        "points": [[float(t), float(v)] for t, v in zip(ends[shown], means[shown], strict=True)],
        "centre": centre, "sigma": sigma, "broken": broken[-MOST_POINTS:], "tested": tested,
        "now": rules[-1][1] if rules and rules[-1][0] == len(after) - 1 else "",
        "needed": max(BASELINE + MOVING - len(value), 0),
    }  # fmt: skip


def run_rules(z: Sequence[float] | Any) -> list[tuple[int, str]]:
    """(index, rule) of each point at which one of the Western Electric rules is broken; ``z``: in sigmas.

    One point beyond 3; two of three beyond 2 on one side; four of five beyond 1 on one side; eight on one side. Western
    Electric, Statistical Quality Control Handbook, 1956.
    """
    z = np.asarray(z, np.float64)
    found: dict[int, str] = {}
    for words, count, of, beyond in (
        ("8 means on one side", 8, 8, 0.0), ("4 of 5 means beyond 1 sigma", 4, 5, 1.0),
        ("2 of 3 means beyond 2 sigma", 2, 3, 2.0), ("a mean beyond 3 sigma", 1, 1, 3.0),
    ):  # fmt: skip
        for side in (z > beyond, z < -beyond):
            for index in range(len(z)):
                window = side[max(index - of + 1, 0) : index + 1]
                if window.sum() >= count and side[index]:
                    found[index] = words  # the strictest rule last
    return sorted(found.items())
