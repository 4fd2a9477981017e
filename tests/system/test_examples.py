"""Subscribers in other languages, on libraries that nobody here wrote: they receive, check the schema, ask for gaps."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
import zmq
from support.examples import ROOT, build_in_c, node_example
from support.journal_line import JournalLine
from support.messages import sample_message
from support.sockets import free_port

from hisir_edge.line.journal.reading import read_journal
from hisir_edge.transport.curve_keys import write_keys

SCHEMA = ROOT / "hisir_edge" / "mes" / "verdict.schema.json"
COUNT = 300


@contextlib.contextmanager
def line(folder: Path, keys: Path | None = None):
    """A line that has given some verdicts before anybody listens, and gives more."""
    one = JournalLine(folder, 100, keys)
    with one.started(10**6, there=60):
        yield one.verdicts, one.control


def check(folder: Path, output: str) -> None:
    epoch, entries, _ = read_journal(folder)
    expected = [f"{epoch} {e.seq} {len(e.mask)}" for e in entries[:COUNT]]
    assert output.splitlines() == expected


def refuses(command: list, folder: Path) -> None:
    """What is no verdict by the schema ends the subscriber: its library does look."""
    context = zmq.Context()
    publisher = context.socket(zmq.XPUB)
    publisher.linger = 0
    try:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        ends = [f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{free_port()}"]
        command = [str(part) for part in [*command, *ends, SCHEMA, 1]]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert publisher.poll(20_000)
            message = sample_message(1)
            message.body["InspectedUnits"][0]["OverallResult"] = "Perhaps"
            publisher.send_multipart(message.frames())
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
        assert (process.returncode, out) == (1, "")
        assert "no verdict by the schema" in err
    finally:
        publisher.close()
        context.term()


def test_in_c(tmp_path):
    build_in_c(tmp_path)
    with line(tmp_path / "journal") as (verdicts, control):
        command = [tmp_path / "subscribe", verdicts, control, SCHEMA, str(COUNT)]  # type: ignore[assignment]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "journal", done.stdout)
    refuses([tmp_path / "subscribe"], tmp_path)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    return node_example(tmp_path_factory.mktemp("node"))


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "with keys"])
def test_in_node(node, tmp_path, keyed):
    keys = None
    if keyed:
        keys = tmp_path / "keys"
        write_keys(keys, ("line", "mes"))
        (keys / "clients").mkdir()
        shutil.copy(keys / "mes.key", keys / "clients")
    with line(tmp_path / "journal", keys) as (verdicts, control):
        curve = [keys / "line.key", keys / "mes.key_secret"] if keys else []
        command = ["node", "subscribe.js", verdicts, control, SCHEMA, str(COUNT), *curve]
        done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "journal", done.stdout)
    if not keyed:
        refuses(["node", "subscribe.js"], node)
