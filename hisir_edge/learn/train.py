"""Training: data, then steps until the step or minute budget is spent; resumable at any instant."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hisir_edge.errors import InputError
from hisir_edge.learn.datasets import frame_size, good_images, split_held_out
from hisir_edge.learn.memory import GoodBoards, good_boards_from_frames, load_scaled
from hisir_edge.learn.run import (
    RunRecord,
    RunSettings,
    load_checkpoint,
    load_record,
    save_checkpoint,
    save_memory,
    save_record,
)
from hisir_edge.learn.tiles import CorruptedTiles, TileBatch, batches_from_stream
from hisir_edge.line.tile import plan_from_size, scaled_hw
from hisir_edge.net.hisir_net import HisirNet
from hisir_edge.net.losses import losses_from_output

EMA_DECAY = 0.998
CHECKPOINT_SECONDS = 60.0
LOG_EVERY = 20
SCALE_SAMPLE = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """What the progress display is told: share done in 0..1, step, smoothed loss terms."""

    done: float
    step: int
    loss: float
    gate: float


@dataclass(slots=True)
class _Trainer:
    """The moving parts of one run; everything in it is in the checkpoint."""

    net: HisirNet
    average: HisirNet
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0


def train(
    settings: RunSettings,
    run: Path,
    max_minutes: float | None = None,
    workers: int = 1,
    on_load: Callable[[int, int], None] = lambda done, total: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> RunRecord:
    """Train until ``settings.steps`` or ``max_minutes`` (of training, all sittings together) are reached.

    A run that exists is continued from its checkpoint if its settings are the same, else InputError.
    """
    record = _open_run(settings, run)
    boards = _load_boards(record, on_load)
    record = replace(record, registered=boards.registered)
    save_record(run, record)
    save_memory(run, boards.memory)
    trainer = _resume(settings, run)
    budget_s = None if max_minutes is None else max_minutes * 60
    _loop(trainer, settings, run, boards, budget_s, workers, on_step)
    save_checkpoint(run, _state(trainer))
    return record


def _open_run(settings: RunSettings, run: Path) -> RunRecord:
    if (run / "run.json").exists():
        record = load_record(run)
        if record.settings != settings:
            raise InputError(
                expected=f"the settings that {run} was begun with ({record.settings})",
                received=str(settings),
                fix="repeat the first command to continue, or choose another --out",
            )
        return record
    if run.exists() and any(run.iterdir()):
        raise InputError(
            expected="a new folder or a training run", received=f"{run} with other files", fix="choose another --out"
        )
    good = good_images(Path(settings.data))
    training, held_out = split_held_out(good, settings.seed)
    frame_hw = frame_size(good)
    scale = settings.scale if settings.scale is not None else _scale_from_data(settings, training, frame_hw)
    plan_from_size(scaled_hw(frame_hw, scale), settings.tile_px, settings.overlap_px)
    run.mkdir(parents=True, exist_ok=True)
    return RunRecord(settings, frame_hw, scale, False, tuple(map(str, training)), tuple(map(str, held_out)))


def _scale_from_data(settings: RunSettings, training: list[Path], frame_hw: tuple[int, int]) -> float:
    """1 for boards that lie alike; else the scale at which one tile sees the short side of the frame.

    Where position at pixel level means nothing (loose objects), context is worth more than detail.
    """
    if settings.register == "on":
        return 1.0
    sample = [load_scaled(path, frame_hw, 1.0) for path in training[:SCALE_SAMPLE]]
    alike = settings.register == "auto" and len(sample) > 1 and good_boards_from_frames(sample).registered
    return 1.0 if alike else min(1.0, settings.tile_px / min(frame_hw))


def _load_boards(record: RunRecord, on_load: Callable[[int, int], None]) -> GoodBoards:
    total = 2 * len(record.train)
    frames = []
    for i, path in enumerate(record.train):
        frames.append(load_scaled(Path(path), record.frame_hw, record.scale))
        on_load(i + 1, total)
    counter = iter(range(len(frames) + 1, total + 1))
    boards = good_boards_from_frames(frames, record.settings.register, lambda: on_load(next(counter, total), total))
    on_load(total, total)
    return boards


def _resume(settings: RunSettings, run: Path) -> _Trainer:
    torch.manual_seed(settings.seed)
    net = HisirNet(settings.backbone, settings.width)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's own stubs
    average = HisirNet(settings.backbone, settings.width)
    average.load_state_dict(net.state_dict())
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 1e-3}, {"params": plain, "weight_decay": 0.0}], lr=settings.learning_rate
    )
    trainer = _Trainer(net, average, optimizer)
    state = load_checkpoint(run)
    if state is not None:
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        trainer.step, trainer.seconds = state["step"], state["seconds"]
    return trainer


def _state(trainer: _Trainer) -> dict[str, Any]:
    return {
        "net": trainer.net.state_dict(),
        "average": trainer.average.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "step": trainer.step,
        "seconds": trainer.seconds,
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
    boards: GoodBoards,
    budget_s: float | None,
    workers: int,
    on_step: Callable[[Progress], None],
) -> None:
    frames_file = run / "boards.npy"
    shape = (len(boards.frames), *boards.frames[0].shape)
    stored = np.lib.format.open_memmap(frames_file, "w+", np.uint8, shape)
    for slot, frame in zip(stored, boards.frames, strict=True):
        slot[:] = frame
    stored.flush()
    del stored
    boards.frames.clear()
    stream = CorruptedTiles(frames_file, boards, settings.tile_px, settings.batch, settings.seed)
    batches = batches_from_stream(stream, trainer.step, workers)
    saved = time.monotonic()
    loss = gate = 0.0
    last = time.monotonic()
    for batch in batches:
        done = _done_share(trainer, settings, budget_s)
        if done >= 1.0:
            break
        total, gated = _one_step(trainer, batch, _learning_rate(settings.learning_rate, done))
        loss, gate = (total, gated) if not loss else (0.98 * loss + 0.02 * total, 0.98 * gate + 0.02 * gated)
        now = time.monotonic()
        trainer.seconds, last = trainer.seconds + now - last, now
        on_step(Progress(done, trainer.step, loss, gate))
        if trainer.step % LOG_EVERY == 0:
            _log(run, trainer, loss, gate)
        if now - saved > CHECKPOINT_SECONDS:
            save_checkpoint(run, _state(trainer))
            saved = now
    batches.close()
    frames_file.unlink(missing_ok=True)


def _one_step(trainer: _Trainer, batch: TileBatch, learning_rate: float) -> tuple[float, float]:
    for group in trainer.optimizer.param_groups:
        group["lr"] = learning_rate
    tile, cue, clean, mask = (torch.from_numpy(a).float() for a in batch)
    tile = tile.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = trainer.net(tile, cue)
    losses = losses_from_output(out, tile / 255 - 0.5, clean / 255 - 0.5, mask)
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
            writer.writerow(["step", "seconds", "loss", "gate_loss"])
        writer.writerow([trainer.step, f"{trainer.seconds:.1f}", f"{loss:.5f}", f"{gate:.6f}"])


def trained_net(run: Path) -> tuple[RunRecord, HisirNet]:
    """The averaged network of a run, in evaluation mode; InputError before the first checkpoint."""
    record = load_record(run)
    state = load_checkpoint(run)
    if state is None:
        raise InputError(
            expected=f"a checkpoint in {run}", received="none", fix="let 'hisir-edge train' run for a minute or more"
        )
    net = HisirNet(record.settings.backbone, record.settings.width)
    net.load_state_dict(state["average"])
    return record, net.eval()
