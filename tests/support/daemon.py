"""``hisir-edge run`` as a child process, with its sockets and its log, and a subscriber beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hisir_edge.errors import InputError
from hisir_edge.mes import Verdict, subscribe
from hisir_edge.transport.control_client import ask
from support.messages import facts
from support.sockets import free_port

START_S = 60.0
RUN = (sys.executable, "-m", "hisir_edge")


JOURNAL = '[journal]\nfolder = "journal"\n'


def replay(folder: Path, trigger: str = "free-run", loop: bool = True, rate_hz: float = 20) -> str:
    """The [source] table of a folder of pictures."""
    return (
        f'[source]\ntype = "replay"\nfolder = "{folder}"\ntrigger = "{trigger}"\nloop = {str(loop).lower()}\n'
        f"rate_hz = {rate_hz}\n"
    )


class DaemonProcess:
    """Its line.toml and log lie in ``folder``. ``source`` and ``more`` are TOML; see ``JOURNAL``.

    Killed on exit, whatever happens. ``run``: the command before ``run --config``. ``subscribers``: how many
    it waits for.
    """

    def __init__(
        self, folder: Path, bundle: Path, source: str, more: str = "", subscribers: int = 0, run: Sequence[str] = RUN,
        environment: dict[str, str] | None = None, tcp: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self._run, self._environment = folder, run, environment
        self.config, self.log, self.journal = folder / "line.toml", folder / "daemon.log", folder / "journal"
        self.control, self.endpoint = (
            f"tcp://127.0.0.1:{free_port()}",
            f"tcp://127.0.0.1:{free_port()}" if tcp else f"ipc://{folder}/verdicts",
        )
        self.config.write_text(
            f'[bundle]\npath = "{bundle}"\n{source}[control]\nendpoint = "{self.control}"\n'
            f'[publish]\nendpoint = "{self.endpoint}"\nwait_for_subscribers = {subscribers}\n'
            f"{more}"
        )
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [*self._run, "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)

    def __enter__(self) -> DaemonProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def ended(self, timeout_s: float = START_S) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(timeout_s)

    def ask(self, do: str, timeout_s: float = 20, **more: Any) -> dict[str, Any]:
        """One request to the control socket."""
        return ask(self.control, {"do": do, **more}, timeout_s)

    def until(self, condition: Callable[[dict[str, Any]], bool], do: str = "status") -> dict[str, Any]:
        """The first answer, such as a status, for which a condition holds."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                status = self.ask(do, 0.5)
            except InputError:
                assert self.process.poll() is None, self.tail()
                continue
            if condition(status):
                return status
        raise AssertionError(self.tail())

    def up(self) -> None:
        """Wait until it takes boards."""
        self.until(lambda status: status["state"] in ("Ready", "SingleExecution", "ContinuousExecution"))

    def drain(self) -> None:
        """Let it finish its boards and end."""
        self.ask("drain", 10)
        assert self.ended() == 0, self.tail()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-3000:]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == event]

    def verdicts(self, count: int, topic: str = "verdict/", timeout_s: float = START_S) -> list[Verdict]:
        """The next verdicts of a topic."""

        def ended() -> bool:
            return self.process.poll() not in (None, 0)

        found: list[Verdict] = []
        stream = subscribe(self.endpoint, topic=topic, timeout_s=timeout_s, stop=ended)
        for verdict in stream:
            found.append(verdict)
            if len(found) == count:
                break
        stream.close()
        assert len(found) == count, self.tail()
        return found


class WatchedDaemon(DaemonProcess):
    """A daemon on a folder of pictures with a subscriber, a thread, that is there before the first verdict.

    ``bodies`` has what each verdict says, in order.
    """

    def __init__(self, folder: Path, bundle: Path, photos: Path, trigger: str, more: str = "") -> None:
        super().__init__(folder, bundle, replay(photos, trigger), more, subscribers=1)
        self.bodies: list[dict[str, Any]] = []
        self.more = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> WatchedDaemon:
        self.start()
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._over = True
        self._reader.join()

    def _read(self) -> None:
        for verdict in subscribe(self.endpoint, stop=lambda: self._over):
            with self.more:
                self.bodies.append(facts(verdict.body))
                self.more.notify()

    def wait(self, count: int) -> list[dict[str, Any]]:
        """All verdicts, once there are so many."""
        with self.more:
            arrived = self.more.wait_for(lambda: len(self.bodies) >= count, START_S)
        assert arrived, self.tail()
        return self.bodies

    def ended(self, timeout_s: float = START_S) -> int:
        """Its exit code, once it has ended by itself and its last verdict has been read."""
        code = super().ended(timeout_s)
        self._over = True
        self._reader.join()
        return code
