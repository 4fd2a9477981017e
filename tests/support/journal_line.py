"""A line in a process of its own, without camera and network (line_process.py)."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hisir_edge.errors import InputError
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.transport.control_client import ask
from support.paths import TESTS, environment
from support.sockets import free_port


class JournalLine:
    """``verdicts`` and ``control`` are its sockets, ``folder`` is its journal; ``keys``: a folder of CURVE keys."""

    def __init__(self, folder: Path, rate_hz: float = 0, keys: Path | None = None, name: str = "l") -> None:
        self.folder, self.rate_hz, self.keys, self.name = folder, rate_hz, keys, name
        self.verdicts, self.control = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))

    @contextlib.contextmanager
    def started(
        self, count: int, rate_hz: float | None = None, there: int | None = None, clock: Path | None = None
    ) -> Iterator[subprocess.Popen]:
        """Number boards on until there are ``count``; entered once ``there`` verdicts are in the journal.

        ``clock``: a file with the seconds by which the line's clock is wrong.
        """
        rate_hz = self.rate_hz if rate_hz is None else rate_hz
        there = (0 if rate_hz else count) if there is None else there
        command = [
            sys.executable, TESTS / "support" / "line_process.py", self.folder, self.verdicts, self.control,
            "--count", count, "--rate-hz", rate_hz, "--line", self.name, *(("--keys", self.keys) if self.keys else ()),
            *(("--clock", clock) if clock else ()),
        ]  # fmt: skip
        process = subprocess.Popen([str(part) for part in command], env=environment())
        try:
            self._wait(process, there)
            yield process
        finally:
            process.kill()
            process.wait()

    def expected(self) -> list[tuple[str, int, bytes]]:
        """(epoch, number, JSON) of every verdict in the journal."""
        epoch, entries, _ = read_journal(self.folder)
        return [(epoch, entry.seq, entry.body) for entry in entries]

    def _wait(self, process: subprocess.Popen, there: int) -> None:
        curve = (str(self.keys / "line.key"), str(self.keys / "mes.key_secret")) if self.keys else ()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert process.poll() is None
            with contextlib.suppress(InputError):
                if ask(self.control, {"do": "replay", "most": 0}, 1.0, *curve)["seq"] >= there:
                    return
        raise AssertionError("the line does not answer")
