"""Calibration ranges: what each activation takes on over the calibration tiles, and how far to follow it.

Four ways from the seen values to the range that eight bits cover: ``minmax`` takes all, ``percentile`` leaves the
highest 0.01 % of magnitudes to clipping, ``mse`` weighs rounding against clipping by their squared error, ``entropy``
keeps the distribution's shape (Migacz 2017, 8-bit inference with TensorRT).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from hisir_edge.arrays import F32, F64, U8
from hisir_edge.errors import InputError
from hisir_edge.inspection.cpu.onnxruntime import session_options

BINS = 2048
PERCENTILE = 0.9999
LEVELS = 128
SAMPLES_PER_TILE = 2**16
CHUNK_TILES = 4
LEAST_CLIP = 0.15
TRIALS = 120


@dataclass(frozen=True, slots=True)
class Activation:
    """One tensor over all tiles: its extremes, and a histogram of magnitudes over 0..max(|lowest|, |highest|)."""

    lowest: float
    highest: float
    magnitudes: F64 = field(repr=False)

    @property
    def peak(self) -> float:
        """Highest magnitude."""
        return max(abs(self.lowest), abs(self.highest))


Range = tuple[float, float]


def float_tensors(model: onnx.ModelProto) -> list[str]:
    """Names of every float tensor that some node makes, in order."""
    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *inferred.graph.output)}
    made = [name for node in model.graph.node if node.op_type != "Constant" for name in node.output if name]
    return [name for name in made if kinds.get(name) == TensorProto.FLOAT]


def activations_from_tiles(
    model: Path, tiles: U8, cues: U8, threads: int = 0, places: tuple[str, ...] = ()
) -> dict[str, Activation]:
    """Run tiles (n, 3, t, t) and cues (n, 4, t, t) through a float model twice: extremes, then histograms.

    InputError when there are no tiles, or the network gives NaN or infinity for one: it names the tile, by ``places``
    where given.
    """
    if len(tiles) == 0:
        raise InputError(expected="calibration tiles", received="none", fix="train with more good boards")
    loaded = onnx.load(str(model))
    names = float_tensors(loaded)
    known = {output.name for output in loaded.graph.output}
    loaded.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names if n not in known
    )
    options = session_options(threads)
    session = ort.InferenceSession(loaded.SerializeToString(), options, providers=["CPUExecutionProvider"])
    low, high = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)

    def extremes(name: str, first: int, values: F32) -> None:
        if not np.isfinite(values).all():  # Python's min and max would drop a NaN
            raise _not_finite(name, values, first, min(CHUNK_TILES, len(tiles) - first), places)
        low[name], high[name] = min(low[name], float(values.min())), max(high[name], float(values.max()))

    _over_tiles(session, names, tiles, cues, extremes)
    counts = {name: np.zeros(BINS) for name in names}

    def histogram(name: str, first: int, values: F32) -> None:
        peak = max(abs(low[name]), abs(high[name]))
        flat = np.abs(values.ravel()[:: max(1, values.size // (SAMPLES_PER_TILE * len(values)))])
        bins = np.minimum(flat * (BINS / peak) if peak > 0 else flat, BINS - 1).astype(np.int32)
        counts[name] += np.bincount(bins, minlength=BINS)

    _over_tiles(session, names, tiles, cues, histogram)
    return {name: Activation(low[name], high[name], counts[name]) for name in names}


def _over_tiles(
    session: ort.InferenceSession, names: list[str], tiles: U8, cues: U8, use: Callable[[str, int, F32], None]
) -> None:
    for first in range(0, len(tiles), CHUNK_TILES):
        chunk = slice(first, first + CHUNK_TILES)
        for name, values in zip(names, session.run(names, {"tile": tiles[chunk], "cue": cues[chunk]}), strict=True):
            use(name, first, values)


def _not_finite(name: str, values: F32, first: int, count: int, places: tuple[str, ...]) -> InputError:
    by_tile = values.reshape(count, -1) if values.ndim and values.shape[0] == count else values.reshape(1, -1)
    tile = first + int(np.flatnonzero(~np.isfinite(by_tile).all(1))[0])
    where = places[tile] if tile < len(places) else f"of {len(places) or 'those given'}"
    return InputError(
        expected="finite activations in calibration",
        received=f"NaN or infinity at {name} for tile {tile + 1} ({where})",
        fix="take this picture out of the calibration list, or train again",
    )


def range_by_method(seen: Activation, method: str) -> Range:
    """(lowest, highest) value that eight bits are to cover; always holds 0."""
    clip = {"minmax": lambda a: a.peak, "percentile": _percentile, "mse": _least_error, "entropy": _least_divergence}[
        method
    ](seen)
    return min(0.0, max(seen.lowest, -clip)), max(0.0, min(seen.highest, clip))


def _percentile(seen: Activation) -> float:
    share = np.cumsum(seen.magnitudes) / max(seen.magnitudes.sum(), 1)
    return float((np.searchsorted(share, PERCENTILE) + 1) / BINS * seen.peak)


def _least_error(seen: Activation) -> float:
    """The clip with the least squared error: rounding inside it, clipping beyond."""
    middles = (np.arange(BINS) + 0.5) / BINS * seen.peak
    total = max(seen.magnitudes.sum(), 1)
    signed = seen.lowest < 0
    errors = []
    clips = np.linspace(LEAST_CLIP, 1, TRIALS) * seen.peak
    for clip in clips:
        step = clip / (LEVELS - 1) if signed else clip / (2 * LEVELS - 1)
        beyond = np.maximum(middles - clip, 0)
        inside = seen.magnitudes[middles <= clip].sum()
        errors.append((inside * step**2 / 12 + (seen.magnitudes * beyond**2).sum()) / total)
    return float(clips[int(np.argmin(errors))])


def _least_divergence(seen: Activation) -> float:
    """The clip whose 128-level version of the histogram diverges least from it (Kullback-Leibler)."""
    counts = seen.magnitudes.copy()
    counts[0] = 0  # exact zeros (behind a ReLU) are represented exactly, whatever the clip
    if counts.sum() == 0:
        return seen.peak
    best, best_bins = np.inf, BINS
    for bins in range(LEVELS, BINS + 1, LEVELS // 8):
        reference = counts[:bins].copy()
        reference[-1] += counts[bins:].sum()
        divergence = _divergence(reference, _coarse(counts[:bins]))
        if divergence < best:
            best, best_bins = divergence, bins
    return best_bins / BINS * seen.peak


def _coarse(counts: F64) -> F64:
    """The histogram as 128 levels can tell it apart, spread over the bins that are not empty."""
    level = np.arange(len(counts)) * LEVELS // len(counts)
    filled = counts > 0
    sums = np.bincount(level, counts, LEVELS)
    bins = np.bincount(level, filled, LEVELS)
    return np.where(filled, (sums / np.maximum(bins, 1))[level], 0.0)


def _divergence(p: F64, q: F64) -> float:
    p, q = p / p.sum(), q / max(q.sum(), 1e-30)
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-9))).sum())
