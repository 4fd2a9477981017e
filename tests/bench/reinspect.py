"""What a re-inspection costs beside the inspections themselves, and its report of many boards.

    python tests/bench/reinspect.py ARCHIVE BUNDLE WORK --rounds 3 --rows 100000

In turns: a plain loop over the boards in this process, one worker, two workers (their start, which tests the bundle,
counted apart). Prints medians, the ratio to the loop, the speed-up of two, and the seconds of a report of ``--rows``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from dataclasses import replace
from pathlib import Path

from hisir_edge.reinspect.boards import boards_in
from hisir_edge.reinspect.report import figures_of, write_report
from hisir_edge.reinspect.row import Inspection
from hisir_edge.reinspect.table import Table, table_of
from hisir_edge.reinspect.workers import Workers


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=100_000)
    asked = parser.parse_args()
    boards = boards_in([asked.archive])
    asked.work.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, list[float]] = {"loop": [], "1 worker": [], "2 workers": []}
    inspection = Inspection(asked.bundle)
    rows = []
    for turn in range(asked.rounds):
        start = time.perf_counter()
        rows = [inspection.row(board) for board in boards]
        seconds["loop"].append(time.perf_counter() - start)
        for count in (1, 2):
            with Workers(asked.bundle, "", count) as workers:
                start = time.perf_counter()
                out = asked.work / f"{turn}-{count}"
                shutil.rmtree(out, ignore_errors=True)
                table = Table(out, "0" * 64, "")
                for row in workers.rows(iter(boards)):
                    table.add(row)
                table.finish()
                seconds[f"{count} worker{'s' * (count > 1)}"].append(time.perf_counter() - start)
    inspection.close()
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"{len(boards)} boards: " + ", ".join(f"{name} {value:.2f} s" for name, value in medians.items()))
    overhead, gain = medians["1 worker"] / medians["loop"] - 1, medians["1 worker"] / medians["2 workers"]
    print(f"overhead {overhead:.1%}, two workers {gain:.2f} times as fast as one")
    many = table_of([replace(rows[n % len(rows)], seq=n, name=f"{n}") for n in range(asked.rows)])
    start = time.perf_counter()
    write_report(many, figures_of(many, set()), "many", asked.work, lambda keys: {})
    print(f"report of {asked.rows} rows: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
