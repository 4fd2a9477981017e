"""Zones and thresholds tried on the last archived boards: what would have been called, and what people said of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from hisir_edge.archive.board_file import evidence_from_npz
from hisir_edge.archive.judge_again import JudgeAgain, ZoneTrial
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.thresholds import Thresholds, Zone
from hisir_edge.errors import InputError
from hisir_edge.geometry.box import BoxXYWH, meet
from hisir_edge.inspection.gain import Gain
from hisir_edge.inspection.regions import Found
from hisir_edge.mes.stored import stored_file
from hisir_edge.records import Evidence
from hisir_edge.transport.control_client import Asker
from hisir_edge.view.boards import Boards, Cache
from hisir_edge.view.history import History
from hisir_edge.view.statistics import CONFIRMED, NOT_YET, REPAIRED, Range, judged_by_people, outcome_of
from hisir_edge.view.teach.reading import bundle_of, same_network
from hisir_edge.view.teach.strengths import points_of, scale_of, seen_board

KINDS = (
    "boards", "calls", "calls_after", "false_calls_gone", "confirmed_lost", "new_calls", "waiting_gone",
    "without_evidence",
)  # fmt: skip
MOST_BOARDS, MOST_EVIDENCE_BYTES = 200, 300_000_000
FETCHERS = 2


@dataclass(frozen=True, slots=True)
class _Present:
    """The last boards of one product, seen by one camera, and the bundle that inspects them now.

    Each row has ``sha256``, the bundle that inspected it, and ``evidence``, None where the line does not have it.
    """

    rows: list[dict[str, Any]]
    bundle: Bundle
    camera: str


@dataclass(frozen=True, slots=True)
class _Counted:
    """How many regions one camera's frame has now, and would have; ``lost``: confirmed defects that would not be."""

    before: int
    after: int
    lost: int


