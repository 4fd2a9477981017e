"""Ray's own processes on loopback: a head without work, and machines of one core that can be killed and come again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from support.sockets import free_port

START_S = 90.0
ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


class RayCluster:
    """``address``: the head's; ``node``: starts a machine of one core; all end on exit."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._running: list[subprocess.Popen] = []
        self._program = Path(sys.executable).parent / "ray"

    def _start(self, *arguments: str) -> subprocess.Popen:
        # a session of its own, so that whatever it starts can be ended with it
        with (self.folder / f"ray-{len(self._running)}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(self._program), "start", *arguments, "--block"], env=ENVIRONMENT, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._running.append(process)
        return process

    def head(self) -> None:
        self._start(
            "--head", "--node-ip-address", "127.0.0.1", "--port", str(self.port), "--num-cpus", "0",
            "--include-dashboard", "false", "--object-store-memory", "100000000", "--temp-dir", str(self.folder / "r"),
            "--disable-usage-stats",
        )  # fmt: skip

    def node(self) -> subprocess.Popen:
        return self._start(
            "--address", self.address, "--node-ip-address", "127.0.0.1", "--num-cpus", "1", "--object-store-memory",
            "100000000",
        )  # fmt: skip

    def kill(self, process: subprocess.Popen) -> None:
        """SIGKILL to a machine's every process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def workers_of(self, process: subprocess.Popen) -> list[psutil.Process]:
        """The processes that inspect on a machine."""
        found = []
        with contextlib.suppress(psutil.Error):
            for one in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "_Inspecting" in " ".join(one.cmdline()):
                        found.append(one)
        return found

    def up(self, nodes: int) -> None:
        """Wait until so many machines with a core are there."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            done = subprocess.run(
                [str(self._program), "status", "--address", self.address], env=ENVIRONMENT, capture_output=True,
                text=True, timeout=60, check=False,
            )  # fmt: skip
            if f"/{nodes}.0 CPU" in done.stdout:
                return
            time.sleep(0.3)
        raise AssertionError([path.read_text()[-800:] for path in self.folder.glob("ray-*.log")])


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[RayCluster]:
    """A cluster whose head is up."""
    one = RayCluster(folder)
    try:
        one.head()
        yield one
    finally:
        for process in reversed(one._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
