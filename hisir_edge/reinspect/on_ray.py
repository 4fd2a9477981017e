"""Workers on a Ray cluster (https://docs.ray.io): actors of one core each, the bundle sent to them by Ray.

The same promises as ``workers.Workers``: a worker, or a machine, that dies costs a board at most. Archives must be
reachable from every machine under the names that they are given by.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import RayError

from hisir_edge.errors import InputError
from hisir_edge.reinspect.boards import BoardRef
from hisir_edge.reinspect.row import Inspection, Row, error_row

WAIT_S, MOST_IDLE_S, CONNECT_S = 1.0, 300.0, 10.0
MOST_FAILED = 5
"""Workers in a row that did not start."""


class _Inspecting:
    """An actor: a bundle's inspection in a process of Ray's."""

    def __init__(self, files: dict[str, bytes], camera: str, seal: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hisir-bundle-")
        folder = Path(self._folder.name)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        self._inspection = Inspection(folder, camera, seal=seal)

    def ready(self) -> bool:
        """Answered once the bundle is loaded and tested."""
        return True

    def row(self, board: BoardRef) -> Row:
        """See ``Inspection.row``."""
        return self._inspection.row(board)


class RayWorkers:
    """Connected from entry to exit; ``address``: ``auto``, or a cluster's. InputError where there is none."""

    def __init__(self, bundle: Path, camera: str, address: str, most: int, seal: str) -> None:
        self._bundle, self._camera, self._address, self._most = bundle, camera, address, most
        self._seal = seal
        self._starting: dict[Any, Any] = {}
        self._free: deque[Any] = deque()
        self._busy: dict[Any, tuple[Any, BoardRef]] = {}
        self._failed, self._idle_s = 0, 0.0

    def __enter__(self) -> RayWorkers:
        """Connect, send the bundle."""
        try:
            _check_answers(self._address)
            ray.init(address=self._address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise InputError(
                expected="a Ray cluster, --ray auto or its address",
                received=f"{self._address}: {error}"[:300],
                fix="ray start --head on one machine, ray start --address=HEAD:6379 on the others",
            ) from error
        files = {path.name: path.read_bytes() for path in self._bundle.iterdir() if path.is_file()}
        self._files = ray.put(files)
        self._kind = ray.remote(num_cpus=1, max_restarts=0)(_Inspecting)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the actors, disconnect."""
        for actor in (*self._starting.values(), *self._free, *(actor for actor, _ in self._busy.values())):
            ray.kill(actor)
        self._starting.clear()
        self._free.clear()
        self._busy.clear()
        ray.shutdown()

    def rows(self, boards: Iterator[BoardRef]) -> Iterator[Row]:
        """The rows of boards, as they are ready; no more are taken from ``boards`` than there are workers at work."""
        tried: set[str] = set()
        again: list[BoardRef] = []
        left = True
        while True:
            while self._free and left:
                board = again.pop() if again else next(boards, None)
                if board is None:
                    left = bool(again)
                    break
                actor = self._free.popleft()
                self._busy[actor.row.remote(board)] = (actor, board)
            if not self._busy and not again and not left:
                return
            self._start_more()
            for reference in self._done():
                if reference in self._starting:
                    self._started(reference)
                    continue
                actor, board = self._busy.pop(reference)
                try:
                    row: Row = ray.get(reference)
                except RayError as error:
                    ray.kill(actor)
                    if board.key in tried:
                        yield error_row(board, f"its inspection ended a worker twice ({_why(error)})")
                    else:
                        tried.add(board.key)
                        again.append(board)
                        left = True
                    continue
                self._free.append(actor)
                yield row

    def _done(self) -> list[Any]:
        """What is ready; InputError where no machine of the cluster has had a core for long."""
        waiting, began = [*self._busy, *self._starting], time.monotonic()
        done, _ = ray.wait(waiting, num_returns=1, timeout=WAIT_S) if waiting else ([], [])
        if done or self._busy:
            self._idle_s = 0.0
            return list(done)
        if not waiting:
            time.sleep(WAIT_S)
        self._idle_s += time.monotonic() - began  # also while workers wait for cores that others have
        if self._idle_s > MOST_IDLE_S:
            raise InputError(
                expected="a Ray cluster with a free core", received=f"none for {MOST_IDLE_S:g} s",
                fix="add a machine, or end what else runs there, and run the same command again: it goes on",
            )  # fmt: skip
        return []

    def _start_more(self) -> None:
        """Actors for the cores that there are now."""
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cores = min(int(resources.get("CPU", 0)), self._most)
        there = len(self._starting) + len(self._free) + len(self._busy)
        for _ in range(max(cores - there, 0)):
            actor: Any = self._kind.remote(self._files, self._camera, self._seal)
            self._starting[actor.ready.remote()] = actor

    def _started(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        try:
            ray.get(reference)
        except RayError as error:
            ray.kill(actor)
            self._failed += 1
            if self._failed >= MOST_FAILED:
                raise InputError(
                    expected="workers that load and test the bundle", received=_why(error),
                    fix="is hisir-edge[ray] installed there, in this version?",
                ) from error  # fmt: skip
            return
        self._failed = 0
        self._free.append(actor)


def _check_answers(address: str) -> None:
    """OSError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), CONNECT_S).close()


def _why(error: RayError) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
