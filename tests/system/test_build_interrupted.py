"""A build that is killed, ended or disturbed leaves what was there."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.building import RATE, hisir, manifest_of, one_line, wait_for
from support.commands import here

from hisir_edge.bundle.files import MANIFEST
from hisir_edge.bundle.integrity import sha256_of
from hisir_edge.bundle.load import load_bundle
from hisir_edge.engine.build import build_bundle
from hisir_edge.engine.options import BuildOptions
from hisir_edge.errors import InputError


def test_a_killed_build_leaves_the_old_bundle(small_run, small_bundle, tmp_path):
    out = tmp_path / "b"
    shutil.copytree(small_bundle, out)
    before = sha256_of(out / MANIFEST)
    command = [sys.executable, "-m", "hisir_edge", "build-engine", str(small_run), *map(str, RATE), "--out", str(out)]
    for word, more in (("calibration tiles", ()), ("self-test", ("--precision", "fp32"))):  # int8 comes to it late
        with subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True, start_new_session=True) as build:
            assert build.stderr is not None
            for line in build.stderr:
                if word in line:
                    break
            os.kill(build.pid, signal.SIGKILL)
            build.stderr.read()
        assert build.returncode == -signal.SIGKILL
        load_bundle(out)
        assert sha256_of(out / MANIFEST) == before
    assert [p for p in tmp_path.iterdir() if ".new." in p.name], "a kill leaves its working folders"
    done = hisir("build-engine", small_run, *RATE, "--precision", "fp32", "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"], "the next build sweeps them"
    assert sha256_of(out / MANIFEST) != before
    load_bundle(out)


def test_a_folder_that_is_no_bundle_of_ours_is_never_replaced(small_run, small_bundle, tmp_path):
    web, more = tmp_path / "web", tmp_path / "more"
    web.mkdir()
    (web / MANIFEST).write_text('{"name": "a web application", "files": {}}')
    (web / "notes.txt").write_text("mine")
    shutil.copytree(small_bundle, more)
    (more / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (web, more, tmp_path / "file", Path("/")):
        with pytest.raises(InputError, match="a new folder or an old bundle"):
            build_bundle(small_run, out, BuildOptions(least_planted_recall=0.5))
    assert (web / "notes.txt").read_text() == (more / "notes.txt").read_text() == "mine"


def test_a_link_to_a_bundle_stays_a_link(small_run, small_bundle, tmp_path):
    shutil.copytree(small_bundle, tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    build_bundle(
        small_run,
        tmp_path / "current",
        BuildOptions(least_planted_recall=0.5, precision="fp32", false_calls_per_board=0.2),
    )
    assert (tmp_path / "current").is_symlink()
    assert manifest_of(tmp_path / "v1")["precision"] == "fp32"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "v1"]


def test_a_build_sweeps_its_own_leftovers_alone(small_run, tmp_path):
    ours, others = tmp_path / ".b.new.abcd1234", tmp_path / ".b.new.x.new.abcd1234"
    ours.mkdir()
    others.mkdir()
    build_bundle(
        small_run, tmp_path / "b", BuildOptions(least_planted_recall=0.5, precision="fp32", false_calls_per_board=0.2)
    )
    assert not ours.exists() and others.exists()


def test_a_second_build_into_the_same_folder_is_refused(small_run, tmp_path):
    with (tmp_path / ".b.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = one_line(here("build-engine", small_run, "--out", tmp_path / "b"))
    assert "no other build into" in said
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_told_to_end_leaves_nothing(small_run, tmp_path, started, number):
    command = [
        sys.executable,
        "-m",
        "hisir_edge",
        "build-engine",
        str(small_run),
        *map(str, RATE),
        "--out",
        str(tmp_path / "b"),
    ]
    build = started(command, number, stderr=subprocess.PIPE)
    wait_for(build, "float32 on held-out boards")
    os.kill(build.pid, number)
    assert "Traceback" not in build.communicate(timeout=60)[1]
    assert build.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_what_is_put_into_the_folder_meanwhile_is_kept(small_run, tmp_path):
    out = tmp_path / "b"

    def put(stage: str) -> None:
        if stage == "self-test":
            out.mkdir()
            (out / "notes.txt").write_text("mine")

    with pytest.raises(InputError, match=r"other files, such as notes\.txt"):
        build_bundle(
            small_run, out, BuildOptions(least_planted_recall=0.5, precision="fp32", false_calls_per_board=0.2), put
        )
    assert [p.name for p in tmp_path.rglob("*")] == ["b", "notes.txt"]


def test_a_build_under_nohup_outlives_its_terminal(small_run, tmp_path, started):
    command = [sys.executable, "-m", "hisir_edge", "build-engine", str(small_run), *map(str, RATE)]
    command += ["--precision", "fp32", "--out", str(tmp_path / "b")]
    build = started(command, signal.SIGHUP, signal.SIG_IGN, stderr=subprocess.PIPE)
    wait_for(build, "float32 on held-out boards")
    os.kill(build.pid, signal.SIGHUP)
    build.communicate(timeout=250)
    assert build.returncode == 0
    load_bundle(tmp_path / "b")
