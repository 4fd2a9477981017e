"""One step after another: losses, averaged weights, held-out tiles, checkpoints; whatever the tiles come from."""

from __future__ import annotations

import csv
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hisir_edge.corruption.corrupt import WEIGHT_GAIN
from hisir_edge.errors import InputError
from hisir_edge.learn.data.prepare import net_from_settings
from hisir_edge.learn.data.run import RunSettings, save_checkpoint
from hisir_edge.learn.data.tiles import Stream, TileBatch, batches_from_stream
from hisir_edge.learn.training.distributed import Team
from hisir_edge.machine.cpu import has_bfloat16
from hisir_edge.net.hisir_net import HisirNet, centred
from hisir_edge.net.losses import Losses, losses_from_output

EMA_DECAY = 0.998
CHECKPOINT_SECONDS = 60.0
LOG_EVERY = 20
EPOCH_STEPS = 200
BETTER_BY = 1e-3


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a training: share done in 0..1, step, smoothed loss terms, last held-out loss."""

    done: float
    step: int
    loss: float
    gate: float
    held_out: float


@dataclass(slots=True, kw_only=True)
class _Trainer:
    """The moving parts of one run; everything in it is in the checkpoint."""

    net: HisirNet
    average: HisirNet
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float = float("inf")
    best_epoch: int = 0
    held_out_loss: float = float("nan")
    held_out_crc: int = 0
    first_loss: float = float("nan")


def fit(
    settings: RunSettings,
    run: Path,
    tiles: tuple[Stream, list[TileBatch]],
    team: Team,
    budget_s: float | None = None,
    workers: int = 1,
    on_step: Callable[[Progress], None] = lambda progress: None,
    first: tuple[dict[str, Tensor] | None, dict[str, Any] | None] = (None, None),
) -> None:
    """Go on until steps or time are used; then save.

    ``tiles``: the stream to learn from, and the held-out batches that choose the weights which count. ``first``: the
    weights to begin with, None: random ones; and the checkpoint to go on from, if there is one.
    """
    stream, held_out = tiles
    trainer = _resume(settings, team, *first)
    _look_anew_at_other_tiles(trainer, held_out, settings.precision, team.device)
    if team.leads and trainer.step == 0:
        with torch.no_grad():
            trainer.first_loss = _held_out_loss(trainer, held_out, settings.precision, team.device)
    _loop(trainer, settings, run, stream, held_out, team, budget_s, workers, on_step)
    if team.leads:
        save_checkpoint(run, _state(trainer))


def _resume(
    settings: RunSettings, team: Team, start: dict[str, Tensor] | None, state: dict[str, Any] | None
) -> _Trainer:
    torch.manual_seed(settings.seed)
    net, average = net_from_settings(settings), net_from_settings(settings)
    if start is not None:
        net.load_state_dict(start)
    average.load_state_dict(net.state_dict())
    for module in (net, average):
        module.to(team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own stubs
    average.eval()
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 1e-3}, {"params": plain, "weight_decay": 0.0}], lr=settings.learning_rate
    )
    trainer = _Trainer(net=net, average=average, optimizer=optimizer)
    if state is not None:
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        trainer.step, trainer.seconds = state["step"], state["seconds"]
        trainer.best, trainer.best_loss, trainer.best_epoch = state["best"], state["best_loss"], state["best_epoch"]
        trainer.held_out_crc = state.get("held_out_crc", 0)
        trainer.first_loss = state.get("first_loss", float("nan"))
    return trainer


@torch.no_grad()
def _look_anew_at_other_tiles(
    trainer: _Trainer, held_out: list[TileBatch], precision: str, device: torch.device
) -> None:
    """Measure the best weights again when the held-out tiles are others than before, after an upgrade for example."""
    crc = 0
    for batch in held_out:
        crc = zlib.crc32(batch.tile.tobytes(), crc)
    if crc != trainer.held_out_crc and trainer.best:
        kept = {name: value.clone() for name, value in trainer.average.state_dict().items()}
        trainer.average.load_state_dict(trainer.best)
        trainer.best_loss = _held_out_loss(trainer, held_out, precision, device)
        trainer.average.load_state_dict(kept)
    trainer.held_out_crc = crc


def _state(trainer: _Trainer) -> dict[str, Any]:
    return {
        "net": trainer.net.state_dict(),
        "average": trainer.average.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "step": trainer.step,
        "seconds": trainer.seconds,
        "best": trainer.best,
        "best_loss": trainer.best_loss,
        "best_epoch": trainer.best_epoch,
        "held_out_crc": trainer.held_out_crc,
        "first_loss": trainer.first_loss,
    }


def _done_share(trainer: _Trainer, settings: RunSettings, budget_s: float | None) -> float:
    by_time = 0.0 if budget_s is None else trainer.seconds / budget_s
    return min(max(trainer.step / settings.steps, by_time), 1.0)


def _learning_rate(base: float, done: float) -> float:
    """A short ramp up, then a half cosine down to a hundredth."""
    ramp = min(1.0, 0.05 + done / 0.03)
    return float(base * ramp * (0.01 + 0.99 * 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())))


def _loop(
    trainer: _Trainer,
    settings: RunSettings,
    run: Path,
    stream: Stream,
    held_out: list[TileBatch],
    team: Team,
    budget_s: float | None,
    workers: int,
    on_step: Callable[[Progress], None],
) -> None:
    batches = batches_from_stream(stream, trainer.step * team.world + team.rank, workers, team.world)
    shared = team.shared(trainer.net)
    last = saved = time.monotonic()
    loss = gate = 0.0
    try:
        for batch in batches:
            done = team.agreed(1.0 if _is_stale(trainer, settings) else _done_share(trainer, settings, budget_s))
            if done >= 1.0:
                break
            rate = _learning_rate(settings.learning_rate, done)
            total, gated = _one_step(trainer, shared, batch, rate, settings.precision, team.device)
            loss, gate = (total, gated) if not loss else (0.98 * loss + 0.02 * total, 0.98 * gate + 0.02 * gated)
            epoch_ends = trainer.step % EPOCH_STEPS == 0
            if team.leads and epoch_ends:
                _look_at_held_out(trainer, held_out, settings.precision, team.device)
            now = time.monotonic()
            trainer.seconds, last = trainer.seconds + now - last, now
            if not team.leads:
                continue
            on_step(Progress(done, trainer.step, loss, gate, trainer.held_out_loss))
            if trainer.step % LOG_EVERY == 0:
                _log(run, trainer, loss, gate)
            if epoch_ends or now - saved > CHECKPOINT_SECONDS:
                save_checkpoint(run, _state(trainer))
                saved = now
        if team.leads and trainer.step % EPOCH_STEPS:
            _look_at_held_out(trainer, held_out, settings.precision, team.device)
        if team.leads and loss and trainer.step % LOG_EVERY:
            _log(run, trainer, loss, gate)
    finally:
        batches.close()


def _is_stale(trainer: _Trainer, settings: RunSettings) -> bool:
    """Whether the held-out loss has not got better for ``patience`` epochs."""
    epoch = trainer.step // EPOCH_STEPS
    return settings.patience > 0 and epoch - trainer.best_epoch >= settings.patience


def _losses(net: nn.Module, batch: TileBatch, precision: str, device: torch.device) -> Losses:
    tile, cue, clean, mask, weight = (torch.from_numpy(a).to(device, non_blocking=True).float() for a in batch)
    tile = tile.contiguous(memory_format=torch.channels_last)
    halved = precision == "bf16" and (device.type != "cpu" or has_bfloat16())
    with torch.autocast(device.type, torch.bfloat16, enabled=halved):
        out = net(tile, cue)
    return losses_from_output(out, centred(tile), centred(clean), mask, weight / WEIGHT_GAIN)


def _held_out_loss(trainer: _Trainer, held_out: list[TileBatch], precision: str, device: torch.device) -> float:
    """Mean loss of the averaged weights on the held-out corrupted tiles."""
    return float(np.mean([_losses(trainer.average, batch, precision, device).total.item() for batch in held_out]))


@torch.no_grad()
def _look_at_held_out(trainer: _Trainer, held_out: list[TileBatch], precision: str, device: torch.device) -> None:
    """Measure the averaged weights; the best ones are kept."""
    trainer.held_out_loss = _held_out_loss(trainer, held_out, precision, device)
    if trainer.held_out_loss < trainer.best_loss * (1 - BETTER_BY) or not trainer.best:
        trainer.best_loss, trainer.best_epoch = trainer.held_out_loss, trainer.step // EPOCH_STEPS
        trainer.best = {name: value.detach().clone() for name, value in trainer.average.state_dict().items()}


def _one_step(
    trainer: _Trainer, shared: nn.Module, batch: TileBatch, learning_rate: float, precision: str, device: torch.device
) -> tuple[float, float]:
    for group in trainer.optimizer.param_groups:
        group["lr"] = learning_rate
    losses = _losses(shared, batch, precision, device)
    trainer.optimizer.zero_grad(set_to_none=True)
    losses.total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(trainer.net.parameters(), 1.0)
    trainer.optimizer.step()
    trainer.step += 1
    _average_weights(trainer)
    total = losses.total.item()
    if not np.isfinite(total):
        raise InputError(
            expected="a finite loss", received=f"NaN at step {trainer.step}", fix="train with a lower --learning-rate"
        )
    return total, losses.gate.item()


@torch.no_grad()
def _average_weights(trainer: _Trainer) -> None:
    """Exponential moving average of the weights; early steps count less than a full horizon."""
    decay = min(EMA_DECAY, (1 + trainer.step) / (10 + trainer.step))
    source = trainer.net.state_dict()
    for name, value in trainer.average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(source[name], 1 - decay)
        else:
            value.copy_(source[name])


def _log(run: Path, trainer: _Trainer, loss: float, gate: float) -> None:
    path = run / "log.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "seconds", "loss", "gate_loss", "held_out_loss"])
        row = (f"{trainer.seconds:.1f}", f"{loss:.5f}", f"{gate:.6f}", f"{trainer.held_out_loss:.5f}")
        writer.writerow([trainer.step, *row])
