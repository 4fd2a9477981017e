"""The processes that train together: one, or as many as torchrun started, on one machine or on several (torch DDP)."""

from __future__ import annotations

import os
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from hisir_edge.errors import HisirEdgeError, InputError

T = TypeVar("T")
LONGEST_PREPARATION = timedelta(hours=6)
"""The others wait so long for the leader, who reads and registers the boards."""
LONGEST_STEP = timedelta(minutes=15)
"""And so long for each other in a step: a machine that is gone without a word ends the training, to be begun anew."""
CHUNK_BYTES, ENDS_BYTES, RECEIVED = 16 << 20, 1 << 16, "hisir-train-"
STORE, ANSWER = "hisir_edge/store", timedelta(seconds=2)
"""Where the first process says its store's port, and how long that may take to answer."""


@dataclass(frozen=True, slots=True)
class Team:
    """One process among ``world``, and the device it trains on.

    ``leader``: the rank of the one that has the run and its boards. ``patient``: the group that waits for it.
    """

    rank: int
    world: int
    device: torch.device
    leader: int = 0
    patient: Any = field(default=None, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files and shows progress."""
        return self.rank == self.leader

    def led(self, work: Callable[[], T]) -> T:
        """Let the leader do ``work`` and hand everyone its result; its error is raised by everyone."""
        if self.world == 1:
            return work()
        box: list[Any] = [None, None]
        if self.leads:
            try:
                box[0] = work()
            except HisirEdgeError as error:
                box[1] = error
        dist.broadcast_object_list(box, src=self.leader, group=self.patient)
        if box[1] is not None:
            raise box[1]
        result: T = box[0]
        return result

    def agreed(self, value: float) -> float:
        """The leader's number, everywhere."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=self.leader)
        return float(shared.item())

    def shared(self, net: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over the team."""
        if self.world == 1:
            return net
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=ids)

    def everyones(self, value: T) -> list[T]:
        """What each process has, by rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self.patient)
        return found

    @contextmanager
    def here(self, paths: list[Path]) -> Iterator[list[Path]]:
        """The leader's files, on every machine: where they are not seen they are sent, and deleted at the end.

        The error of a machine that has no room for them is raised by everyone.
        """
        if self.world == 1:
            yield paths
            return
        told = self.led(lambda: [_what(path) for path in paths])
        seen = all(_what(path) == what for path, what in zip(paths, told, strict=True))
        first: dict[str, int] = {}  # of each machine the first process that lacks them
        for rank, (machine, has) in enumerate(self.everyones((_machine(), seen))):
            if not has:
                first.setdefault(machine, rank)
        if not first:
            yield paths
            return
        receives = first.get(_machine()) == self.rank
        folder = self._folders(receives)[first.get(_machine(), self.rank)]
        try:
            for number, (path, what) in enumerate(zip(paths, told, strict=True)):
                self._send(path, what[0], Path(folder) / f"{number}{path.suffix}" if receives else None)
            yield paths if seen else [Path(folder) / f"{number}{path.suffix}" for number, path in enumerate(paths)]
        finally:
            if receives:
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self, receives: bool) -> list[str]:
        if receives:
            for left in Path(gettempdir()).glob(f"{_received()}*"):  # of processes of this machine that were killed
                pid = left.name.removeprefix(_received()).partition("-")[0]
                if not Path("/proc", pid).exists():
                    shutil.rmtree(left, ignore_errors=True)
        return self.everyones(mkdtemp(prefix=f"{_received()}{os.getpid()}-") if receives else "")

    def _send(self, path: Path, size: int, to: Path | None) -> None:
        """A file of the leader's, piece by piece, to whoever writes it; all others only take part."""
        wrong = ""
        piece = torch.empty(CHUNK_BYTES, dtype=torch.uint8)
        source = path.open("rb") if self.leads else None
        target = None
        try:
            if to is not None:
                try:
                    target = to.open("wb")
                except OSError as error:
                    wrong = f"{to} on {socket.gethostname()}: {error.strerror}"
            for at in range(0, size, CHUNK_BYTES):
                count = min(CHUNK_BYTES, size - at)
                if source is not None:
                    piece[:count] = torch.from_numpy(np.frombuffer(source.read(count), np.uint8).copy())
                dist.broadcast(piece[:count], src=self.leader, group=self.patient)
                if target is not None and not wrong:
                    try:
                        target.write(piece[:count].numpy().tobytes())
                    except OSError as error:
                        wrong = f"{to} on {socket.gethostname()}: {error.strerror}"
        finally:
            for file in (source, target):
                if file is not None:
                    file.close()
        if any(found := self.everyones(wrong)):
            raise InputError(
                expected=f"room for {size >> 20} MiB of boards on each machine",
                received=next(one for one in found if one), fix="free some space, or name another folder with TMPDIR",
            )  # fmt: skip


