"""Processes that inspect boards, one at a time each; one that dies costs a board at most, and is made anew."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from hisir_edge.errors import HisirEdgeError, InputError
from hisir_edge.processes import die_with_parent
from hisir_edge.reinspect.boards import BoardRef
from hisir_edge.reinspect.row import Inspection, Row, error_row

CONTEXT = multiprocessing.get_context("spawn")
READY_S, BOARD_S = 300.0, 600.0
"""For a bundle's self-test; without an answer for so long a worker is taken for hanging."""


class Workers:
    """Inspects boards with ``count`` processes from entry to exit, each on one thread of its own."""

    def __init__(self, bundle: Path, camera: str, count: int, seal: str = "") -> None:
        self._bundle, self._camera, self.count, self._seal = bundle, camera, count, seal
        self._busy: dict[Connection, tuple[Any, BoardRef]] = {}
        self._free: list[tuple[Connection, Any]] = []

    def __enter__(self) -> Workers:
        """Start them, and wait until each has tested its bundle; HisirEdgeError where one says no."""
        try:
            for _ in range(self.count):
                self._free.append(self._started())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End them, whatever they are at."""
        every = [*self._free, *((pipe, process) for pipe, (process, _) in self._busy.items())]
        for pipe, process in every:
            process.kill()
            process.join()
            pipe.close()
            process.close()
        self._free.clear()
        self._busy.clear()

    def picture(self, board: BoardRef) -> bytes:
        """A board as it is judged now, drawn; empty where it cannot be, whatever it does to its worker."""
        pipe, process = self._free.pop()
        try:
            pipe.send(("picture", board))
            if not pipe.poll(BOARD_S):
                raise EOFError
            drawn: bytes = pipe.recv()
        except (EOFError, OSError):
            self._free.append(self._anew(pipe, process))
            return b""
        self._free.append((pipe, process))
        return drawn

    def rows(self, boards: Iterator[BoardRef]) -> Iterator[Row]:
        """The rows of boards, as they are ready; no more are taken from ``boards`` than there are workers.

        A board whose worker dies is given to another one, and to a third never: it has its ERROR then.
        """
        tried: set[str] = set()
        again: list[BoardRef] = []
        while True:
            while self._free and (board := again.pop() if again else next(boards, None)) is not None:
                pipe, process = self._free.pop()
                try:
                    pipe.send(("row", board))
                except OSError:  # it died while it had nothing to do
                    self._free.append(self._anew(pipe, process))
                    again.append(board)
                    continue
                self._busy[pipe] = (process, board)
            if not self._busy:
                return
            for ready in wait(list(self._busy), BOARD_S) or self._hanging():
                pipe = next(one for one in self._busy if one is ready)
                process, board = self._busy.pop(pipe)
                try:
                    row: Row = pipe.recv()
                except (EOFError, OSError):
                    how = _ended(process)
                    self._free.append(self._anew(pipe, process))
                    if board.key in tried:
                        yield error_row(board, f"its inspection ended a process twice ({how})")
                    else:
                        tried.add(board.key)
                        again.append(board)
                    continue
                self._free.append((pipe, process))
                yield row

    def _hanging(self) -> list[Connection]:
        """The workers at work, ended: none has answered for so long."""
        for process, _ in self._busy.values():
            process.kill()
        return list(self._busy)

    def _anew(self, pipe: Connection, process: Any) -> tuple[Connection, Any]:
        """Another one in place of one that died."""
        process.kill()
        process.join()
        pipe.close()
        process.close()
        return self._started()

    def _started(self) -> tuple[Connection, Any]:
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(
            target=_serve,
            args=(theirs, self._bundle, self._camera, self._seal, os.getpid()),
            daemon=True,
            name="reinspect",
        )
        # Ctrl-C is the parent's to handle, from the child's first moment on
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        try:
            said = ours.recv() if ours.poll(READY_S) else f"nothing within {READY_S:g} s"
        except EOFError:
            said = f"a process that ended ({_ended(process)})"
        if said == "ready":
            return ours, process
        process.kill()
        process.join()
        ours.close()
        if isinstance(said, HisirEdgeError):
            raise said
        raise InputError(expected="a process that inspects", received=str(said), fix="see what stands above")


def _ended(process: Any) -> str:
    process.join(5)
    code = process.exitcode
    return f"exit code {code}" if code is None or code >= 0 else f"signal {signal.Signals(-code).name}"


def _serve(pipe: Connection, bundle: Path, camera: str, seal: str, parent_pid: int) -> None:
    """A worker's life: boards in, rows out."""
    die_with_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        inspection = Inspection(bundle, camera, seal=seal)
    except HisirEdgeError as error:
        pipe.send(error)
        return
    pipe.send("ready")
    while True:
        try:
            what, board = pipe.recv()
        except EOFError:
            return
        pipe.send(inspection.row(board) if what == "row" else inspection.drawn(board))
