"""Ray's own processes: a head without work, and machines of one core that can be killed, cut off, and come again.

On loopback, or each machine in a network namespace of its own behind a switch.
"""

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


SOON_DEAD = {
    "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000", "RAY_health_check_failure_threshold": "4",
}  # fmt: skip
"""A machine that is cut off for about five seconds counts as dead."""


def ip(*arguments: str, check: bool = True) -> None:
    """A command of iproute2."""
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


class Network:
    """Namespaces of a head and machines, each on a cable to one switch; all gone on exit."""

    def __init__(self, machines: int) -> None:
        self.tag = f"hisir{os.getpid()}"
        self.hosts = ["head", *(f"m{number}" for number in range(machines))]

    def __enter__(self) -> Network:
        try:
            for name in ("switch", *self.hosts):
                ip("netns", "add", self.space(name))
            ip("-n", self.space("switch"), "link", "add", "bridge", "type", "bridge")
            ip("-n", self.space("switch"), "link", "set", "bridge", "up")
            for name in self.hosts:
                here, there = ("-n", self.space(name)), ("-n", self.space("switch"))
                ip("link", "add", "cable", "netns", self.space(name), "type", "veth", "peer", "name", name, "netns",
                   self.space("switch"))  # fmt: skip
                ip(*there, "link", "set", name, "master", "bridge", "up")
                ip(*here, "address", "add", f"{self.address(name)}/24", "dev", "cable")
                for device in ("cable", "lo"):
                    ip(*here, "link", "set", device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("switch", *self.hosts):
            ip("netns", "delete", self.space(name), check=False)

    def space(self, name: str) -> str:
        """The namespace of a host."""
        return f"{self.tag}-{name}"

    def address(self, name: str) -> str:
        """A host's address."""
        return f"10.77.0.{self.hosts.index(name) + 1}"

    def cut(self, name: str, is_cut: bool) -> None:
        """Pull a host's cable, or put it back."""
        ip("-n", self.space("switch"), "link", "set", name, "down" if is_cut else "up")


class RayCluster:
    """``address``: the head's; ``node``: starts a machine of one core; all end on exit.

    ``network``: where they are; None: all on loopback.
    """

    def __init__(self, folder: Path, network: Network | None = None) -> None:
        self.folder, self.network, self.port = folder, network, free_port()
        self.address = f"{self._host('head')}:{self.port}"
        self._running: list[subprocess.Popen] = []
        self._program = Path(sys.executable).parent / "ray"

    def _host(self, name: str) -> str:
        return "127.0.0.1" if self.network is None else self.network.address(name)

    def within(self, name: str = "head") -> list[str]:
        """What runs a command where a host is."""
        return [] if self.network is None else ["ip", "netns", "exec", self.network.space(name)]

    def _start(self, name: str, *arguments: str) -> subprocess.Popen:
        # a session of its own, so that whatever it starts can be ended with it
        with (self.folder / f"ray-{len(self._running)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*self.within(name), str(self._program), "start", *arguments, "--node-ip-address", self._host(name),
                 "--block"],
                env=ENVIRONMENT | (SOON_DEAD if self.network else {}), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._running.append(process)
        return process

    def head(self) -> None:
        self._start(
            "head", "--head", "--port", str(self.port), "--num-cpus", "0", "--include-dashboard", "false",
            "--object-store-memory", "100000000", "--temp-dir", str(self.folder / "r"), "--disable-usage-stats",
        )  # fmt: skip

    def node(self, number: int = 0) -> subprocess.Popen:
        return self._start(
            f"m{number}", "--address", self.address, "--num-cpus", "1", "--object-store-memory", "100000000"
        )

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
                [*self.within(), str(self._program), "status", "--address", self.address],
                env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            if f"/{nodes}.0 CPU" in done.stdout:
                return
            time.sleep(0.3)
        raise AssertionError([path.read_text()[-800:] for path in self.folder.glob("ray-*.log")])


@contextlib.contextmanager
def cluster(folder: Path, network: Network | None = None) -> Iterator[RayCluster]:
    """A cluster whose head is up."""
    one = RayCluster(folder, network)
    try:
        one.head()
        yield one
    finally:
        for process in reversed(one._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
