"""Training by several processes under torchrun."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from support.training import small_settings

from hisir_edge.learn.data.run import load_checkpoint
from hisir_edge.learn.training.train import train


# a second call finds it finished
@pytest.mark.parametrize("calls", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_processes_under_torchrun_train_one_network(small_boards, tmp_path, calls):
    """CPU processes over gloo stand for GPUs over nccl: the same code apart from the device."""
    run = tmp_path / "run"
    options = ["train", "--data", small_boards, "--out", run, "--width", 8, "--tile", 128, "--batch", 2, "--scale", 1]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
        "hisir_edge",
    ]
    for _ in range(calls):
        done = subprocess.run(
            [*launcher, *map(str, options), "--steps", "8"],
            capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("learnt from") == 1, "one process speaks"
        assert load_checkpoint(run)["step"] == 8
    alone = tmp_path / "alone"
    train(small_settings(small_boards, 8), alone, workers=0)

    a, b = load_checkpoint(run)["net"], load_checkpoint(alone)["net"]
    assert not all(torch.equal(a[k], b[k]) for k in a), "two processes see more tiles than one"


def test_a_refusal_under_torchrun_is_one_line(tmp_path):
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
        "hisir_edge",
    ]
    done = subprocess.run(
        [*launcher, "train", "--data", "/nowhere", "--out", str(tmp_path / "r")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "hisir-edge: expected a folder" in done.stderr
    assert not (tmp_path / "r").exists()
