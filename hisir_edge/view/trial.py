"""Zones and thresholds tried on the last archived boards: what would have been called, and what people said of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

from hisir_edge.archive.board_file import evidence_from_npz
from hisir_edge.archive.judge_again import ZoneTrial
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.errors import InputError
from hisir_edge.mes.stored import stored_file
from hisir_edge.records import Evidence
from hisir_edge.transport.control_client import Asker
from hisir_edge.view.boards import Boards, Cache
from hisir_edge.view.history import History
from hisir_edge.view.statistics import Range, judged_by_people, outcome_of

MOST_BOARDS, MOST_EVIDENCE_BYTES = 200, 300_000_000
MOST_ZONES, MOST_CORNERS = 100, 200
FETCHERS = 2


def zones_from_json(raw: Any) -> tuple[Zone, ...]:
    """Zones as the page sends them; InputError for anything else."""
    try:
        if not isinstance(raw, list) or len(raw) > MOST_ZONES:
            raise ValueError(f"a list of up to {MOST_ZONES}")
        out = []
        for one in raw:
            corners = [(float(x), float(y)) for x, y in one["polygon"]]
            sensitivity = float(one["sensitivity"])
            if not 3 <= len(corners) <= MOST_CORNERS or not 0 <= sensitivity <= 4:
                raise ValueError(f"3 to {MOST_CORNERS} corners, a sensitivity of 0 to 4")
            if any(not abs(value) < 1e5 for corner in corners for value in corner):
                raise ValueError("corners on the board")
            out.append(Zone(str(one["name"])[:80], tuple(corners), sensitivity))
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise InputError(
            expected="zones of name, polygon and sensitivity", received=str(error)[:200], fix="draw them again"
        ) from error
    return tuple(out)


class Trials:
    """Trials on the boards of one line; evidence that was fetched is kept."""

    def __init__(
        self, connect: Callable[[], Asker], boards: Boards, history: History, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._connect, self._boards, self._history, self._stop = connect, boards, history, stop
        self._evidence: Cache[Evidence] = Cache(MOST_EVIDENCE_BYTES)
        self._lock = Lock()

    def of_zones(self, line: str, zones: tuple[Zone, ...], most: int = MOST_BOARDS) -> dict[str, Any]:
        """What these zones, beside the bundle's own, would have made of the last boards of the newest one's product.

        ``boards`` tried; ``calls`` and ``calls_after`` among them; ``false_calls_gone``, ``confirmed_lost``,
        ``new_calls``: boards, and ``waiting_gone`` those not reviewed; ``seconds``. Of several cameras the zones are of
        the first, ``camera``; what the others call stays.
        """
        start = time.perf_counter()
        rows, bundle, camera = self._last_boards(line, min(max(most, 1), MOST_BOARDS))
        said = judged_by_people(self._history, Range(line=line, since=min((row["at"] for row in rows), default=0)))
        counts: Counter[str] = Counter()
        with self._lock:  # judges have buffers of their own
            trial = ZoneTrial(self._boards.judge(bundle), (*bundle.zones, *zones)) if bundle else None
            for row in rows:
                evidence = row["evidence"]
                if evidence is None or trial is None:
                    counts["without_evidence"] += 1
                    continue
                before, after = trial.counted(evidence)
                left = row["defects"] - before + after
                outcome = outcome_of(row["result"], row["defects"], said.get((line, row["epoch"], row["seq"]), {}))
                counts["boards"] += 1
                counts["calls"] += row["defects"] > 0
                counts["calls_after"] += left > 0
                counts["new_calls"] += row["defects"] == 0 and left > 0
                if row["defects"] > 0 and left <= 0:
                    counts[GONE.get(outcome, "waiting_gone")] += 1
        kinds = (
            "boards",
            "calls",
            "calls_after",
            "new_calls",
            *sorted(set(GONE.values())),
            "waiting_gone",
            "without_evidence",
        )
        return {
            **{name: counts[name] for name in kinds},
            "camera": camera,
            "seconds": round(time.perf_counter() - start, 3),
        }

    def newest(self, line: str) -> tuple[dict[str, Any], Bundle] | None:
        """Line, epoch, number and first camera of the newest judged board, and that camera's bundle; None: no board."""
        newest = self._history.query(
            "SELECT line, epoch, seq, product, body FROM verdict WHERE line = ? AND result != 'ERROR' "
            "ORDER BY at DESC LIMIT 1",
            (line,),
        )
        if not newest:
            return None
        inspection = json.loads(newest[0]["body"])["InspectedUnits"][0]["Inspections"][0]
        camera, sha256 = inspection["InspectionName"], inspection["vision"]["bundle_sha256"]
        bundle = self._boards.bundle(newest[0]["product"], camera, sha256)
        return {**{name: newest[0][name] for name in ("line", "epoch", "seq")}, "camera": camera}, bundle

    def _last_boards(self, line: str, most: int) -> tuple[list[dict[str, Any]], Bundle | None, str]:
        """The last boards of the newest one's product and bundle, with evidence of one camera; bundle and camera."""
        found = self.newest(line)
        if found is None:
            return [], None, ""
        newest, bundle = found
        rows = self._history.query(
            "SELECT epoch, seq, at, result, defects FROM verdict WHERE line = ? AND epoch = ? AND product = ? AND "
            "result != 'ERROR' AND instr(body, ?) > 0 ORDER BY at DESC LIMIT ?",
            (line, newest["epoch"], bundle.manifest.product, bundle.manifest_sha256, most),
        )
        with ThreadPoolExecutor(FETCHERS, thread_name_prefix="evidence") as pool:
            shares = [rows[n::FETCHERS] for n in range(FETCHERS)]
            list(pool.map(self._with_evidence, shares))
        return rows, bundle, newest["camera"]

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


GONE = {"false call": "false_calls_gone", "confirmed": "confirmed_lost"}
