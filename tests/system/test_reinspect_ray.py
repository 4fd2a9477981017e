"""A re-inspection on a Ray cluster of two machines whose workers and machines are killed: the table of one process."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from support.daemon import JOURNAL, DaemonProcess
from support.ray_cluster import ENVIRONMENT, cluster

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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("copies", [20, 200])
def test_machines_that_die_cost_no_board(archive, small_bundle, tmp_path, copies):
    boards = many(archive, tmp_path / "archive", copies)
    quiet = command(boards, small_bundle, tmp_path / "quiet", "--workers", 2)
    subprocess.run(quiet, check=True, capture_output=True, timeout=500)
    rng, kills = random.Random(5), 0
    # Ray's sockets have long names: their folder is to have a short one
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as short, cluster(Path(short)) as ray:
        machines = []
        for count in (1, 2):  # two that start at once take each other's ports
            machines.append(ray.node())
            ray.up(count)
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                command(boards, small_bundle, tmp_path / "out", "--ray", ray.address), stdout=log, stderr=log,
                env=ENVIRONMENT,
            )  # fmt: skip
        try:
            end = time.monotonic() + 500
            while process.poll() is None and time.monotonic() < end:
                time.sleep(rng.uniform(0.3, 1.0))
                number = rng.randrange(2)
                workers = ray.workers_of(machines[number])
                if not workers or kills >= copies // 4:
                    continue
                kills += 1
                if kills % 3:
                    with contextlib.suppress(psutil.Error):
                        rng.choice(workers).kill()
                else:
                    ray.kill(machines[number])
                    machines[number] = ray.node()
            assert process.wait(60) == 0, (tmp_path / "log").read_text()[-3000:]
        finally:
            process.kill()
            process.wait()
    assert kills >= 3
    table, alone = (pq.read_table(tmp_path / name / "boards.parquet") for name in ("out", "quiet"))
    assert table.equals(alone)


def test_no_cluster_is_told(archive, small_bundle, tmp_path):
    done = subprocess.run(
        command(archive, small_bundle, tmp_path / "out", "--ray", "127.0.0.1:1"), capture_output=True, text=True,
        timeout=120, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 2 and "expected a Ray cluster" in done.stderr, done.stderr
