"""Subscribers in other languages, on libraries that nobody here wrote: they receive, check the schema, ask for gaps."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
import zmq
from support.journal_line import JournalLine
from support.messages import sample_message
from support.sockets import free_port

from hisir_edge.line.journal.reading import read_journal
from hisir_edge.transport.curve_keys import write_keys

ROOT = Path(__file__).parents[2]
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
    compilers = [shutil.which(name) for name in ("cc", "c++")]
    headers = [Path("/usr/include") / h for h in ("zmq.h", "valijson/validator.hpp", "nlohmann/json.hpp")]
    if None in compilers or not all(h.exists() for h in headers):
        pytest.skip("no libzmq3-dev, libvalijson-dev, nlohmann-json3-dev or no compiler here")
    source = ROOT / "examples" / "c"
    for command in (
        ("cc", "-Wall", "-Wextra", "-Werror", "-c", source / "subscribe.c"),
        ("c++", "-std=c++17", "-c", source / "schema.cpp"),
        ("c++", "-o", "subscribe", "subscribe.o", "schema.o", "-lzmq"),
    ):
        subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    with line(tmp_path / "journal") as (verdicts, control):
        command = [tmp_path / "subscribe", verdicts, control, SCHEMA, str(COUNT)]  # type: ignore[assignment]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "journal", done.stdout)
    refuses([tmp_path / "subscribe"], tmp_path)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """The example with its packages, installed once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js and npm here")
    folder = tmp_path_factory.mktemp("node")
    for file in (ROOT / "examples" / "node").iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    command = ["npm", "ci", "--silent", "--no-fund", "--no-audit"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip(f"npm packages cannot be installed here: {done.stderr[-200:]}")
    return folder


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