class Trials:
    """Trials on the boards of one line; evidence that was fetched is kept."""

    def __init__(
        self, connect: Callable[[], Asker], boards: Boards, history: History, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._connect, self._boards, self._history, self._stop = connect, boards, history, stop
        self._evidence: Cache[Evidence] = Cache(MOST_EVIDENCE_BYTES)
        self._lock = Lock()

    def of_change(
        self, line: str, zones: tuple[Zone, ...] | None = None, strength: float = 1.0, most: int = MOST_BOARDS
    ) -> dict[str, Any]:
        """What other zones and another strength would have made of the last boards of the newest one's product.

        ``zones``: all of the bundle's from then on, None: as they are; ``strength``: in units of the present one.

        ``boards`` tried; ``calls`` and ``calls_after`` among them; ``false_calls_gone``, ``new_calls``,
        ``waiting_gone``, not reviewed: boards; ``confirmed_lost``: defects where nothing would be called any more;
        ``seconds``. Boards that another revision inspected count as the present one would have judged them. Of several
        cameras the zones are of the first, ``camera``; what the others call stays.
        """
        start = time.perf_counter()
        present = self._last_boards(line, most)
        counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        if present is None:
            return {**counts, "camera": "", "seconds": 0.0}
        said = self._said(line, present.rows)
        with self._lock:  # judges have buffers of their own
            count = self._counter(present, zones, strength)
            for row in present.rows:
                words = said.get((line, row["epoch"], row["seq"]), {})
                defects, others = self._defects(line, row, present.camera, words)
                row["called"] = row["defects"] - others
                confirmed = [box for box, word in defects if word in (CONFIRMED, REPAIRED)]
                counted = count(row, confirmed)
                if counted is None:
                    counts["without_evidence"] += 1
                    continue
                before, left = counted.before + others, counted.after + others
                outcome = outcome_of(row["result"], row["defects"], words)
                counts["boards"] += 1
                counts["calls"] += before > 0
                counts["calls_after"] += left > 0
                counts["new_calls"] += before == 0 and left > 0
                counts["confirmed_lost"] += counted.lost
                if before > 0 and left <= 0 and outcome != "confirmed":
                    counts["false_calls_gone" if outcome == "false call" else "waiting_gone"] += 1
        return {**counts, "camera": present.camera, "seconds": round(time.perf_counter() - start, 3)}

    def of_strengths(self, line: str, most: int = MOST_BOARDS) -> dict[str, Any]:
        """What other strengths than the present one, 1, would have called of the last boards: ``teach.strengths``."""
        start = time.perf_counter()
        present = self._last_boards(line, most)
        if present is None:
            return {"points": [], "boards": 0, "without_evidence": 0, "camera": "", "seconds": 0.0}
        said = self._said(line, present.rows)
        limits, scale = present.bundle.thresholds, scale_of(present.bundle.manifest)
        judges = [
            self._judges(present, replace(limits, region_peak=limits.region_peak * strength)) for strength in scale
        ]
        seen, without = [], 0
        with self._lock:
            for row in present.rows:
                evidence, sha256 = row["evidence"], row["sha256"]
                if evidence is None or judges[scale.index(1.0)](sha256) is None:
                    without += 1
                    continue

                def calls(place: int, box: BoxXYWH | None, evidence: Evidence = evidence, sha256: str = sha256) -> bool:
                    judge, gain = _there(judges[place](sha256))
                    return judge.calls(evidence, gain, box)

                words = said.get((line, row["epoch"], row["seq"]), {})
                defects, others = self._defects(line, row, present.camera, words)
                outcome = outcome_of(row["result"], row["defects"], words)
                board = seen_board(calls, len(scale), defects, outcome)
                if others:  # another camera calls it, whatever this one's strength
                    board = replace(board, last=len(scale) - 1)
                seen.append(board)
        points = points_of(seen, present.bundle.manifest)
        return {
            "points": points, "boards": len(seen), "without_evidence": without, "camera": present.camera,
            "seconds": round(time.perf_counter() - start, 3),
        }  # fmt: skip

    def newest(self, line: str) -> tuple[dict[str, Any], Bundle] | None:
        """Line, epoch, number and first camera of the newest judged board, and the bundle that this camera has now.

        None: no board.
        """
        newest = self._history.query(
            "SELECT line, epoch, seq, product, body FROM verdict WHERE line = ? AND result != 'ERROR' "
            "ORDER BY at DESC LIMIT 1",
            (line,),
        )
        if not newest:
            return None
        camera = json.loads(newest[0]["body"])["InspectedUnits"][0]["Inspections"][0]["InspectionName"]
        bundle = self._boards.bundle_now(newest[0]["product"], camera)
        return {**{name: newest[0][name] for name in ("line", "epoch", "seq", "product")}, "camera": camera}, bundle

    def _last_boards(self, line: str, most: int) -> _Present | None:
        found = self.newest(line)
        if found is None:
            return None
        newest, bundle = found
        rows = self._history.query(
            "SELECT epoch, seq, at, result, defects, body FROM verdict WHERE line = ? AND epoch = ? AND product = ? "
            "AND result != 'ERROR' ORDER BY at DESC LIMIT ?",
            (line, newest["epoch"], newest["product"], min(max(most, 1), MOST_BOARDS)),
        )
        for row in rows:
            row["sha256"] = bundle_of(row.pop("body"), newest["camera"])
        with ThreadPoolExecutor(FETCHERS, thread_name_prefix="evidence") as pool:
            shares = [rows[n::FETCHERS] for n in range(FETCHERS)]
            list(pool.map(self._with_evidence, shares))
        return _Present(rows, bundle, newest["camera"])

    def _said(self, line: str, rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], dict[int, str]]:
        return judged_by_people(self._history, Range(line=line, since=min((row["at"] for row in rows), default=0)))

    def _counter(
        self, present: _Present, zones: tuple[Zone, ...] | None, strength: float
    ) -> Callable[[dict[str, Any], list[BoxXYWH]], _Counted | None]:
        """What is called on a board now and as it would be; None where that is not known.

        Asked with the boxes of the defects that people confirmed on it.
        """
        bundle = present.bundle
        limits = bundle.thresholds
        off_board = bundle.zones[: len(bundle.zones) - len(bundle.manifest.zones)]
        wanted = bundle.zones if zones is None else (*off_board, *zones)
        now = self._judges(present, limits)
        then = self._judges(present, replace(limits, region_peak=limits.region_peak * strength))
        trial: ZoneTrial | None = None
        if strength == 1.0:
            with suppress(InputError):  # of these boards nothing is known where the present zones ignore them
                trial = ZoneTrial(self._boards.judge(bundle), wanted)
        gains = dict[str, Gain | None]()

        def count(row: dict[str, Any], confirmed: list[BoxXYWH]) -> _Counted | None:
            evidence, sha256 = row["evidence"], row["sha256"]
            if evidence is None:
                return None
            if trial is not None and not confirmed and sha256 == bundle.manifest_sha256:
                before, after = trial.counted(evidence)
                return _Counted(row["called"], row["called"] - before + after, 0)
            judge, other = now(sha256), then(sha256)
            if judge is None or other is None:
                return None
            if sha256 not in gains:
                gains[sha256] = None
                with suppress(InputError):
                    gains[sha256] = other[0].with_zones(wanted)
            gain = gains[sha256]
            if gain is None:
                return None
            now_seen, then_seen = judge[0].found(evidence, judge[1]), other[0].found(evidence, gain)
            lost = sum(_is_lost(box, now_seen, then_seen) for box in confirmed)
            return _Counted(now_seen.total, then_seen.total, lost)

        return count

    def _judges(self, present: _Present, limits: Thresholds) -> Callable[[str], tuple[JudgeAgain, Gain] | None]:
        """Judges of boards by the bundle that inspected them, and the present zones as a gain; None where it cannot."""
        known: dict[str, tuple[JudgeAgain, Gain] | None] = {}

        def judge(sha256: str) -> tuple[JudgeAgain, Gain] | None:
            if sha256 not in known:
                known[sha256] = self._judge(present, sha256, limits)
            return known[sha256]

        return judge

    def _judge(self, present: _Present, sha256: str, limits: Thresholds) -> tuple[JudgeAgain, Gain] | None:
        now = present.bundle
        try:
            bundle = self._boards.bundle(now.manifest.product, present.camera, sha256)
            if not same_network(bundle, now):
                return None
            judge = self._boards.judge(bundle).with_thresholds(limits)
            return judge, judge.with_zones(now.zones)
        except InputError as error:
            if error.code in ("", "unknown"):
                return None
            raise

    def _defects(
        self, line: str, row: dict[str, Any], camera: str, words: dict[int, str]
    ) -> tuple[list[tuple[BoxXYWH, str]], int]:
        """Box and last word of each defect that was called on a camera's frame, and how many the others called."""
        found = self._history.query(
            "SELECT number, camera, x, y, w, h FROM defect WHERE line = ? AND epoch = ? AND seq = ?",
            (line, row["epoch"], row["seq"]),
        )
        own = [one for one in found if one["camera"] == camera]
        said = [((d["x"], d["y"], d["w"], d["h"]), words.get(d["number"], words.get(0, NOT_YET))) for d in own]
        return said, len(found) - len(own)

    def _with_evidence(self, rows: list[dict[str, Any]]) -> None:
        with self._connect() as asker:
            for row in rows:
                row["evidence"] = self._fetched(asker, row["epoch"], row["seq"])

    def _fetched(self, asker: Asker, epoch: str, seq: int) -> Evidence | None:
        def fetch() -> tuple[Evidence, int]:
            request = {"do": "archived_board", "epoch": epoch, "seq": seq, "member": "0.npz"}
            _, data = stored_file(asker, request, stop=self._stop)
            return evidence_from_npz(data), len(data)

        try:
            return self._evidence.get((epoch, seq), fetch)
        except InputError as error:
            if error.code != "unknown":
                raise
            return None


def _is_lost(box: BoxXYWH, before: Found, after: Found) -> bool:
    """Whether something is called in a box now, and nothing would be."""
    now, then = (any(meet(box, region.box_xywh) for region in one.regions) for one in (before, after))
    return now and not then


def _there(judge: tuple[JudgeAgain, Gain] | None) -> tuple[JudgeAgain, Gain]:
    if judge is None:
        raise InputError(
            expected="boards whose maps tell of this strength", received="others", fix="choose a higher one"
        )
    return judge
