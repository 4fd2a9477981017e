"""The daemon where its surroundings fail: its journal taken away, told to end while it loads; and what it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import referencing
import zmq
from support.commands import here
from support.daemon import JOURNAL, WatchedDaemon
from support.messages import facts
from support.paths import ROOT

from hisir_edge.errors import InputError
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.line.sockets.requests import CODES

SCHEMAS = ROOT / "hisir_edge" / "mes"
GOLDEN = ROOT / "tests" / "data" / "protocol"


def validator(name: str) -> jsonschema.Draft202012Validator:
    """``name``: a file beside the others, or a place in it; what it refers to is found beside it."""
    file, _, place = name.partition("#")

    beside = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.schema.json")}
    registry: referencing.Registry = referencing.Registry().with_contents(beside.items())
    return jsonschema.Draft202012Validator(
        {"$ref": f"{file}#{place}"}, registry=registry, format_checker=jsonschema.FormatChecker()
    )


def frozen(name: str, value: dict) -> None:
    """As ``name`` was frozen: the same keys; HISIR_FREEZE=1 freezes it."""
    path = GOLDEN / f"{name}.json"
    if os.environ.get("HISIR_FREEZE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value, indent=1) + "\n")
    assert set(json.loads(path.read_text())) == set(value), f"{name}: other keys are another version"


def test_every_answer_heartbeat_and_verification_follows_its_schema(small_bundle, small_boards, tmp_path):
    context = zmq.Context()
    dealer, live = context.socket(zmq.DEALER), context.socket(zmq.SUB)
    for one in (dealer, live):
        one.linger, one.rcvtimeo = 0, 20_000
    live.subscribe("heartbeat/")
    live.subscribe("verification/")
    try:
        tables = f'{JOURNAL}[archive]\nkeep = "all"\n'
        with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "missing", "software", tables) as line:
            line.until(lambda s: s["state"] == "Ready")
            dealer.connect(line.control)
            live.connect(line.endpoint)

            def asked(do: str, **more) -> dict:
                dealer.send_multipart([b"my-17", b"", json.dumps({"do": do, **more}).encode()])
                name, empty, text, *_ = dealer.recv_multipart()
                assert (name, empty) == (b"my-17", b""), "what leads a request leads its answer"
                answer = json.loads(text)
                validator(f"answer.schema.json#/$defs/{do if answer['ok'] else 'refusal'}").validate(answer)
                validator("answer.schema.json#").validate(answer)
                return answer

            accepted = asked("trigger", unit="B-1")
            assert line.wait(1)[0]["unit"] == "B-1"
            line.until(lambda s: s["archive"]["boards"] == 1)
            for do, more in (
                ("replay", {}), ("snapshot", {"unit": "B-1"}), ("status", {}), ("select", {"product": "p3"}),
                ("ack", {"name": "mes", "epoch": accepted["epoch"], "seq": 1}), ("forget", {"name": "mes"}),
                ("verify", {"epoch": accepted["epoch"], "seq": 1, "verification": "DefectRejected", "operator": "J"}),
                ("decisions", {}), ("archived", {}), ("archived_board", {"seq": 1}), ("bundle_file", {}),
                ("pause", {}), ("resume", {}),
            ):  # fmt: skip
                answer = asked(do, **more)
                assert answer["ok"], answer
                frozen(do, answer)
            frozen("trigger", accepted)
            said, of = {"who": "J", "why": "a test"}, asked("bundle_file")["bundle_sha256"]
            for do, more in (
                ("revise", {"of_sha256": of, "strength": 1.1}), ("activate", {"number": 1}), ("take_back", {}),
                ("add_revision", {"bundle": str(small_bundle)}),
            ):  # fmt: skip
                answer = asked(do, **said, **more)
                assert answer["ok"], answer
                frozen(do, answer)
                if do == "activate":
                    asked("revisions")  # while it is being done
                line.until(lambda s: s["busy"] is None and not s["last"]["refused"], "revisions")
            frozen("revisions", asked("revisions"))
            assert asked("activate", number=9, **said)["code"] == "unknown"
            assert asked("announce", unit="B")["code"] == "wrong_mode"
            assert asked("select", product="no")["code"] == "unknown"
            assert asked("verify", epoch="0", seq=1, verification="DefectRejected", operator="J")["code"] == "unknown"
            asked("pause")
            refused = asked("trigger")
            assert (refused["code"], refused["again"]) == ("paused", True)
            frozen("refusal", refused)
            asked("resume")
            seen = {}
            while len(seen) < 2:
                topic, text = live.recv_multipart()
                seen[topic.decode().partition("/")[0]] = json.loads(text)
            for name, body in seen.items():
                validator(f"{name}.schema.json#").validate(body)
                frozen(name, body)
            assert set(CODES) == set(
                json.loads((SCHEMAS / "answer.schema.json").read_text())["$defs"]["refusal"]["properties"]["code"][
                    "examples"
                ]
            )
            asked("drain")
            assert line.ended() == 0
    finally:
        dealer.close()
        live.close()
        context.term()


def test_golden_messages_of_the_protocol_are_valid():
    names = sorted(path.stem for path in GOLDEN.iterdir())
    assert {"replay", "status", "refusal", "heartbeat", "verification", "trigger"} <= set(names)
    for name in names:
        body = json.loads((GOLDEN / f"{name}.json").read_text())
        own = name in ("heartbeat", "verification")
        validator(f"{name}.schema.json#" if own else f"answer.schema.json#/$defs/{name}").validate(body)


def test_a_journal_that_is_deleted_stops_the_line_with_a_reason(small_bundle, small_boards, tmp_path):
    with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "good", "software", JOURNAL) as line:
        line.until(lambda s: s["state"] == "Ready")
        line.ask("trigger", unit="B-1")
        first = line.wait(1)[0]
        for path in line.journal.glob("journal.sqlite*"):
            path.unlink()
        status = line.until(lambda s: s["state"] == "Error")
        assert "journal was deleted or moved away" in status["journal_error"]
        with pytest.raises(InputError, match="deleted or moved away"):
            line.ask("trigger", unit="B-2")
        assert line.logged("nothing can be journaled")
        line.process.send_signal(signal.SIGTERM)
        assert line.ended() == 0
    with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "good", "software", JOURNAL) as line:
        line.until(lambda s: s["state"] == "Ready")
        line.ask("trigger", unit="B-2")
        again = line.wait(1)[0]
        assert (again["seq"], again["epoch"] != first["epoch"]) == (1, True)
        line.drain()
    assert [facts(json.loads(entry.body))["unit"] for entry in read_journal(line.journal)[1]] == ["B-2"]


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_told_to_end_while_it_loads_it_ends_with_a_line_and_no_error(small_bundle, small_boards, tmp_path, after_s):
    config = tmp_path / "line.toml"
    config.write_text(
        f'[bundle]\npath = "{small_bundle}"\n[source]\ntype = "replay"\nfolder = "{small_boards / "test" / "good"}"\n'
        f'[publish]\nendpoint = "ipc://{tmp_path}/v"\nwait_for_subscribers = 1\n'
    )
    # the signal is sent once the interpreter has read the first file of ours
    code = (
        "import sys; sys.argv = ['hisir-edge', 'run', '--config', sys.argv[1]]; from hisir_edge.__main__ import main; "
    )
    code += "print('up', flush=True); main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "up\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(max(after_s, 0.02))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (0, "")
    assert "ended as it was told to" in err or "stopped" in err
    assert "Traceback" not in err


def test_a_later_bundle_is_refused_by_its_schema_number(small_bundle, tmp_path):
    manifest = json.loads((small_bundle / "manifest.json").read_text())
    for change, words in (
        ({"schema_version": 5, "something_new": {"a": 1}, "software_version": "9.1"}, "version 5 in"),
        ({"something_new": 1}, "schema version 4"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, **change}))
        done = here("inspect", "--bundle", tmp_path, small_bundle / "golden.jpg", "--out", tmp_path / "out")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr
    text = json.dumps(manifest)
    (tmp_path / "manifest.json").write_text('{"schema_version": 4, ' + text[1:])
    done = here("inspect", "--bundle", tmp_path, small_bundle / "golden.jpg", "--out", tmp_path / "out")
    assert "the key 'schema_version' twice" in done.stderr


def test_classes_that_do_not_fit_are_named_at_once(tmp_path):
    done = here("synth", "--product", 11, "--size", "512x384", "--good", 1, "--defective", 12, "--out", tmp_path / "s")
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()[-1]  # the line before is the progress bar's
    assert "no room for" in said
    assert "solder_bridge" in said
    assert "or --classes " in said
    assert not list(Path(tmp_path / "s").rglob("*.png"))
