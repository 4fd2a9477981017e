"""A line behind another inspection machine: calls come as files or over a socket, each is answered, none twice."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq
from support.calls import answers_of, deliver, deliver_crops, delivered_boards, rows_of_board
from support.daemon import JOURNAL, DaemonProcess
from support.sockets import free_port
from typer.testing import CliRunner

from hisir_edge.cli.main import app
from hisir_edge.line.journal.reading import read_journal

EXAMPLE = Path(__file__).parents[2] / "examples" / "second-gate" / "deliver.py"
EXPECTED = {"real": "confirmed", "false": "false"}


def gate(folder: Path, bundle: Path, more: str = "", **journal) -> DaemonProcess:
    source = f'[source]\ntype = "calls"\nfolder = "{folder}/in"\nsettle_s = 0\n{more}'
    return DaemonProcess(folder, bundle, source, JOURNAL, **journal)


def answered(daemon: DaemonProcess, count: int) -> dict[str, dict]:
    """All answers, once there are so many and nothing is left in the folder."""
    end, inbox = time.monotonic() + 60, daemon.folder / "in"
    while time.monotonic() < end:
        found = answers_of(inbox / "answers")
        if len(found) >= count and not list(inbox.glob("*.json")) + list(inbox.glob("*.csv")):
            return found
        assert daemon.process.poll() is None, daemon.tail()
        time.sleep(0.02)
    raise AssertionError(f"{sorted(answers_of(inbox / 'answers'))}\n{daemon.tail()}")


def calls_of(body: dict) -> dict[str, str]:
    return {one["id"]: one["answer"] for one in body["answers"]}


def journaled(daemon: DaemonProcess) -> list[dict]:
    return [json.loads(entry.body) for entry in read_journal(daemon.journal)[1]]


def picture_of(boards: Path, kind: str) -> Path:
    return min((boards / "test" / kind).glob("*.png"))


def test_each_call_is_answered_and_the_board_passes_where_all_are_false(small_bundle, small_boards, tmp_path):
    rows = delivered_boards(small_boards, tmp_path / "in")
    with gate(tmp_path, small_bundle) as daemon:
        found = answered(daemon, len(rows))
        daemon.drain()
    answers = [(row["truth"], calls_of(found[name])[row["id"]]) for name, calls in rows.items() for row in calls]
    assert ("real", "false") not in answers
    assert answers.count(("real", "confirmed")) >= 5 and answers.count(("false", "false")) >= 36, answers
    for name in rows:
        all_false = set(calls_of(found[name]).values()) == {"false"}
        assert found[name]["result"] == ("Passed" if all_false and not found[name]["elsewhere"] else "Failed")
        assert {path.name for path in (tmp_path / "in/done").glob(f"{name}.*")} == {f"{name}.json", f"{name}.png"}
    bodies = {body["vision"]["calls"]["delivery"]: body for body in journaled(daemon)}
    for name, one in found.items():
        assert bodies[f"{name}.json"]["vision"]["calls"]["answers"] == one["answers"]
        assert (bodies[f"{name}.json"]["seq"], one["unit"]) == (one["seq"], name)


def test_what_cannot_be_judged_is_an_error_with_every_call_unsure(small_bundle, small_boards, tmp_path):
    inbox, good = tmp_path / "in", picture_of(small_boards, "good")
    rows = rows_of_board(small_boards, good, np.random.default_rng(0))
    small = cv2.imread(str(good))[:200, :300]
    cv2.imwrite(str(tmp_path / "small.png"), small)
    (tmp_path / "torn.png").write_bytes(good.read_bytes()[:2000])
    deliver(inbox, "small", tmp_path / "small.png", rows)
    deliver(inbox, "torn", tmp_path / "torn.png", rows)
    deliver(inbox, "stranger", good, rows, product="another")
    deliver(inbox, "nothing", good, rows)
    (inbox / "nothing.png").unlink()
    (inbox / "words.json").write_text("no calls")
    (inbox / "twice.json").write_text(json.dumps({"calls": [rows[0], rows[0]]}))
    (inbox / "outside.json").write_text(json.dumps({"picture": "../../secret.png", "calls": rows}))
    with gate(tmp_path, small_bundle, "wait_s = 0.3\n") as daemon:
        found = answered(daemon, 7)
        deliver(inbox, "fine", good, rows)
        assert answered(daemon, 8)["fine"]["result"] == "Passed", "the line goes on"
        daemon.drain()
    reasons = {
        "small": "300x200", "torn": "torn.png", "stranger": "unknown product another", "nothing": "no picture nothing",
        "words": "words.json", "twice": "the call 1 twice", "outside": "a name beside the calls",
    }  # fmt: skip
    for name, words in reasons.items():
        one = found[name]
        assert one["result"] == "Error" and words in one["reason"], (name, one["reason"])
        known = name not in ("words", "twice", "outside")
        assert calls_of(one) == ({row["id"]: "unsure" for row in rows} if known else {}), name
        assert all(call["score"] is None and call["reason"] == one["reason"] for call in one["answers"])
    assert len(journaled(daemon)) == 8


def test_kill_9_at_any_moment_leaves_each_board_answered_once(small_bundle, small_boards, tmp_path):
    rng, rows = random.Random(4), {}
    for part in range(4):
        for name, calls in delivered_boards(small_boards, tmp_path / f"made-{part}", part).items():
            rows[f"{part}-{name}"] = calls
    daemon = gate(tmp_path, small_bundle)
    names = sorted(rows)
    for name in names:
        folder, stem = name.split("-", 1)
        made = tmp_path / f"made-{folder}" / f"{stem}.json"
        deliver(tmp_path / "in", name, made.with_suffix(".png"), json.loads(made.read_text())["calls"])
    for _ in range(5):
        with daemon:
            daemon.up()
            before = len(answers_of(tmp_path / "in/answers"))
            end = time.monotonic() + 30
            while len(answers_of(tmp_path / "in/answers")) < before + rng.randint(1, 6) and time.monotonic() < end:
                time.sleep(rng.random() * 0.01)
    with daemon:
        found = answered(daemon, len(names))
        daemon.drain()
    judged: dict[str, list[dict]] = {}
    for body in journaled(daemon):
        if body["vision"]["calls"] is not None:
            judged.setdefault(Path(body["vision"]["calls"]["delivery"]).stem, []).append(body)
        else:
            assert body["vision"]["reason"].startswith("the daemon ended before"), "a board without its calls"
    assert sorted(judged) == names == sorted(found)
    assert {name: len(bodies) for name, bodies in judged.items()} == dict.fromkeys(names, 1), "none is judged twice"
    for name in names:
        assert judged[name][0]["vision"]["calls"]["answers"] == found[name]["answers"]
        assert set(calls_of(found[name])) == {one["id"] for one in rows[name]}


def test_answers_that_the_disk_did_not_take_are_written_once_it_does(small_bundle, small_boards, tmp_path):
    inbox, good = tmp_path / "in", picture_of(small_boards, "good")
    rows = rows_of_board(small_boards, good, np.random.default_rng(0))
    with gate(tmp_path, small_bundle) as daemon:
        daemon.up()
        (inbox / "answers").rmdir()
        (inbox / "answers").write_text("in the way")
        deliver(inbox, "one", good, rows)
        end = time.monotonic() + 30
        while not daemon.logged("answers not written") and time.monotonic() < end:
            time.sleep(0.02)
        assert (inbox / "one.json").exists(), "it waits"
        (inbox / "answers").unlink()
        (inbox / "answers").mkdir()
        assert calls_of(answered(daemon, 1)["one"]) == {row["id"]: "false" for row in rows}
        daemon.drain()
    assert len(journaled(daemon)) == 1


@pytest.mark.parametrize("shift", [(0, 0), (9, -6)])
def test_crops_are_answered_as_pictures_are(small_bundle, small_boards, tmp_path, shift):
    rng, rows = np.random.default_rng(0), {}
    for kind in ("foreign_object", "good", "missing"):
        picture = picture_of(small_boards, kind)
        rows[kind] = rows_of_board(small_boards, picture, rng, within=(60, 60, 380, 260))
        deliver_crops(tmp_path / "in", kind, picture, rows[kind], shift)
    strange = rows_of_board(small_boards, picture_of(small_boards, "good"), rng, 1, (60, 60, 380, 260))
    noise = tmp_path / "noise.png"
    cv2.imwrite(str(noise), np.random.default_rng(1).integers(0, 255, (384, 512, 3), np.uint8))
    deliver_crops(tmp_path / "in", "strange", noise, strange)
    with gate(tmp_path, small_bundle, "false_below = 0.9\n") as daemon:
        found = answered(daemon, 4)
        daemon.drain()
    for kind, calls in rows.items():
        assert calls_of(found[kind]) == {one["id"]: EXPECTED[one["truth"]] for one in calls}, found[kind]
    assert [one["answer"] for one in found["strange"]["answers"]] == ["unsure"]
    assert "does not look like" in found["strange"]["answers"][0]["reason"]
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"answers", "done", "lock"}, (
        "crops are taken away, too"
    )


def test_what_the_other_machine_has_not_called(small_bundle, small_boards, tmp_path):
    picture = picture_of(small_boards, "foreign_object")
    rows = rows_of_board(small_boards, picture, np.random.default_rng(0))
    false = [row for row in rows if row["truth"] == "false"]
    results = {}
    for elsewhere in ("fail", "leave"):
        folder = tmp_path / elsewhere
        deliver(folder / "in", "board", picture, false)
        with gate(folder, small_bundle, f'elsewhere = "{elsewhere}"\n') as daemon:
            results[elsewhere] = answered(daemon, 1)["board"]
            daemon.drain()
        assert set(calls_of(results[elsewhere]).values()) == {"false"}
        assert results[elsewhere]["elsewhere"] == 1
        assert bool(read_journal(daemon.journal)[1][0].mask) == (elsewhere == "fail")
    assert (results["fail"]["result"], results["leave"]["result"]) == ("Failed", "Passed")


def test_a_call_that_is_not_sure_is_shown_where_defects_are(small_bundle, small_boards, tmp_path):
    picture = picture_of(small_boards, "good")
    deliver(tmp_path / "in", "edge", picture, [{"id": "A", "x": -20, "y": 10, "w": 60, "h": 40, "part": "R1"}])
    with gate(tmp_path, small_bundle) as daemon:
        found = answered(daemon, 1)["edge"]
        daemon.drain()
    assert found["result"] == "Failed" and found["reason"] == "1 call(s) unsure"
    assert found["answers"][0] | {"score": 0} == {
        "id": "A", "px": {"x": -20, "y": 10, "w": 60, "h": 40}, "class": "", "part": "R1", "truth": None,
        "answer": "unsure", "score": 0, "reason": "reaches beyond the picture",
    }  # fmt: skip
    (defect,) = journaled(daemon)[0]["InspectedUnits"][0]["Inspections"][0]["DefectsFound"]
    assert defect["DefectCode"] == "CALL_UNSURE"
    assert {key: defect["RegionOfInterest"]["px"][key] for key in "xywh"} == {"x": 0, "y": 10, "w": 40, "h": 40}
    assert read_journal(daemon.journal)[1][0].mask == b""


def test_programs_deliver_over_a_socket(small_bundle, small_boards, tmp_path):
    picture = picture_of(small_boards, "missing")
    rows = rows_of_board(small_boards, picture, np.random.default_rng(0))
    calls, data = json.dumps({"calls": rows}).encode(), picture.read_bytes()
    address = f"tcp://127.0.0.1:{free_port()}"
    with (
        gate(tmp_path, small_bundle, f'listen = "{address}"\n') as daemon,
        zmq.Context() as context,
        closing(context.socket(zmq.REQ)) as socket,
    ):
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 60_000)
        socket.connect(address)

        def say(head: dict, *frames: bytes) -> dict:
            socket.send_multipart([json.dumps(head).encode(), *frames])
            return json.loads(socket.recv())

        (tmp_path / "B-1.json").write_bytes(calls)
        shutil.copyfile(picture, tmp_path / "B-1.png")
        deliver_one = [sys.executable, EXAMPLE, address, tmp_path / "B-1.json", tmp_path / "B-1.png"]
        said = subprocess.run(
            [str(one) for one in deliver_one], capture_output=True, text=True, timeout=60, check=False
        )
        assert said.returncode == 1 and said.stdout.startswith("1 confirmed"), said
        head = {"name": "B-1.json", "files": ["B-1.png"], "wait": True}
        first = say(head, calls, data)
        assert first["result"] == "Failed"
        assert {one["id"]: one["answer"] for one in first["answers"]} == {r["id"]: EXPECTED[r["truth"]] for r in rows}
        assert say(head, calls, data) == first, "delivered again it has the answers that it had"
        assert say({**head, "wait": False}, calls, data) == first
        for wrong, frames in (
            ({"name": "../B.json", "files": [], "wait": True}, (calls,)),
            ({"name": "B.json", "files": ["x.json"]}, (calls, calls)),
            ({"name": "B.json", "files": ["B.png"]}, (calls,)),
            ({"name": "B.json", "files": ["B.png"]}, (b"[]", data)),
            ({"name": "B.json", "more": 1}, (calls,)),
            ({"name": ["B.json"]}, (calls,)),
            ({"name": "B.json", "files": ["C.png"]}, (calls, data)),
            ({"name": "B.json", "files": ["B.png", "C.png"]}, (calls, data, data)),
            ({"name": f"{'B' * 250}.json", "files": ["B.png"]}, (calls, data)),
        ):
            refused = say(wrong, *frames)
            assert refused["ok"] is False and refused["fix"], wrong
        assert say({"name": "later.json", "files": ["later.png"]}, calls, data)["answers"] is None
        assert set(answered(daemon, 2)) == {"B-1", "later"}
        other = picture_of(small_boards, "good").read_bytes()
        assert say(head, calls, other)["answers"] != first["answers"], "another picture is another board"
        daemon.drain()
    assert [body["seq"] for body in journaled(daemon)] == [1, 2, 3], "nothing was inspected twice, or for a refusal"
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"answers", "done", "lock"}, "refused, nothing stays"
    assert not (tmp_path / "B.json").exists()


def test_a_board_of_the_same_name_is_another_one_where_its_picture_is(small_bundle, small_boards, tmp_path):
    """Also where the line was away meanwhile: a reworked board has the serial number that it had."""
    rows, inbox = [{"id": "1", "x": 100, "y": 100, "w": 40, "h": 30}], tmp_path / "in"
    for number, kind in enumerate(("good", "foreign_object", "good"), 1):
        deliver(inbox, "SN", picture_of(small_boards, kind), rows)
        with gate(tmp_path, small_bundle) as daemon:
            while answered(daemon, 1)["SN"]["seq"] < number:
                time.sleep(0.02)
            daemon.drain()
    results = [body["InspectedUnits"][0]["OverallResult"] for body in journaled(daemon)]
    assert results == ["Passed", "Failed", "Passed"]


@pytest.mark.parametrize("done", ["move", "delete"])
def test_a_board_whose_picture_was_taken_away_before_the_end_is_answered(small_bundle, small_boards, tmp_path, done):
    """Killed between the picture and the calls: the next start knows the board, and ends what was begun."""
    rows, inbox = [{"id": "1", "x": 100, "y": 100, "w": 40, "h": 30}], tmp_path / "in"
    calls = deliver(inbox, "SN", picture_of(small_boards, "good"), rows)
    content = calls.read_bytes()
    with gate(tmp_path, small_bundle, f'done = "{done}"\n') as daemon:
        answered(daemon, 1)
        daemon.drain()
    assert sorted(path.name for path in (inbox / "done").iterdir()) == (["SN.json", "SN.png"] if done == "move" else [])
    calls.write_bytes(content)
    shutil.copyfile(picture_of(small_boards, "good"), inbox / "done" / "SN.png")
    (inbox / "done" / "SN.json").unlink(missing_ok=True)
    with gate(tmp_path, small_bundle, f'done = "{done}"\n') as daemon:
        answered(daemon, 1)
        daemon.drain()
    assert len(journaled(daemon)) == 1 and not calls.exists()


def test_what_changes_while_it_is_answered_is_inspected_again(small_bundle, small_boards, tmp_path):
    rows, inbox = [{"id": "1", "x": 100, "y": 100, "w": 40, "h": 30}], tmp_path / "in"
    with gate(tmp_path, small_bundle) as daemon:
        daemon.up()
        (inbox / "answers").rmdir()
        (inbox / "answers").write_text("in the way")
        deliver(inbox, "SN", picture_of(small_boards, "good"), rows)
        end = time.monotonic() + 30
        while not daemon.logged("answers not written") and time.monotonic() < end:
            time.sleep(0.02)
        deliver(inbox, "SN", picture_of(small_boards, "foreign_object"), rows)
        (inbox / "answers").unlink()
        (inbox / "answers").mkdir()
        while not (tmp_path / "in/done/SN.json").exists() and time.monotonic() < end:
            time.sleep(0.02)
        daemon.drain()
    results = [body["InspectedUnits"][0]["OverallResult"] for body in journaled(daemon)]
    assert results[0] == "Passed" and results[-1] == "Failed" and len(results) <= 3
    assert answers_of(inbox / "answers")["SN"]["result"] == "Failed"


def test_boards_wait_for_the_end_of_a_pause(small_bundle, small_boards, tmp_path):
    with gate(tmp_path, small_bundle) as daemon:
        daemon.up()
        daemon.ask("pause")
        deliver(tmp_path / "in", "SN", picture_of(small_boards, "good"), [])
        daemon.until(lambda status: status["paused"])
        for _ in range(20):  # several times the time in which it is looked for boards
            assert daemon.ask("status")["seq"] == 0 and (tmp_path / "in/SN.json").exists()
            time.sleep(0.05)
        daemon.ask("resume")
        assert answered(daemon, 1)["SN"]["result"] == "Passed"
        daemon.drain()


def test_calls_of_one_stem_in_both_forms_and_a_name_that_is_too_long(small_bundle, small_boards, tmp_path):
    inbox = tmp_path / "in"
    deliver(inbox, "b", picture_of(small_boards, "good"), [])
    (inbox / "b.csv").write_text("id,x,y,w,h,picture\n7,10,10,30,30,c.png\n")
    shutil.copyfile(picture_of(small_boards, "good"), inbox / "c.png")
    (inbox / f"{'n' * 240}.json").write_text('{"calls": []}')
    (inbox / "done").mkdir()
    (inbox / "done" / "a.json").mkdir()
    deliver(inbox, "a", picture_of(small_boards, "good"), [])
    with gate(tmp_path, small_bundle) as daemon:
        end = time.monotonic() + 30
        while len(answers_of(inbox / "answers")) < 3 and time.monotonic() < end:
            time.sleep(0.02)
        found = answers_of(inbox / "answers")
        assert (
            set(found) == {"a", "b", "b.csv"} and set(calls_of(found["b.csv"])) == {"7"} and not found["b"]["answers"]
        )
        assert (inbox / "answers" / "b.csv").read_text().startswith("id,answer")
        assert daemon.logged("a file of calls is passed over: its name is too long, or two suffixes")
        daemon.drain()
    with gate(tmp_path, small_bundle) as daemon:
        daemon.up()  # what could not be taken away does not keep it from starting
        daemon.drain()
    assert len(journaled(daemon)) == 3


def test_folders_that_cannot_be_are_refused_at_the_start(small_bundle, tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
    with gate(tmp_path / "a", small_bundle, f'answers = "{tmp_path}/a/in"\n') as daemon:
        assert daemon.ended() == 2 and "in a folder of its own" in daemon.tail()
    with gate(tmp_path / "b", small_bundle) as first:
        first.up()
        other = gate(tmp_path / "c", small_bundle)
        other.config.write_text(other.config.read_text().replace(f"{tmp_path}/c/in", f"{tmp_path}/b/in"))
        with other as second:
            assert second.ended() == 2 and "which another line takes boards from" in second.tail()
        first.drain()


def test_the_command_line_answers_and_counts(small_bundle, small_boards, tmp_path):
    rows = delivered_boards(small_boards, tmp_path / "in")
    before = sorted(path.name for path in (tmp_path / "in").iterdir())
    run = CliRunner().invoke(app, ["calls", "try", str(tmp_path / "in"), "--bundle", str(small_bundle), "--out",
                                   str(tmp_path / "out"), "--json"])  # fmt: skip
    assert run.exit_code == 0, run.output
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == before, "the folder stays as it is"
    counted = json.loads(run.output[run.output.index("{\n") :])
    every = [row for calls in rows.values() for row in calls]
    assert (counted["calls"], counted["boards"]) == (len(every), len(rows))
    false = sum(row["truth"] == "false" for row in every)
    assert false - 4 <= counted["false"] <= counted["known_false"] == false
    assert counted["let_through"] == [] and counted["boards_without_look"] <= 4 and not counted["boards_error"]
    table = tmp_path / "truth.csv"
    table.write_text("delivery;id;truth\ngood-000.json;1;real\ngood-000.json;2;\nlong-ago.json;1;false\n")
    run = CliRunner().invoke(app, ["calls", "count", str(tmp_path / "out"), "--truth", str(table), "--json"])
    assert "1 call(s)" in run.stderr
    assert json.loads(run.stdout)["let_through"] == [{"delivery": "good-000.json", "id": "1", "class": "good"}]
    table.write_text("delivery,id,truth\ngood-000.json,1,real\ngood-000.json,1,false\n")
    run = CliRunner().invoke(app, ["calls", "count", str(tmp_path / "out"), "--truth", str(table)])
    assert "expected one truth" in str(run.exception)
    shutil.rmtree(tmp_path / "out")
    run = CliRunner().invoke(app, ["calls", "count", str(tmp_path / "out")])
    assert run.exit_code != 0 and "expected a folder of answers" in str(run.exception)