@contextmanager
def team_from_environment(has_run: Callable[[], tuple[int, int]]) -> Iterator[Team]:
    """The team that torchrun set up (RANK, WORLD_SIZE, LOCAL_RANK), or this process alone.

    ``has_run``: how much of the run is on this machine, and how new it is; the one that has most leads. Ranks may
    change when torchrun begins anew.
    """
    device = device_here()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Team(0, 1, device)
        return
    rank, backend = int(os.environ["RANK"]), "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=_store(rank, world), rank=rank, world_size=world, timeout=LONGEST_STEP)
    try:
        patient = dist.new_group(backend="gloo", timeout=LONGEST_PREPARATION)
        team = Team(dist.get_rank(), world, device, 0, patient)
        owned = team.everyones(has_run())
        yield replace(team, leader=owned.index(max(owned)))
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in ("gloo", "nccl", "connection")):
            raise
        raise InputError(
            expected=f"all {world} processes of this training", received=f"one that is gone ({str(error)[:120]})",
            fix="torchrun begins anew as often as --max-restarts says; else repeat the command: it goes on from the "
            "last checkpoint",
        ) from error  # fmt: skip
    finally:
        dist.destroy_process_group()


def _store(rank: int, world: int) -> Any:
    """What the processes find each other by, fresh for each beginning.

    torchrun's agents keep theirs over restarts (torch 2.13), with the addresses of processes that are gone: a process
    that reads one before its successor has written its own does not begin. So the first process makes one of its own,
    and says there where it is; an address that nobody answers at is that of the beginning before.
    """
    tcp: Any = dist.TCPStore  # type: ignore[attr-defined]  # torch's own stubs
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return tcp(host, port, world, rank == 0, LONGEST_STEP)
    agents = tcp(host, port, world, False, LONGEST_STEP)
    if rank == 0:
        own = tcp(host, 0, world, True, LONGEST_STEP, wait_for_workers=False)
        agents.set(STORE, str(own.port))
        return own
    end = time.monotonic() + LONGEST_STEP.total_seconds()
    while True:
        try:
            found = tcp(host, int(agents.get(STORE)), world, False, ANSWER, wait_for_workers=False)
        except dist.DistError:
            if time.monotonic() > end:
                raise
        else:
            found.set_timeout(LONGEST_STEP)
            return found


def device_here() -> torch.device:
    """What this process trains on: its own GPU where there are such, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _machine() -> str:
    """What tells this machine, and its view of the disks, from others: they may have one name and one image."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()} {boot} {os.stat('/proc/self/ns/mnt').st_ino}"  # noqa: PTH116  # leads nowhere


def _received() -> str:
    """How folders of this machine begin: others may share the disk, and number their processes alike."""
    return f"{RECEIVED}{zlib.crc32(_machine().encode()):08x}-"


def _what(path: Path) -> tuple[int, int, int]:
    """A file's size, time and the checksum of its ends; zeros where it is not seen."""
    try:
        there = path.stat()
        with path.open("rb") as file:
            ends = file.read(ENDS_BYTES)
            file.seek(-min(ENDS_BYTES, there.st_size), os.SEEK_END)
            return there.st_size, there.st_mtime_ns, zlib.crc32(ends + file.read())
    except OSError:
        return 0, 0, 0
