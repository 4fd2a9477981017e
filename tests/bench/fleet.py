"""How quickly journaled verdicts of several lines are collected, what they take, and how long questions take then.

    PYTHONPATH=tests python tests/bench/fleet.py WORK [--verdicts 1000000] [--lines 3]

Lines, collector and database share this machine's cores. A fifth of the boards is called, each with one defect.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
from support.journal_line import JournalLine
from support.messages import sample_message
from support.postgres import postgres_server

from hisir_edge.config.kept import JournalTable
from hisir_edge.line.journal.records import Entry
from hisir_edge.line.journal.store import Journal

QUESTIONS = {
    "yield by day": "SELECT * FROM yield_by_day", "calls by part": "SELECT * FROM calls_by_part",
    "drift by day": "SELECT * FROM drift_by_day", "one board": "SELECT * FROM verdict WHERE unit = 'unit-777'",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--verdicts", type=int, default=1_000_000)
    parser.add_argument("--lines", type=int, default=3)
    asked = parser.parse_args()
    each = asked.verdicts // asked.lines
    lines = [JournalLine(asked.work / f"journal-{n}", name=f"line-{n}") for n in range(1, asked.lines + 1)]
    for line in lines:
        if not line.folder.exists():
            written(line, each)
    with contextlib.ExitStack() as stack:
        for line in lines:
            stack.enter_context(line.started(each))
        with postgres_server() as postgres, postgres() as target:
            print("PostgreSQL: ", collected(asked.work, lines, target, each))
            with psycopg.connect(target, options="-c search_path=hisir_fleet") as db:
                db.execute("ANALYZE")
                stored, size = db.execute(
                    "SELECT (SELECT count(*) FROM verdict), (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c "
                    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'hisir_fleet' AND relkind = 'r')"
                ).fetchone()
                print(f"  {stored} boards stored, {float(size) / stored:.0f} bytes a board with indices and defects")
                for words, question in QUESTIONS.items():
                    began = time.perf_counter()
                    db.execute(question).fetchall()
                    print(f"  {words}: {time.perf_counter() - began:.2f} s")
        folder = asked.work / f"parquet-{int(time.time())}"
        print("Parquet:    ", collected(asked.work, lines, str(folder), each))
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        print(f"  {size / each / len(lines):.0f} bytes a board with defects")


def written(line: JournalLine, count: int) -> None:
    """A journal of so many verdicts."""
    with Journal(line.folder, JournalTable(budget_mb=100_000)) as journal:
        for first in range(1, count + 1, 5000):
            entries = []
            for n in range(first, min(first + 5000, count + 1)):
                topic, body, mask = sample_message(n, journal.epoch, n % 5 == 0, line=line.name).frames()[:3]
                entries.append(
                    Entry(seq=n, topic=topic.decode(), body=body, mask=mask, source="cam", unit=f"unit-{n}")
                )  # fmt: skip
            journal.record(entries)
            journal.last_seq = entries[-1].seq


def collected(work: Path, lines: list[JournalLine], target: str, each: int) -> str:
    """Boards a second from the start of the collector to its end, less the silence that it ends after."""
    quiet_s = 3.0
    text = f'[store]\ntarget = "{target}"\n'
    for line in lines:
        text += f'[[line]]\nname = "{line.name}"\nendpoint = "{line.verdicts}"\n'
    config = work / "fleet.toml"
    config.write_text(text)
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "hisir_edge", "fleet", config, "--until-quiet-s", str(quiet_s)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
        time.sleep(0.1)
    took = time.perf_counter() - began - quiet_s
    stored = sum(int(line.split()[1]) for line in process.stdout.read().splitlines())
    process.stdout.close()
    assert stored == each * len(lines), stored
    return f"{stored} boards in {took:.1f} s, {stored / took:.0f} a second, at most {peak / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
