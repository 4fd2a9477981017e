"""Clients proved by the kit of tests/conformance, and a kit that tells clients that do not follow the protocol."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from support.examples import ROOT, build_in_c, node_example
from support.paths import environment

KIT = ROOT / "tests" / "conformance"


def led(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, KIT / "run.py", *options]
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600, check=False, env=environment()
    )


def test_the_python_client_is_proved(tmp_path):
    command = (sys.executable, KIT / "python_client.py", "{verdicts}", "{control}", "{count}", "{state}")
    done = led("--durable", "--log", tmp_path / "log", "--", *command)
    assert done.returncode == 0, done.stdout + (tmp_path / "log").read_text()[-2000:]
    assert done.stdout.count("passed") == 18


def test_the_example_in_c_is_proved(tmp_path):
    build_in_c(tmp_path)
    done = led(
        "--log", tmp_path / "log", "--", tmp_path / "subscribe", "{verdicts}", "{control}", "{schema}", "{count}"
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("passed") == 17


def test_the_example_in_node_is_proved(tmp_path):
    node = node_example(tmp_path)
    command = ("node", node / "subscribe.js", "{verdicts}", "{control}", "{schema}", "{count}")
    done = led("--log", tmp_path / "log", "--", *command)
    assert done.returncode == 0, done.stdout + (tmp_path / "log").read_text()[-2000:]
    assert done.stdout.count("passed") == 17


NAIVE = textwrap.dedent(
    """
    import json, sys, zmq
    socket = zmq.Context().socket(zmq.SUB)
    socket.connect(sys.argv[1])
    socket.setsockopt(zmq.SUBSCRIBE, b"verdict/")
    last = 0
    for _ in range(int(sys.argv[2])):
        topic, text, mask = socket.recv_multipart()
        body = json.loads(text)
        if {keep} or body["seq"] > last:
            print(body["epoch"], body["seq"], len(mask), flush=True)
            last = body["seq"]
    """
)


@pytest.mark.parametrize(
    ("keep", "scenario", "wrong"),
    [("True", "gap", "verdict 4 of 10"), ("True", "again", "verdict 5 of 8"), ("False", "late", "verdict 1 of 20"),
     ("True", "live", "")],
)  # fmt: skip
def test_a_client_that_does_not_follow_the_protocol_is_told_apart(tmp_path, keep, scenario, wrong):
    client = tmp_path / "naive.py"
    client.write_text(NAIVE.replace("{keep}", keep))
    done = led("--only", scenario, "--limit-s", 8, "--", sys.executable, client, "{verdicts}", "{count}")
    assert (done.returncode, "FAILED" in done.stdout) == (int(bool(wrong)), bool(wrong)), done.stdout
    assert wrong in done.stdout


def test_the_kit_needs_nothing_of_ours():
    """A vendor copies the folder, the messages and the schema: pyzmq is all that it takes."""
    for file in ("run.py", "scenarios.py", "scripted_line.py"):
        assert "import hisir_edge" not in (KIT / file).read_text()
        assert "from hisir_edge" not in (KIT / file).read_text()
