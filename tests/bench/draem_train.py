"""Train anomalib's DRAEM on the good pictures of one of our runs, for the comparison in docs/RESULTS.md.

    python -m venv peers && peers/bin/pip install anomalib onnx
    peers/bin/python tests/bench/draem_train.py RUN OUT.onnx --minutes 13 [--bf16]
    python tests/bench/peers.py BUNDLE DATA OUT.onnx

Runs in an environment of its own: it needs anomalib, nothing of hisir_edge. The network, loss, corruption and
learning rate are anomalib's; its texture source is the good pictures themselves, since nothing is to be
downloaded. Tiles are random crops at the scale of RUN, as our network sees them (whole pictures where one tile
sees the whole). ``--minutes`` are processor time divided by the cores, so that other work on the machine costs DRAEM
nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
from anomalib.models.image.draem.loss import DraemLoss
from anomalib.models.image.draem.torch_model import DraemModel
from torch import Tensor, nn

BATCH = 8
LEARNING_RATE = 1e-4


class Deployed(nn.Module):
    """DRAEM with the inputs and outputs of our engines, so that the line's own path can run it."""

    def __init__(self, model: DraemModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tile: Tensor, cue: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (n, 3, t, t) -> the odds of the anomaly class (n, t, t), and no misfit."""
        seen = tile.float() / 255
        rebuilt = self.model.reconstructive_subnetwork(seen)
        logits = self.model.discriminative_subnetwork(torch.cat([seen, rebuilt], 1))
        score = nn.functional.softplus(logits[:, 1] - logits[:, 0])
        return score, nn.functional.avg_pool2d(0 * score[:, None] + 0 * cue[:, :1].float(), 16)[:, 0]


def main() -> None:
    """Train for the minutes asked for and write the ONNX file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, required=True, help="processor time of all cores together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 arithmetic, as our own training uses")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    record = json.loads((options.run / "run.json").read_text())
    side, scale = record["settings"]["tile_px"], record["scale"]
    frames = [cv2.imread(path, cv2.IMREAD_COLOR)[..., ::-1] for path in record["train"]]
    frames = [cv2.resize(f, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for f in frames]
    textures = Path(record["train"][0]).parent
    corrupt = PerlinAnomalyGenerator(anomaly_source_path=textures, blend_factor=(0.1, 1.0))
    model, criterion = DraemModel().to(memory_format=torch.channels_last), DraemLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    cores = torch.get_num_threads()
    start, step = time.process_time(), 0
    while (seconds := (time.process_time() - start) / cores) < options.minutes * 60:
        clean = torch.stack([_crop(rng, frames, side) for _ in range(BATCH)])
        tile, mask = corrupt(clean)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            rebuilt, prediction = model(tile.contiguous(memory_format=torch.channels_last))
        loss = criterion(clean, rebuilt.float(), mask, prediction.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 10 == 1:
            print(f"step {step}, {seconds:.0f} s, loss {loss.item():.4f}", flush=True)
    model.eval()
    inputs = (torch.zeros(1, 3, side, side, dtype=torch.uint8), torch.zeros(1, 4, side, side, dtype=torch.uint8))
    names = ["tile", "cue"], ["score", "misfit"]
    axes = {name: {0: "n"} for name in (*names[0], *names[1])}
    torch.onnx.export(
        Deployed(model).eval(), inputs, str(options.out), input_names=names[0], output_names=names[1],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    print(f"{step} steps in {seconds:.0f} s of {cores} cores; {options.out}")


def _crop(rng: np.random.Generator, frames: list[np.ndarray], side: int) -> Tensor:
    frame = frames[int(rng.integers(len(frames)))]
    y, x = (int(rng.integers(length - side + 1)) for length in frame.shape[:2])
    return torch.from_numpy(np.ascontiguousarray(frame[y : y + side, x : x + side].transpose(2, 0, 1))).float() / 255


if __name__ == "__main__":
    main()
