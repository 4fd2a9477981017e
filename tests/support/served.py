"""A command that listens, as a child process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.paths import environment

PATIENCE_S = 30.0


class Served:
    """``hisir-edge`` with ``arguments`` from entry to exit; it is there once it has printed ``ready``."""

    def __init__(self, arguments: list[str], ready: str, errors: Path) -> None:
        self.errors, self._ready = errors, ready
        self._command = [sys.executable, "-m", "hisir_edge", *arguments]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with self.errors.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, env=environment(), text=True
            )
        assert self.process.stdout is not None
        assert self._ready in self.process.stdout.readline(), self.errors.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self) -> int:
        """By SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)
