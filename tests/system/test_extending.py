"""A camera, a sink, a backbone and a bundle target are one file and one line each: added to a copy of the package.

The files are those of docs/how-to/extend.md, to the letter.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import here
from support.journal_line import JournalLine
from support.messages import facts, sample_message

import hisir_edge
from hisir_edge.config.kept import JournalTable
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.line.journal.records import Entry
from hisir_edge.line.journal.store import Journal

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "how-to" / "extend.md"
FILE = re.compile(r"`hisir_edge/([\w/]+\.py)`:\n+```python\n(.*?)```", re.DOTALL)
LINE = re.compile(r"in `([A-Z]+)`:\n+```python\n(.*?)\n```", re.DOTALL)


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A folder with a copy of the package, and in it the four files and lines of the guide."""
    folder = tmp_path_factory.mktemp("extended")
    package = Path(hisir_edge.__file__).parent
    shutil.copytree(package, folder / "hisir_edge", ignore=shutil.ignore_patterns("__pycache__", "*.fatbin"))
    text = GUIDE.read_text()
    files, lines = FILE.findall(text), LINE.findall(text)
    assert len(files) == len(lines) == 4
    for name, content in files:
        assert not (folder / "hisir_edge" / name).exists()
        (folder / "hisir_edge" / name).write_text(content)
    registry = folder / "hisir_edge" / "registry.py"
    for table, line in lines:
        assert len(line.splitlines()) == 1
        registry.write_text(registry.read_text().replace(f"\n{table} = {{\n", f"\n{table} = {{\n    {line}\n"))
        assert line in registry.read_text()
    return folder


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hisir_edge", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=environment, check=False, cwd=folder
    )


def test_a_camera(extended, small_bundle, tmp_path):
    config = tmp_path / "line.toml"
    config.write_text(
        f'[bundle]\npath = "{small_bundle}"\n[journal]\nfolder = "journal"\n'
        '[source]\ntype = "grey"\nwidth = 512\nheight = 384\nframes = 3\n'
        f'[publish]\nendpoint = "ipc://{tmp_path}/v"\n'
    )
    done = run(extended, "run", "--config", config)
    assert done.returncode == 0, done.stderr
    _, entries, left = read_journal(tmp_path / "journal")
    found = [facts(json.loads(entry.body)) for entry in entries]
    assert [one["seq"] for one in found] == [1, 2, 3] and left == []
    assert {one["views"][0]["source"] for one in found} == {"grey"}
    config.write_text(config.read_text().replace("frames = 3", 'frames = "many"'))
    refused = run(extended, "run", "--config", config)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "source.frames" in refused.stderr


def test_a_sink(extended, tmp_path):
    with Journal(tmp_path / "journal", JournalTable()) as journal:
        for seq in range(1, 4):
            message = sample_message(seq, journal.epoch, seq == 2)
            topic, body, mask = message.frames()
            journal.record(
                [Entry(seq=seq, topic=topic.decode(), body=body, mask=mask, source="cam", unit=message.unit)]
            )
    line, out = JournalLine(tmp_path / "journal"), tmp_path / "verdicts.csv"
    with line.started(3):
        done = run(
            extended, "forward", line.verdicts, "--control", line.control, "--to", "csv", "--target", out, "--state",
            tmp_path / "state", "--from-beginning", "--count", 3,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [row.split(",") for row in out.read_text().splitlines()]
    assert [(row[1], row[2], row[3]) for row in rows] == [
        ("1", "unit-1", "PASS"), ("2", "unit-2", "FAIL"), ("3", "unit-3", "PASS")
    ]  # fmt: skip


def test_a_backbone(extended, small_boards, tmp_path):
    done = run(
        extended, "train", "--data", small_boards / "train" / "good", "--out", tmp_path / "run", "--backbone", "plain",
        "--tile", 128, "--steps", 2, "--batch", 2, "--workers", 0, "--scale", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["settings"]["backbone"], record["settings"]["width"]) == ("plain", 8)


def test_a_target(extended, small_run, small_boards, tmp_path):
    done = run(
        extended, "build-engine", small_run, "--out", tmp_path / "bundle", "--target", "one-session", "--precision",
        "fp32", "--false-calls-per-board", 0.2, "--least-planted-recall", 0.5,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "bundle" / "manifest.json").read_text())["target"] == "one-session"
    boards = [min((small_boards / "test" / kind).iterdir()) for kind in ("good", "missing")]
    done = run(extended, "inspect", *boards, "--bundle", tmp_path / "bundle", "--out", tmp_path / "out")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["PASS", "FAIL"], done.stdout + done.stderr
    refused = here("inspect", boards[0], "--bundle", tmp_path / "bundle", "--out", tmp_path / "out2")
    assert refused.returncode == 2 and "or 'tensorrt-rtx'" in refused.stderr, "without its line it is unknown"
