"""Training by several processes under torchrun, on one machine and on two that share nothing but the network."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from support.sockets import free_port
from support.training import small_settings

from hisir_edge.learn.data.run import load_checkpoint
from hisir_edge.learn.training.train import train

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
TWO_HERE = [*TORCHRUN, "--nproc-per-node", "2", "--standalone", "-m", "hisir_edge"]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def options(boards: Path, run: Path, steps: int) -> list[str]:
    return [
        "train", "--data", str(boards), "--out", str(run), "--width", "8", "--tile", "128", "--batch", "2",
        "--scale", "1", "--steps", str(steps),
    ]  # fmt: skip


def done_by_two_here(boards: Path, run: Path, steps: int) -> None:
    """CPU processes over gloo stand for GPUs over nccl: the same code apart from the device."""
    done = subprocess.run(
        [*TWO_HERE, *options(boards, run, steps)],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **ONE_THREAD},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("learnt from") == 1, "one process speaks"
    assert load_checkpoint(run)["step"] == steps


# a second call finds it finished
@pytest.mark.parametrize("calls", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_processes_under_torchrun_train_one_network(small_boards, tmp_path, calls):
    run = tmp_path / "run"
    for _ in range(calls):
        done_by_two_here(small_boards, run, 8)
    alone = tmp_path / "alone"
    train(small_settings(small_boards, 8), alone, workers=0)

    a, b = load_checkpoint(run)["net"], load_checkpoint(alone)["net"]
    assert not all(torch.equal(a[k], b[k]) for k in a), "two processes see more tiles than one"


@contextlib.contextmanager
def agent(port: int, log: Path, command: list[str], hidden: tuple[Path, ...] = ()) -> Iterator[psutil.Popen]:
    """One machine's torchrun; ``hidden``: folders that this machine does not see, each empty there."""
    whole = [
        *TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "9", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "boards", "--local-addr", "127.0.0.1", "-m", "hisir_edge",
        *command,
    ]  # fmt: skip
    if hidden:
        mounts = " && ".join(f"mount -t tmpfs none '{folder}'" for folder in hidden)
        whole = ["unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh", *whole]
    with log.open("wb") as file:
        process = psutil.Popen(whole, stdout=file, stderr=file, env={**os.environ, **ONE_THREAD})
    try:
        yield process
    finally:
        for one in (*process.children(recursive=True), process) if process.is_running() else ():
            with contextlib.suppress(psutil.Error):
                one.kill()
        process.wait()


def trainer_of(process: psutil.Popen) -> psutil.Process | None:
    """The rank that an agent has started."""
    with contextlib.suppress(psutil.Error):
        for one in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "hisir_edge" in one.cmdline() and "torch.distributed.run" not in one.cmdline():
                    return one
    return None


def steps_logged(run: Path) -> int:
    rows = (run / "log.csv").read_text().splitlines() if (run / "log.csv").exists() else []
    return int(rows[-1].split(",")[0]) if len(rows) > 1 and rows[-1].count(",") == 4 else 0


def test_two_machines_train_as_two_processes_do_over_kills(small_boards, tmp_path):
    """The second machine has neither boards nor run. A rank is killed on each; both go on from the last epoch."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no right to make a mount namespace here")
    steps = 230
    one, home, away, boards = (tmp_path / name for name in ("one", "home", "away", "boards"))
    for folder in (home, away):
        folder.mkdir()
    shutil.copytree(small_boards, boards)
    done_by_two_here(boards, one, steps)
    run, port = home / "run", free_port()
    first = agent(port, tmp_path / "first.log", options(boards, run, steps))
    second = agent(port, tmp_path / "second.log", options(boards, run, steps), hidden=(boards, home))
    left = set(Path(tempfile.gettempdir()).glob("hisir-train-*"))
    with first as a, second as b:
        for victim, at in ((b, 200), (a, 200)):
            before = (run / "checkpoint.pt").stat().st_mtime_ns if (run / "checkpoint.pt").exists() else 0
            end = time.monotonic() + 120
            while steps_logged(run) < at or not (run / "checkpoint.pt").exists():
                assert time.monotonic() < end, (tmp_path / "first.log").read_text()[-3000:]
                assert a.is_running()
                time.sleep(0.02)
            found = trainer_of(victim)
            assert found is not None, before
            found.kill()
            (run / "log.csv").unlink()  # what is logged from now on is of the next beginning
        for process, log in ((a, "first.log"), (b, "second.log")):
            assert process.wait(120) == 0, (tmp_path / log).read_text()[-3000:]
    assert (tmp_path / "first.log").read_text().count("learnt from") == 1
    assert (tmp_path / "second.log").read_text().count("learnt from") == 0
    assert set(Path(tempfile.gettempdir()).glob("hisir-train-*")) == left, "what was sent is deleted"
    assert "one that is gone" in (tmp_path / "first.log").read_text()
    whole, killed = load_checkpoint(one), load_checkpoint(run)
    assert killed["step"] == steps
    for part in ("net", "average", "best"):
        assert all(torch.equal(whole[part][name], killed[part][name]) for name in whole[part]), part


def test_a_refusal_under_torchrun_is_one_line(tmp_path):
    done = subprocess.run(
        [*TWO_HERE, "train", "--data", "/nowhere", "--out", str(tmp_path / "r")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "hisir-edge: expected a folder" in done.stderr
    assert not (tmp_path / "r").exists()
