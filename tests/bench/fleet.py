"""How quickly journaled verdicts of several lines are collected, what they take, and how long questions take then.

    PYTHONPATH=tests python tests/bench/fleet.py WORK [--verdicts 1000000] [--lines 3]

Lines, collector and database share this machine's cores. A fifth of the boards is called, each with one defect.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from threading import Event

import psutil
import psycopg
from support.journal_line import JournalLine
from support.messages import sample_message
from support.postgres import postgres_server

from hisir_edge.config.kept import JournalTable
from hisir_edge.fleet.postgres import PostgresStore
from hisir_edge.fleet.rows import Batch, Now, Row, rows_of
from hisir_edge.line.journal.records import Entry
from hisir_edge.line.journal.store import Journal
from hisir_edge.mes import Verdict
from hisir_edge.mes.cursor import Cursor

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
        with postgres_server() as postgres, postgres(durable=True) as target:
            print("PostgreSQL: ", collected(asked.work, lines, target, each))
            print("  " + transactions(target))
            with psycopg.connect(target, options="-c search_path=hisir_fleet") as db:
                db.execute("ANALYZE")
                stored, size = db.execute(
                    "SELECT (SELECT count(*) FROM verdict), (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c "
                    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'hisir_fleet' AND relkind = 'r')"
                ).fetchall()[0]
                print(f"  {stored} boards stored, {float(size) / stored:.0f} bytes a board with indices and defects")
                for words, question in QUESTIONS.items():
                    began = time.perf_counter()
                    db.execute(question).fetchall()
                    print(f"  {words}: {time.perf_counter() - began:.2f} s")
        folder = asked.work / f"parquet-{int(time.time())}"
        print("Parquet:    ", collected(asked.work, lines, str(folder), each))
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        print(f"  {size / each / len(lines):.0f} bytes a board with defects")


def transactions(target: str) -> str:
    """What PostgreSQL takes for one board, and for each of a thousand, in a transaction."""
    store = PostgresStore(target, print, lambda wait_s: Event().wait(wait_s))
    took: dict[int, float] = {}
    before, seq, epoch = None, 0, "b" * 32
    for rows, rounds in ((1, 100), (1000, 10)):
        seconds = []
        for _ in range(rounds):
            made = [message_rows(seq + n, epoch) for n in range(1, rows + 1)]
            seq += rows
            after = Cursor(epoch, seq)
            batch = Batch("timed", [row for row, _ in made], [d for _, found in made for d in found], before, after)
            began = time.perf_counter()
            store.write(batch)
            seconds.append(time.perf_counter() - began)
            before = after
        took[rows] = statistics.median(seconds)
    asked = []
    for _ in range(200):
        began = time.perf_counter()
        store.last_decision("timed", epoch)
        asked.append(time.perf_counter() - began)
    store.close(5)
    each = (took[1000] - took[1]) / 999
    return (
        f"a transaction of one board {1e3 * took[1]:.2f} ms, of each further one {1e6 * each:.1f} us; "
        f"a question for decisions {1e3 * statistics.median(asked):.2f} ms"
    )


def message_rows(seq: int, epoch: str) -> tuple[Row, list[Row]]:
    """A board's rows."""
    text = sample_message(seq, epoch, seq % 5 == 0, line="timed").frames()[1]
    verdict = Verdict(topic="", text=text, mask=b"", body=json.loads(text))
    return rows_of(verdict, "", 400, False, Now(datetime.now(timezone.utc), True))


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
    told = process.stdout.read().splitlines()
    stored = sum(int(text.split()[1]) for text in told)
    process.stdout.close()
    assert stored == each * len(lines), stored
    return f"{stored} boards in {took:.1f} s, {stored / took:.0f} a second, at most {peak / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
