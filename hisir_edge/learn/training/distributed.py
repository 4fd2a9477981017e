"""The processes that train together: one, or as many as torchrun started (torch DDP)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from hisir_edge.errors import HisirEdgeError

T = TypeVar("T")
LONGEST_PREPARATION = timedelta(hours=6)
"""The others wait so long for the leader, who reads and registers the boards."""


@dataclass(frozen=True, slots=True)
class Team:
    """One process among ``world``, and the device it trains on."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files and shows progress."""
        return self.rank == 0

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
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        result: T = box[0]
        return result

    def agreed(self, value: float) -> float:
        """The leader's number, everywhere."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=0)
        return float(shared.item())

    def shared(self, net: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over the team."""
        if self.world == 1:
            return net
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=ids)


@contextmanager
def team_from_environment() -> Iterator[Team]:
    """The team that torchrun set up (RANK, WORLD_SIZE, LOCAL_RANK), or this process alone."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local % torch.cuda.device_count())
        torch.cuda.set_device(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Team(0, 1, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_PREPARATION)
    try:
        yield Team(dist.get_rank(), world, device)
    finally:
        dist.destroy_process_group()
