"""``hisir-edge fleet``: lines, collector, database killed; verdicts and decisions each once, figures as the page's."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import psutil
import psycopg
import pytest
from support.commands import here
from support.daemon import JOURNAL, DaemonProcess, replay
from support.journal_line import JournalLine
from support.page import PageProcess, asked, browser_here, browser_page
from support.postgres import process
from support.sockets import free_port

from hisir_edge.line.journal.reading import JournalReader, read_journal
from hisir_edge.mes import Verdict
from hisir_edge.transport.control_client import ask
from hisir_edge.transport.curve_keys import write_keys
from hisir_edge.view.history import History
from hisir_edge.view.statistics import Range, pareto, summary

COUNT = 400
NAMES = ("smt-1", "smt-2", "south.3")
WORDS = ("DefectConfirmed", "DefectRejected", "DefectAccepted", "NotVerifiedYet")


@pytest.fixture
def lines(tmp_path):
    return [JournalLine(tmp_path / f"journal-{name}", rate_hz=200, name=name) for name in NAMES]


def written(tmp_path: Path, lines: list[JournalLine], target: str, **store) -> Path:
    """A fleet.toml."""
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in store.items())
    text = f'[store]\ntarget = "{target}"\n{more}'
    for line in lines:
        plant = "north" if line.name.startswith("smt") else "south"
        text += f'[[line]]\nname = "{line.name}"\nendpoint = "{line.verdicts}"\nplant = "{plant}"\n'
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def collector(config: Path, *more):
    with process(
        sys.executable, "-m", "hisir_edge", "fleet", config, *more, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    ) as one:  # fmt: skip
        try:
            yield one
        finally:
            one.kill()
            one.stdout.close()


def ended(one: subprocess.Popen) -> None:
    one.send_signal(signal.SIGTERM)
    _, err = one.communicate(timeout=30)
    assert one.returncode == 0, err
    assert "Traceback" not in err, err


def until(condition, one: subprocess.Popen, timeout_s: float = 90) -> None:
    end = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(psycopg.Error, duckdb.IOException, FileNotFoundError):  # not there yet
            if condition():
                return
        assert one.poll() is None, one.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)


def rows(target: str, query: str, *values):
    with psycopg.connect(target, connect_timeout=5, options="-c search_path=hisir_fleet") as db:
        return db.execute(query, values).fetchall()


def counted(target: str) -> int:
    return rows(target, "SELECT count(*) FROM verdict")[0][0]


def expected(lines: list[JournalLine]) -> list[tuple[str, str, int, bytes]]:
    return sorted((line.name, *one) for line in lines for one in line.expected())


def decided(line: JournalLine, count: int, seed: int) -> list[tuple]:
    """Decisions of people on a line's boards; (line, epoch, id, number, defect, word) of each."""
    rng, epoch, done = random.Random(seed), line.expected()[0][0], []
    for _ in range(count):
        seq, defect, word = 5 * rng.randint(1, COUNT // 5), rng.choice((0, 1, 1)), rng.choice(WORDS)
        if rng.random() < 0.2:
            seq, defect = seq - 1, 0  # a board that passed
        request = {
            "do": "verify", "epoch": epoch, "seq": seq, "verification": word, "operator": "Ada", "defect": defect,
        }  # fmt: skip
        done.append((line.name, epoch, ask(line.control, request)["id"], seq, defect, word))
        time.sleep(0.01)  # a line takes so many requests a second
    return done


def test_three_lines_into_postgres_each_once_over_kills(lines, tmp_path, postgres):
    with postgres() as target:
        config = written(tmp_path, lines, target, bodies=True)
        with contextlib.ExitStack() as stack:
            for line in lines:
                stack.enter_context(line.started(COUNT // 2))
            for kill in (1, 2, 3):
                with collector(config) as one:
                    until(lambda n=kill: counted(target) >= n * len(lines) * COUNT // 10, one)
                    one.kill()
        postgres.server.kill()
        postgres.server.wait()
    with contextlib.ExitStack() as stack, collector(config) as one:  # there is neither a database nor a line yet
        for line in lines:
            stack.enter_context(line.started(COUNT, there=COUNT))
        with postgres() as target:
            until(lambda: counted(target) >= COUNT, one)
        with postgres() as target:  # the database went away, and is back
            until(lambda: counted(target) >= len(lines) * COUNT, one)
            decisions = sorted(decision for n, line in enumerate(lines) for decision in decided(line, 20, n))
            until(lambda: rows(target, "SELECT count(*) FROM decision")[0][0] >= len(decisions), one)
            ended(one)
            found = rows(target, "SELECT line, epoch, seq, body FROM verdict")
            assert sorted((name, epoch, seq, body.encode()) for name, epoch, seq, body in found) == expected(lines)
            told = rows(target, "SELECT line, epoch, id, seq, defect, verification FROM decision ORDER BY 1, 2, 3")
            assert told == decisions
            failed = rows(target, "SELECT count(*) FROM verdict WHERE result = 'FAIL'")[0][0]
            assert rows(target, "SELECT count(*) FROM defect")[0][0] == failed == len(lines) * COUNT // 5
            assert dict(rows(target, "SELECT line, seq FROM cursor")) == dict.fromkeys(NAMES, COUNT)
            assert set(rows(target, "SELECT line, plant, wrong FROM line")) == {
                ("smt-1", "north", ""), ("smt-2", "north", ""), ("south.3", "south", "")
            }  # fmt: skip
            same_as_the_page(lines, tmp_path, lambda query: rows(target, query), decisions)


def same_as_the_page(lines: list[JournalLine], tmp_path: Path, query, decisions: list[tuple]) -> None:
    """Yield, false calls and calls by place are those that the operator's page counts from the same boards."""
    history = History(tmp_path / "page")
    try:
        for line in lines:
            for _, _, text in line.expected():
                history.add(Verdict(topic="", text=text, mask=b"", body=json.loads(text)))
        for name, epoch, number, seq, defect, word in decisions:
            history.told(name, {
                "epoch": epoch, "seq": seq, "defect": defect, "Verification": word, "VerificationDetail": "",
                "operator": "Ada", "TimeStamp": datetime.now(timezone.utc).isoformat(), "id": number,
            })  # fmt: skip
        for line in lines:
            page = summary(history, Range(line=line.name), 86400.0)["all"]
            counts = query(
                "SELECT sum(boards), sum(judged), sum(reviewed), sum(passed), sum(confirmed), sum(false_calls), "
                f"sum(waiting), sum(escapes), sum(errors) FROM yield_by_day WHERE line = '{line.name}'"
            )[0]
            names = ("boards", "judged", "reviewed", "passed", "confirmed", "false_call", "waiting", "escape", "error")
            assert tuple(int(one) for one in counts) == tuple(page[name] for name in names)
            rates = query(
                f"SELECT first_pass_yield, false_calls_per_board FROM yield_by_day WHERE line = '{line.name}'"
            )
            if len(rates) == 1:  # not over midnight
                assert float(rates[0][0]) == pytest.approx(page["first_pass_yield"])
                assert float(rates[0][1]) == pytest.approx(page["false_calls_per_board"])
        places = query("SELECT place, sum(called), sum(false_calls), sum(confirmed) FROM calls_by_part GROUP BY place")
        assert sorted((place, int(a), int(b), int(c)) for place, a, b, c in places) == sorted(
            (one["place"], one["called"], one["false_calls"], one["confirmed"]) for one in pareto(history, Range())
        )
    finally:
        history.close()


def parquet(folder: Path, query: str):
    db = duckdb.connect()
    try:
        db.execute((folder / "views.duckdb.sql").read_text())
        return db.execute(query).fetchall()
    finally:
        db.close()


def test_three_lines_into_parquet_each_once_over_kills(lines, tmp_path):
    folder = tmp_path / "fleet files"
    config = written(tmp_path, lines, "fleet files", bodies=True, write_every_s=1.0)

    def stored() -> int:
        return parquet(folder, "SELECT count(*) FROM verdict")[0][0] if (folder / "views.duckdb.sql").exists() else 0

    with contextlib.ExitStack() as stack:
        for line in lines:
            stack.enter_context(line.started(COUNT))
        for kill in (1, 2, 3):
            with collector(config) as one:
                until(lambda n=kill: stored() >= n * len(lines) * COUNT // 5, one)
                one.kill()
        with collector(config) as one:
            until(lambda: stored() >= len(lines) * COUNT, one)
            decisions = sorted(decision for n, line in enumerate(lines) for decision in decided(line, 20, n))
            until(lambda: parquet(folder, "SELECT count(*) FROM decision")[0][0] >= len(decisions), one)
            ended(one)
    found = parquet(folder, "SELECT line, epoch, seq, body FROM verdict")
    assert sorted((name, epoch, seq, body.encode()) for name, epoch, seq, body in found) == expected(lines)
    told = parquet(folder, "SELECT line, epoch, id, seq, defect, verification FROM decision ORDER BY 1, 2, 3")
    assert told == decisions
    same_as_the_page(lines, tmp_path, lambda query: parquet(folder, query), decisions)
    hours = {path.parts[-3:-1] for path in folder.glob("verdict/*/*/*.parquet")} - {("day=1970-01-01", "hour=00")}
    given = {datetime.fromisoformat(json.loads(text)["TimeStamp"]) for *_, text in expected(lines)}
    assert hours == {
        (f"day={at.astimezone(timezone.utc):%Y-%m-%d}", f"hour={at.astimezone(timezone.utc):%H}") for at in given
    }


def test_three_daemons_with_cameras_that_are_killed(small_bundle, small_boards, tmp_path, postgres):
    """Real lines: frames inspected, one daemon killed -9 and begun anew; rows say what their verdicts say."""
    daemons = []
    for name in NAMES:
        (tmp_path / name).mkdir()
        source = replay(small_boards / "test" / "good", rate_hz=10)
        daemons.append(DaemonProcess(tmp_path / name, small_bundle, source, f'{JOURNAL}[line]\nname = "{name}"\n'))
    with postgres() as target, contextlib.ExitStack() as stack:
        text = f'[store]\ntarget = "{target}"\n'
        for daemon, name in zip(daemons, NAMES, strict=True):
            stack.enter_context(daemon).up()
            text += f'[[line]]\nname = "{name}"\nendpoint = "{daemon.endpoint}"\ncontrol = "{daemon.control}"\n'
        (tmp_path / "fleet.toml").write_text(text)
        with collector(tmp_path / "fleet.toml") as one:
            until(lambda: counted(target) >= 30, one)
            daemons[1].kill()
            daemons[1].start()
            before = counted(target)
            until(lambda: counted(target) >= before + 40, one)
            for daemon in daemons:
                daemon.up()
                daemon.ask("pause")
                daemon.until(lambda status: status["in_flight"] == 0)
            # a line that is gone tells nobody what was missed: they are there until all is stored
            until(lambda: counted(target) >= sum(len(read_journal(daemon.journal)[1]) for daemon in daemons), one)
            for daemon in daemons:
                daemon.drain()
            journals = {name: read_journal(daemon.journal) for daemon, name in zip(daemons, NAMES, strict=True)}
            ended(one)
        told = [
            (name, entry.seq, verdict.unit, verdict.result, verdict.score, verdict.product, verdict.looked_share)
            for name, (_, entries, _) in journals.items() for entry in entries
            for verdict in [Verdict(topic="", text=entry.body, mask=b"", body=json.loads(entry.body))]
        ]  # fmt: skip
        found = rows(target, "SELECT line, seq, unit, result, score, product, looked_share FROM verdict")
        assert sorted(found) == sorted(told)


def test_a_line_that_lost_its_journal_goes_on_in_a_new_epoch(lines, tmp_path, postgres):
    line = lines[0]
    with postgres() as target:
        config = written(tmp_path, [line], target)
        with line.started(100, rate_hz=0), collector(config) as one:
            until(lambda: counted(target) >= 100, one)
            ended(one)
        before = line.expected()
        line.folder.rename(tmp_path / "put away")
        with line.started(60, rate_hz=0), collector(config) as one:
            until(lambda: counted(target) >= 160, one)
            ended(one)
        found = rows(target, "SELECT epoch, seq FROM verdict ORDER BY epoch, seq")
        assert found == sorted((epoch, seq) for epoch, seq, _ in (*before, *line.expected()))


def test_two_collectors_of_one_fleet_store_each_board_once(lines, tmp_path, postgres):
    with postgres() as target, contextlib.ExitStack() as stack:
        for line in lines:
            stack.enter_context(line.started(COUNT))
        config = written(tmp_path, lines, target)
        with collector(config) as one, collector(config) as other:
            until(lambda: counted(target) >= len(lines) * COUNT, one)
            ended(one)
            ended(other)
        found = rows(target, "SELECT line, epoch, seq FROM verdict")
        assert sorted(found) == [one[:3] for one in expected(lines)]


def test_another_line_at_an_address_is_refused_by_name(lines, tmp_path, postgres):
    with postgres() as target, lines[0].started(50, rate_hz=0), lines[1].started(50, rate_hz=0):
        config = written(tmp_path, lines[:2], target)
        config.write_text(config.read_text().replace('name = "smt-1"', 'name = "smt-9"'))
        with collector(config) as one:
            until(
                lambda: (
                    dict(rows(target, "SELECT line, wrong FROM line")).get("smt-9", "") not in ("", "not heard yet")
                ),
                one,
            )
            until(lambda: counted(target) >= 50, one)
            ended(one)
        assert {name for (name,) in rows(target, "SELECT DISTINCT line FROM verdict")} == {"smt-2"}
        wrong = dict(rows(target, "SELECT line, wrong FROM line"))["smt-9"]
        assert "expected the line smt-9 at" in wrong
        assert "got smt-1" in wrong


def test_days_that_are_too_old_are_dropped_and_wrong_clocks_hide_nothing(lines, tmp_path, postgres):
    """Boards of a line whose clock says 2001 are filed under today."""
    line = lines[0]
    clock = tmp_path / "clock"
    clock.write_text(str(-25 * 365 * 86400))
    with postgres() as target:
        config = written(tmp_path, [line], target, keep_days=30)
        with line.started(20, rate_hz=0, clock=clock), collector(config) as one:
            until(lambda: counted(target) >= 20, one)
            ended(one)
        days = {day for (day,) in rows(target, "SELECT DISTINCT day FROM verdict")}
        assert days <= {datetime.now(timezone.utc).date() - timedelta(days=n) for n in (0, 1)}
        assert {at.year for (at,) in rows(target, "SELECT DISTINCT given_at FROM verdict")} == {
            datetime.now(timezone.utc).year - 25
        }
        with psycopg.connect(target, options="-c search_path=hisir_fleet") as db:
            old = datetime.now(timezone.utc).date() - timedelta(days=32)
            for table in ("verdict", "defect", "decision"):
                db.execute(
                    f"CREATE TABLE {table}_{old:%Y%m%d} PARTITION OF {table} FOR VALUES FROM ('{old}') "
                    f"TO ('{old + timedelta(days=1)}')"
                )
            db.execute(
                "INSERT INTO verdict (line, epoch, seq, day, given_at) VALUES ('smt-1', 'e', 1, %s, now())", (old,)
            )
        with line.started(40, rate_hz=0), collector(config) as one:
            until(lambda: rows(target, "SELECT count(*) FROM verdict WHERE epoch = 'e'")[0][0] == 0, one)
            until(lambda: counted(target) >= 40, one)
            ended(one)


def test_a_day_that_somebody_drops_under_the_collector_is_made_again(lines, tmp_path, postgres):
    line = lines[0]
    with postgres() as target:
        config = written(tmp_path, [line], target)
        with collector(config) as one:
            with line.started(20, rate_hz=0):
                until(lambda: counted(target) >= 20, one)
            with psycopg.connect(target, options="-c search_path=hisir_fleet") as db:
                for (day,) in db.execute("SELECT DISTINCT day FROM verdict").fetchall():
                    db.execute(f"DROP TABLE verdict_{day:%Y%m%d}")
            with line.started(60, rate_hz=0):
                until(lambda: counted(target) >= 40, one)
            ended(one)
        assert [seq for (seq,) in rows(target, "SELECT seq FROM verdict ORDER BY 1")] == list(range(21, 61))


def test_a_line_with_keys_knows_how_far_the_collector_is(tmp_path):
    keys = tmp_path / "keys"
    write_keys(keys, ("line", "mes", "plant"))
    (keys / "clients").mkdir()
    for name in ("mes", "plant"):
        shutil.copy(keys / f"{name}.key", keys / "clients")
    line = JournalLine(tmp_path / "journal", name="smt-1", keys=keys)
    config = written(tmp_path, [line], "out", write_every_s=1.0)
    secured = 'server_key = "keys/line.key"\nkey = "keys/plant.key_secret"\n'
    config.write_text(config.read_text() + secured)
    with line.started(30):
        with collector(config, "--until-quiet-s", "3") as one:
            out, err = one.communicate(timeout=60)
        assert (one.returncode, "smt-1: 30 verdict(s) stored" in out) == (0, True), err
        assert JournalReader(line.folder).cursors() == {"plant.fleet": 30}
        config.write_text(config.read_text().replace(secured, ""))
        with collector(config, "--until-quiet-s", "3") as one:
            out, err = one.communicate(timeout=60)
        assert (one.returncode, "not collected: smt-1" in err) == (1, True)


def test_until_quiet_ends_and_names_lines_that_were_not_heard(lines, tmp_path):
    config = written(tmp_path, lines[:2], "out", write_every_s=1.0)
    with lines[0].started(30, rate_hz=0), collector(config, "--until-quiet-s", "2") as one:
        out, err = one.communicate(timeout=60)
    assert one.returncode == 1, err
    assert "smt-1: 30 verdict(s) stored" in out
    assert "not collected: smt-2" in err
    assert parquet(tmp_path / "out", "SELECT count(*) FROM verdict") == [(30,)]


def test_the_page_shows_the_fleet(lines, tmp_path, postgres):
    browser_here()
    with postgres() as target, contextlib.ExitStack() as stack:
        for line in lines[:2]:
            stack.enter_context(line.started(COUNT, there=COUNT))
        page = stack.enter_context(PageProcess(tmp_path, [lines[0].verdicts], "--fleet", target))
        seen = stack.enter_context(browser_page(page.url))
        seen.locator("nav button:text-is('Fleet')").click()
        seen.wait_for_selector(".fleet p[role=alert]:has-text('expected the tables of a fleet')")
        with collector(written(tmp_path, lines, target)) as one:
            until(lambda: counted(target) >= 2 * COUNT, one)
            decided(lines[0], 12, 3)
            until(lambda: rows(target, "SELECT count(*) FROM decision")[0][0] >= 12, one)
            until(lambda: rows(target, "SELECT count(*) FROM line WHERE wrong <> ''")[0][0] == 1, one)
            ended(one)
        seen.locator("button:text-is('30 days')").click()
        seen.wait_for_selector(".fleet table")
        found = asked(seen, "/api/fleet?days=30")
        told = {row["line"]: row for row in found["lines"]}
        assert list(told) == ["smt-1", "smt-2", "south.3"]
        assert (told["smt-1"]["boards"], told["smt-2"]["boards"], told["south.3"]["boards"]) == (COUNT, COUNT, None)
        assert told["smt-2"]["first_pass_yield"] == pytest.approx(0.8)
        assert told["smt-2"]["false_calls_per_board"] is None
        assert told["south.3"]["wrong"]
        assert found["places"][0]["called"] == 2 * COUNT // 5
        text = seen.locator(".fleet table").first.inner_text()
        assert "80.0 % of 400" in text
        assert "away" in text
        seen.screenshot(path=str(tmp_path / "fleet.png"))
        seen.locator("nav button:text-is('Statistics')").click()
        seen.wait_for_selector(".statistics .figure")
    without = PageProcess(tmp_path, [lines[0].verdicts])
    with without, browser_page(without.url) as seen:
        seen.wait_for_selector("nav button:text-is('Statistics')")
        assert seen.locator("nav button:text-is('Fleet')").count() == 0
        assert here("view", "--connect", "tcp://127.0.0.1:1", "--fleet", "a folder").returncode == 2


def test_who_reads_for_long_holds_up_no_new_day_and_no_start(lines, tmp_path, postgres):
    line, clock = lines[0], tmp_path / "clock"
    with postgres() as target:
        config = written(tmp_path, [line], target)
        with line.started(20, rate_hz=0), collector(config) as one:
            until(lambda: counted(target) >= 20, one)
            ended(one)
        with psycopg.connect(target, options="-c search_path=hisir_fleet") as reader:
            for view in ("board", "yield_by_day"):
                reader.execute(f"SELECT count(*) FROM {view}").fetchall()  # in a transaction that stays open
            clock.write_text(str(-2 * 86400))
            with line.started(40, rate_hz=0, clock=clock), collector(config) as one:
                until(lambda: counted(target) >= 40, one, 20)
                ended(one)
            # nor does a day that is to go, and has to wait: the others are stored, it goes later
            with psycopg.connect(target, options="-c search_path=hisir_fleet") as db:
                db.execute("CREATE TABLE verdict_20200101 (LIKE verdict)")
                bounds = "FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
                db.execute(f"ALTER TABLE verdict ATTACH PARTITION verdict_20200101 {bounds}")
            with line.started(60, rate_hz=0), collector(config) as one:
                until(lambda: counted(target) >= 60, one, 20)
                told = next(text for text in one.stderr if "not kept in order" in text)
                assert "lock timeout" in told
                ended(one)
        assert len(rows(target, "SELECT DISTINCT day FROM verdict")) >= 2


def test_a_database_that_does_not_answer_is_told_and_holds_up_no_end(lines, tmp_path, postgres):
    with postgres() as target:
        with lines[0].started(2000), collector(written(tmp_path, lines[:1], target)) as one:
            until(lambda: counted(target) >= 50, one)
            servers = [postgres.server.pid, *(p.pid for p in psutil.Process(postgres.server.pid).children())]
            for pid in servers:
                with contextlib.suppress(ProcessLookupError):  # one that looked after the tables, and is done
                    os.kill(pid, signal.SIGSTOP)
            try:
                told = next(text for text in one.stderr if "has not answered" in text)
                assert "nothing is stored" in told
                one.send_signal(signal.SIGTERM)
                assert one.wait(18) == 0
            finally:
                for pid in servers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
        with lines[0].started(2000, there=2000), collector(written(tmp_path, lines[:1], target)) as one:
            until(lambda: counted(target) >= 2000, one)
            ended(one)
        assert rows(target, "SELECT count(*), count(DISTINCT seq) FROM verdict") == [(2000, 2000)]


def test_drift_counts_from_the_first_400_boards_that_passed(lines, tmp_path, postgres):
    with postgres() as target, lines[0].started(600, there=600), lines[1].started(300, there=300):
        with collector(written(tmp_path, lines[:2], target)) as one:
            until(lambda: rows(target, "SELECT count(*) FROM baseline") == [(1,)], one, 30)
            ended(one)
        assert rows(target, "SELECT line, product, score, score_sd FROM baseline") == [("smt-1", "p", 0.5, 0.0)]
        told = rows(target, "SELECT line, sum(boards), avg(score) FROM drift_by_day GROUP BY line ORDER BY line")
        assert [(line, int(boards), score) for line, boards, score in told] == [
            ("smt-1", 480, 0.5), ("smt-2", 240, 0.5)
        ]  # fmt: skip


def test_decisions_that_were_deleted_do_not_come_back(lines, tmp_path, postgres):
    line = lines[0]
    with postgres() as target, line.started(COUNT, there=COUNT):
        config = written(tmp_path, [line], target)
        with collector(config, "--until-quiet-s", "1") as one:
            done = decided(line, 5, 1)
            _, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
        with collector(config, "--until-quiet-s", "1") as one:
            assert one.wait(60) == 0
        assert rows(target, "SELECT count(*) FROM decision") == [(len(done),)], "those that came last, too"
        with psycopg.connect(target, options="-c search_path=hisir_fleet") as db:
            db.execute("DELETE FROM decision")
        with collector(config, "--until-quiet-s", "1") as one:
            assert one.wait(60) == 0
        assert rows(target, "SELECT count(*) FROM decision") == [(0,)]


def test_a_second_collector_into_a_folder_is_refused(lines, tmp_path):
    config = written(tmp_path, lines[:1], "out", write_every_s=1.0)
    with lines[0].started(30, rate_hz=0), collector(config) as one:
        until(lambda: parquet(tmp_path / "out", "SELECT count(*) FROM verdict") == [(30,)], one)
        done = here("fleet", config)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "another one that is running" in done.stderr
        ended(one)
    place = tmp_path / "out" / "_places" / "smt-1.json"
    place.write_text("")
    with lines[0].started(30), collector(config, "--until-quiet-s", "1") as one:
        _, err = one.communicate(timeout=60)
    assert (one.returncode, "a damaged file" in err) == (1, True), err


def test_a_wrong_name_ends_a_nightly_run(lines, tmp_path):
    config = written(tmp_path, lines[:1], "out")
    config.write_text(config.read_text().replace('name = "smt-1"', 'name = "smt-9"'))
    with lines[0].started(30, rate_hz=0), collector(config, "--until-quiet-s", "2") as one:
        _, err = one.communicate(timeout=60)
    assert (one.returncode, "got smt-1" in err.splitlines()[-1]) == (1, True), err


@pytest.mark.parametrize(("text", "words"), [
    ("", "store in"),
    ('[store]\ntarget = "x"\n', "line in"),
    ('[store]\ntarget = "x"\nkept = 1\n[[line]]\nname = "a"\nendpoint = "tcp://h:1"\n', "store.kept"),
    ('[store]\ntarget = "x"\n[[line]]\nname = "a b"\nendpoint = "tcp://h:1"\n', "line.0.name"),
    ('[store]\ntarget = "x"\n[[line]]\nname = "a"\nendpoint = "h:1"\n', "endpoint of the line a"),
    ('[store]\ntarget = "x"\n' + 2 * '[[line]]\nname = "a"\nendpoint = "tcp://h:1"\n', "a is there twice"),
    ('[store]\ntarget = "no-such-kind://x"\n[[line]]\nname = "a"\nendpoint = "tcp://127.0.0.1:1"\n', "no-such-kind"),
    ('[store]\ntarget = "postgresql://x/?y"\n[[line]]\nname = "a"\nendpoint = "tcp://127.0.0.1:1"\n', "store.target"),
    ('[store]\ntarget = "x"\n[[line]]\nname = "a"\nendpoint = "tcp://127.0.0.1"\n', "a port from 1"),
    ('[store]\ntarget = "x"\n[[line]]\nname = "a"\nendpoint = "tcp://h:1"\nkey = "k"\n', "server_key and key"),
    ('[store]\ntarget = "host=h password=secret"\n[[line]]\nname = "a"\nendpoint = "tcp://h:1"\n', "as an address"),
    ('[store]\ntarget = "postgresql://u:se%cret@h/d"\n[[line]]\nname = "a"\nendpoint = "tcp://h:1"\n', "that is none"),
    ("nonsense", "TOML in"),
])  # fmt: skip
def test_a_fleet_that_cannot_be_is_told_in_one_line(tmp_path, text, words):
    config = tmp_path / "fleet.toml"
    config.write_text(text)
    done = here("fleet", config)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert words in done.stderr
    assert "cret" not in done.stderr


def test_a_database_that_lets_nobody_in_is_told(tmp_path, postgres, lines):
    with postgres() as target:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(target) as db:
                db.execute("CREATE ROLE nobody LOGIN")
                break
        config = written(tmp_path, lines[:1], target.replace("hisir@", "nobody@"))
        done = here("fleet", config)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "what this user may do there" in done.stderr
        with psycopg.connect(target) as db:
            db.execute("CREATE SCHEMA hisir_fleet")
            db.execute("CREATE TABLE hisir_fleet.layout (version integer PRIMARY KEY)")
            db.execute("INSERT INTO hisir_fleet.layout VALUES (99)")
        done = here("fleet", written(tmp_path, lines[:1], target))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "layout up to 1; got 99" in done.stderr
        for wrong in (target.replace("/postgres", "/nosuch"), target.replace("hisir@", "stranger@")):
            done = here("fleet", written(tmp_path, lines[:1], wrong))
            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
            assert "does not exist" in done.stderr


def test_a_database_that_is_not_there_is_waited_for_and_left(tmp_path, lines):
    config = written(tmp_path, lines[:1], f"postgresql://x@127.0.0.1:{free_port()}/x")
    with collector(config) as one:
        assert "nothing is stored" in one.stderr.readline()
        one.send_signal(signal.SIGTERM)
        assert one.wait(10) == 0
