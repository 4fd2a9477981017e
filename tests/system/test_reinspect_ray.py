"""A re-inspection on a Ray cluster whose workers and machines are killed and cut off: the table of one process."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from support.daemon import JOURNAL, DaemonProcess
from support.ray_cluster import ENVIRONMENT, Network, cluster

from hisir_edge.archive.folder import OURS

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive(small_bundle, small_boards, tmp_path_factory) -> Path:
    """The boards of a line."""
    folder = tmp_path_factory.mktemp("line")
    shutil.copytree(small_boards / "test", folder / "photos")
    source = f'[source]\ntype = "replay"\nfolder = "{folder}/photos"\nrecursive = true\n'
    kept = '[archive]\nkeep = "all"\nfolder = "archive"\n'
    with DaemonProcess(folder, small_bundle, source, kept + JOURNAL) as daemon:
        assert daemon.ended() == 0, daemon.tail()
    return folder / "archive"


def many(archive: Path, out: Path, copies: int) -> Path:
    (epoch,) = [path for path in archive.iterdir() if path.is_dir()]
    (out / epoch.name).mkdir(parents=True)
    boards = sorted(path for path in epoch.iterdir() if OURS.fullmatch(path.name))
    for copy in range(copies):
        for n, path in enumerate(boards):
            (out / epoch.name / f"{copy * 100 + n:010d}{path.name[10:]}").symlink_to(path)
    return out


def command(archive: Path, bundle: Path, out: Path, *more: object) -> list[str]:
    start = [sys.executable, "-m", "hisir_edge", "reinspect", archive, "--bundle", bundle, "--out", out, *more]
    return [str(one) for one in start]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("copies", "is_cut"), [(20, False), (200, True)])
def test_machines_that_die_or_are_cut_off_cost_no_board(archive, small_bundle, tmp_path, copies, is_cut):
    """2,000 boards: each machine in a network namespace of its own, its cable pulled for one to eight seconds."""
    if is_cut and (os.geteuid() or shutil.which("ip") is None):
        pytest.skip("no right to make network namespaces here")
    boards = many(archive, tmp_path / "archive", copies)
    quiet = command(boards, small_bundle, tmp_path / "quiet", "--workers", 2)
    subprocess.run(quiet, check=True, capture_output=True, timeout=500)
    rng, done = random.Random(5), Counter[str]()
    with contextlib.ExitStack() as stack:
        # Ray's sockets have long names: their folder is to have a short one
        short = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True))
        network = stack.enter_context(Network(2)) if is_cut else None
        ray = stack.enter_context(cluster(Path(short), network))
        machines = []
        for number in (0, 1):  # two that start at once take each other's ports
            machines.append(ray.node(number))
            ray.up(number + 1)
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [*ray.within(), *command(boards, small_bundle, tmp_path / "out", "--ray", ray.address)],
                stdout=log, stderr=log, env=ENVIRONMENT,
            )  # fmt: skip
        try:
            end = time.monotonic() + 700
            while process.poll() is None and time.monotonic() < end:
                time.sleep(rng.uniform(0.3, 1.0))
                number = rng.randrange(2)
                if machines[number].poll() is not None:  # it was taken for dead, and has ended itself
                    done["ended"] += 1
                    machines[number] = ray.node(number)
                workers = ray.workers_of(machines[number])
                if not workers or sum(done.values()) >= max(copies // 4, 8):
                    continue
                what = rng.choice(("worker", "machine", "cut") if network else ("worker", "worker", "machine"))
                done[what] += 1
                if what == "worker":
                    with contextlib.suppress(psutil.Error):
                        rng.choice(workers).kill()
                elif what == "machine":
                    ray.kill(machines[number])
                    machines[number] = ray.node(number)
                else:
                    network.cut(f"m{number}", True)
                    time.sleep(rng.uniform(1, 8))
                    network.cut(f"m{number}", False)
            assert process.wait(60) == 0, (tmp_path / "log").read_text()[-3000:]
        finally:
            process.kill()
            process.wait()
    print(f"{copies * 10} boards: {dict(done)}")
    assert min(done["worker"], done["machine"]) >= 1 and (done["cut"] >= 1) == is_cut, done
    table, alone = (pq.read_table(tmp_path / name / "boards.parquet") for name in ("out", "quiet"))
    assert table.equals(alone)


def test_no_cluster_is_told(archive, small_bundle, tmp_path):
    done = subprocess.run(
        command(archive, small_bundle, tmp_path / "out", "--ray", "127.0.0.1:1"), capture_output=True, text=True,
        timeout=120, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 2 and "expected a Ray cluster" in done.stderr, done.stderr
