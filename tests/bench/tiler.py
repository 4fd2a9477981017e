"""Our line against anomalib's Tiler with the same network, for docs/RESULTS.md.

    python -m venv peers && peers/bin/pip install anomalib onnxruntime pyzmq structlog pydantic typer rich
    PYTHONPATH=. peers/bin/python tests/bench/tiler.py engines/demo [--size 4096x3000] [--rounds 7] [--every-tile]

Theirs: the frame as a float tensor is tiled, the tiles go through the bundle's ONNX file in batches of 16 on all
cores, the scores are untiled (where tiles overlap, averaged). Ours: what the daemon does with a frame, two in flight,
from the frame to the encoded message, registration, the bundle's first look and judging included; ``--every-tile``:
without the first look. Both take turns in one process.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from anomalib.data.utils.tiler import Tiler

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bench.measure import bundle_of_size
from hisir_edge.bundle.load import load_bundle
from hisir_edge.cli.console import size_from_text
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import BoardInspector, in_flight
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.cpu.onnxruntime import OnnxRuntimeEngine
from hisir_edge.inspection.selftest import picture_of
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.line.sockets.message import Provenance, message_from_judgement
from hisir_edge.machine.cpu import available_threads
from hisir_edge.records import Frame

BATCH = 16
FRAMES = 3


def main() -> None:
    """Measure in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--size", default="4096x3000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--every-tile", action="store_true", help="the whole network sees every tile")
    options = parser.parse_args()
    width, height = size_from_text(options.size)
    loaded = load_bundle(options.bundle)
    frame = np.asarray(cv2.resize(picture_of(loaded), (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    bundle = bundle_of_size(loaded, (height, width))
    inspector = CpuInspector(bundle, engine_from_bundle(bundle))
    inspector.watch_optics()
    looks_first = not options.every_tile and inspector.look_first()
    recipe = Provenance(line="bench", epoch="0" * 32, product="bench", bundle_sha256="0" * 64)

    def judged(one: CpuInspector, number: int) -> None:
        message_from_judgement(
            recipe,
            number,
            Frame(image=Pixels(frame), source="bench", frame_id=1, unit="board", grabbed_at_ns=0),
            one.inspect(frame),
        ).frames()

    t, stride = bundle.recipe.tile_px, bundle.recipe.tile_px - bundle.recipe.overlap_px
    tiler = Tiler(tile_size=t, stride=stride)
    session = OnnxRuntimeEngine(bundle.network, t, available_threads()).session
    memory = torch.from_numpy(np.ascontiguousarray(bundle.memory[:, :height, :width])[None].astype(np.float32))
    cues = Tiler(tile_size=t, stride=stride).tile(memory).numpy().astype(np.uint8)
    image = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1))[None].astype(np.float32))
    rows = []
    pipeline = Pipeline[BoardInspector, int, None](in_flight(inspector, 2), judged, lambda _: None)
    with pipeline:
        for turn in range(options.rounds + 1):
            t0 = time.perf_counter()
            for number in range(FRAMES):
                pipeline.put(number)
            pipeline.flush()
            ours = (time.perf_counter() - t0) / FRAMES
            judgement = inspector.inspect(frame)
            times, share = judgement.times, judgement.looked_share
            t0 = time.perf_counter()
            tiles = tiler.tile(image)
            t1 = time.perf_counter()
            pixels = tiles.numpy().astype(np.uint8)
            scores = [
                session.run(["score"], {"tile": pixels[i : i + BATCH], "cue": cues[i : i + BATCH]})[0]
                for i in range(0, len(pixels), BATCH)
            ]
            t2 = time.perf_counter()
            tiler.untile(torch.from_numpy(np.concatenate(scores))[:, None])
            t3 = time.perf_counter()
            if turn:  # the first one warms up
                rows.append((ours, t3 - t0, times.tile_s + times.merge_s, t1 - t0 + t3 - t2, len(pixels)))
    ours, theirs, our_tiles, their_tiles, count = (median(column) for column in zip(*rows, strict=True))
    print(f"{width}x{height}, {len(inspector.numbers)} tiles of ours, {count:.0f} of theirs, {options.rounds} rounds")
    print(f"first look: {'yes' if looks_first else 'no'}, the whole network sees {share:.0%} of the tiles")
    print(f"a frame: ours {ours:.3f} s, theirs {theirs:.3f} s: {median(r[1] / r[0] for r in rows):.2f} times")
    print(f"tile and merge: ours {1e3 * our_tiles:.0f} ms, theirs {1e3 * their_tiles:.0f} ms: ", end="")
    print(f"{median(r[3] / r[2] for r in rows):.1f} times")
    inspector.workers.close()


if __name__ == "__main__":
    main()
