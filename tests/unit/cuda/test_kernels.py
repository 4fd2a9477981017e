"""The CUDA kernels' own source, compiled as C++ and run on the CPU, against NumPy: equal to the bit."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hisir_edge.cuda
from hisir_edge.cuda import reference
from hisir_edge.cuda.reference import LAYOUTS, fixed_point
from hisir_edge.geometry.merge_plan import merge_plan_from_tiles
from hisir_edge.geometry.tile import padded_size, plan_from_size, tiles_from_frame
from hisir_edge.inspection.light import explain_white, tables_of_gains
from hisir_edge.inspection.rops import Rops

SOURCE = Path(hisir_edge.cuda.__file__).parent / "kernels.cu"
CHANNELS = {"Mono8": 1, "RGB8": 3, "BGR8": 3, "RGBa8": 4}
seeds = st.integers(0, 2**32 - 1)


def launch(library: ctypes.CDLL, name: str, threads_xyz: tuple[int, int, int], *arguments: object) -> None:
    """Run a kernel over at least so many threads in x, y and z, in blocks of 32 x 4; one z a block, as on a GPU."""
    block = (32, 4, 1)
    grid = [-(-n // b) for n, b in zip(threads_xyz, block, strict=True)]
    given = []
    for value in arguments:
        if isinstance(value, np.ndarray):
            assert value.flags.c_contiguous
            given.append(ctypes.c_void_p(value.ctypes.data))
        else:
            given.append(ctypes.c_void_p(None) if value is None else ctypes.c_int(value))  # type: ignore[arg-type]
    triples = [(ctypes.c_uint * 3)(*triple) for triple in (grid, block)]
    getattr(library, f"{name}_launch")(*triples, *given)


def _raw(rng: np.random.Generator, pixel_format: str, hw: tuple[int, int]) -> np.ndarray:
    return rng.integers(0, 256, hw[0] * hw[1] * CHANNELS.get(pixel_format, 1), dtype=np.uint8)


def _turn(degrees: float, dx: float, dy: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return fixed_point(np.array([[np.cos(a), -np.sin(a), dx], [np.sin(a), np.cos(a), dy]]))


def _tiles(library, raw, pixel_format, hw, matrix, plan, tables, cues=None):
    origins = np.array(plan.origins_yx, np.int32)
    n, t = len(origins), plan.tile_px
    out = np.zeros((n, 3, t, t), np.uint8)
    launch(
        library, "tiles_u8", (t, t, n), raw, LAYOUTS.index(pixel_format), hw[1], hw[0], matrix, origins, tables,
        *plan.frame_hw, t, 0, cues, out,
    )  # fmt: skip
    return out, reference.tiles_u8(raw, pixel_format, hw, matrix, origins, tables, plan.frame_hw, t, cues)


@given(
    seeds, st.sampled_from(LAYOUTS), st.tuples(st.integers(64, 150), st.integers(64, 170)),
    st.floats(-1.5, 1.5), st.floats(-14, 14), st.booleans(), st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_tiles_of_a_raw_frame(kernels, seed, pixel_format, hw, degrees, shift, lit, remembered):
    rng = np.random.default_rng(seed)
    plan = plan_from_size(hw, 64, 16)
    tables = rng.integers(0, 256, (len(plan.origins_yx), 1, 256, 3), dtype=np.uint8) if lit else None
    cues = rng.integers(0, 256, (len(plan.origins_yx), 4, 64, 64), dtype=np.uint8) if remembered else None
    out, expected = _tiles(
        kernels, _raw(rng, pixel_format, hw), pixel_format, hw, _turn(degrees, shift, -shift), plan, tables, cues
    )
    assert np.array_equal(out, expected)


@given(seeds, st.lists(st.floats(0.625, 1.75, width=32), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_what_went_white_is_explained_as_on_a_cpu(kernels, seed, gains):
    rng, hw = np.random.default_rng(seed), (64, 96)
    plan = plan_from_size(hw, 64, 32)
    raw = np.clip(_raw(rng, "RGB8", hw).astype(int) * 2, 0, 255).astype(np.uint8)
    n = len(plan.origins_yx)
    every = np.tile(np.array(gains, np.float32), (n, 1))
    cues = rng.integers(0, 256, (n, 4, 64, 64), dtype=np.uint8)
    out, _ = _tiles(kernels, raw, "RGB8", hw, _turn(0, 0, 0), plan, tables_of_gains(every), cues)
    padded = np.zeros((*plan.padded_hw, 3), np.uint8)
    padded[:64, :96] = raw.reshape(64, 96, 3)
    on_cpu = np.empty_like(out)
    tiles_from_frame(plan, padded, np.arange(n), on_cpu, every)
    explain_white(on_cpu, cues, every)
    for tile, cpu, (y, x) in zip(out, on_cpu, plan.origins_yx, strict=True):
        inside = (slice(None), slice(0, 64 - y), slice(0, 96 - x))
        assert np.array_equal(tile[inside], cpu[inside])


@pytest.mark.parametrize("pixel_format", LAYOUTS)
def test_an_unmoved_frame_is_what_the_camera_path_makes_of_it(kernels, pixel_format):
    from hisir_edge.images.pixels import rgb_from_pixels

    rng, hw = np.random.default_rng(3), (64, 96)
    raw = _raw(rng, pixel_format, hw)
    plan = plan_from_size(hw, 64, 32)
    out, _ = _tiles(kernels, raw, pixel_format, hw, _turn(0, 0, 0), plan, None)
    rgb = rgb_from_pixels(pixel_format, raw, hw[1], hw[0])
    for tile, (y, x) in zip(out, plan.origins_yx, strict=True):
        assert np.array_equal(tile, rgb[y : y + 64, x : x + 64].transpose(2, 0, 1))


def test_the_last_tiles_of_a_large_frame(kernels):
    hw, t, rng = (6143, 8191), 256, np.random.default_rng(5)
    raw = _raw(rng, "BayerGB8", hw)
    plan = plan_from_size(hw, t, 32)
    origins = np.array(plan.origins_yx[-2:], np.int32)
    out, matrix = np.zeros((2, 3, t, t), np.uint8), _turn(0.7, -40.3, 22.9)
    layout = LAYOUTS.index("BayerGB8")
    launch(kernels, "tiles_u8", (t, t, 2), raw, layout, hw[1], hw[0], matrix, origins, None, *hw, t, 0, None, out)
    assert np.array_equal(out, reference.tiles_u8(raw, "BayerGB8", hw, matrix, origins, None, hw, t))


def test_half_float_tiles_carry_their_cues(kernels):
    rng, hw, t = np.random.default_rng(4), (100, 130), 64
    plan = plan_from_size(hw, t, 16)
    raw, matrix = _raw(rng, "RGB8", hw), _turn(0.5, 3.2, -2.7)
    memory = rng.integers(0, 256, (4, *padded_size(hw)), dtype=np.uint8)
    origins, first = np.array(plan.origins_yx, np.int32), 2
    n = len(origins) - first
    out = np.zeros((n, 7, t, t), np.float16)
    launch(
        kernels, "tiles_f16", (t, t, n), raw, LAYOUTS.index("RGB8"), hw[1], hw[0], matrix, origins, None, *hw, t, first,
        memory, *memory.shape[1:], out,
    )  # fmt: skip
    tiles = reference.tiles_u8(raw, "RGB8", hw, matrix, origins[first:], None, hw, t)
    assert np.array_equal(out, reference.tiles_f16(tiles, memory, origins[first:]))


def _merged(library, merge, scores, misfit, look=None):
    """ROPS by the kernels: figures, three passes of choice, gather; (map, highest score per region)."""
    n, t, _ = scores.shape
    side = t // 16
    level, peak = np.zeros((2, n, side, side), np.float32)
    no_number = np.zeros(1, np.int32)
    launch(library, "region_figures", (side, side, n), scores, misfit, t, level, peak, no_number)
    assert no_number[0] == np.isnan(peak).any()
    depth, rows, columns = merge.candidate.shape
    before, cell = None, np.zeros((rows, columns), np.int32)
    for _ in range(3):
        tile = np.zeros((rows, columns), np.int32)
        launch(
            library, "choose", (columns, rows, 1), merge.candidate, merge.cell, merge.border, depth, rows, columns,
            side * side, level, misfit, before, look, tile, cell,
        )  # fmt: skip
        before = tile
    out = np.full(merge.plan.padded_hw, -1, np.float32)
    launch(library, "gather", (out.shape[1], out.shape[0], 1), scores, t, tile, cell, *out.shape, out)
    return out, peak


@given(
    seeds, st.tuples(st.integers(64, 260), st.integers(64, 260)), st.sampled_from([16, 32]), st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_merging_is_what_the_cpu_line_does(kernels, seed, hw, overlap, some_left_out):
    rng = np.random.default_rng(seed)
    plan = plan_from_size(hw, 64, overlap)
    n = len(plan.origins_yx)
    run = np.ones(n, bool)
    if some_left_out:
        run[rng.integers(n)] = False
    merge = merge_plan_from_tiles(plan, run)
    base = rng.random(plan.padded_hw, np.float32) * 4
    scores = np.stack([base[y : y + 64, x : x + 64] for y, x in plan.origins_yx]) + rng.random((n, 1, 1), np.float32)
    misfit = rng.random((n, 4, 4), np.float32) / 8
    rops = Rops(merge)
    rops.put(np.flatnonzero(run), scores[run], misfit[run])  # type: ignore[arg-type]
    rops.merged()
    out, peak = _merged(kernels, merge, scores, misfit)
    assert np.array_equal(out, rops.out)
    assert np.array_equal(peak, scores.reshape(n, 4, 16, 4, 16).max((2, 4)))


@pytest.mark.parametrize("spoil", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_kept_for_the_host_to_see(kernels, spoil):
    plan = plan_from_size((64, 64), 64, 16)
    scores, misfit = np.ones((1, 64, 64), np.float32), np.ones((1, 4, 4), np.float32)
    scores[0, 37, 5], misfit[0, 1, 3] = spoil, spoil
    _, peak = _merged(kernels, merge_plan_from_tiles(plan), scores, misfit)
    assert np.argwhere(np.isnan(peak[0])).tolist() == [[1, 3], [2, 0]]


@given(
    seeds, st.tuples(st.integers(17, 120), st.integers(17, 150)), st.floats(-1.5, 1.5), st.floats(-14, 14),
    st.sampled_from([1.0, 0.5, 2.0]), st.sampled_from([0.0, 0.1, 0.6, 2.0]),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_mask_values_and_small_map(kernels, seed, hw, degrees, shift, scale, level):
    """Boards with nothing, little and much to see; frames of the golden image's size, twice and half of it."""
    rng = np.random.default_rng(seed)
    padded = padded_size(hw)
    grid = (padded[0] // 16, padded[1] // 16)
    lively = np.kron(rng.random(grid, np.float32) * level, np.ones((16, 16), np.float32))
    scores = np.asarray(rng.random(padded, np.float32) * lively, np.float32)
    gain = rng.random(hw, np.float32) * 2
    frame_hw = (int(hw[0] / scale) + 3, int(hw[1] / scale) - 1)
    matrix = np.ascontiguousarray(_turn(degrees, shift, -shift) * np.array([scale, scale, 1.0]), np.int64)
    golden = np.ascontiguousarray(scores[: hw[0], : hw[1]])

    tile, cell = rng.permutation(grid[0] * grid[1]).reshape(grid).astype(np.int32), np.zeros(grid, np.int32)
    cells = scores.reshape(grid[0], 16, grid[1], 16).max((1, 3))
    peak = np.zeros((tile.size, 1), np.float32)
    peak[tile.ravel(), 0] = cells.ravel()
    wide = np.zeros(padded, np.float32)
    wide[: hw[0], : hw[1]] = gain
    most_gain = np.ascontiguousarray(wide.reshape(grid[0], 16, grid[1], 16).max((1, 3)))
    small = np.full(grid, -1, np.float32)
    launch(
        kernels, "region_scores", (grid[1], grid[0], 1), scores, gain, *hw, padded[1], peak, 1, tile, cell, most_gain,
        small,
    )  # fmt: skip
    assert np.array_equal(small, reference.region_scores(golden, gain, cells, most_gain))

    bits = np.full((frame_hw[0], -(-frame_hw[1] // 8)), 0xA5, np.uint8)
    values = np.full(frame_hw, -7, np.float32)
    launch(
        kernels, "mask_bits", (bits.shape[1], frame_hw[0], 1), scores, gain, *hw, padded[1], small, matrix, *frame_hw,
        bits, values,
    )  # fmt: skip
    expected = reference.warped_scores(golden, gain, matrix, frame_hw)
    mask = np.unpackbits(bits, axis=1)
    assert np.array_equal(mask[:, : frame_hw[1]].astype(bool), expected >= 1)
    assert not mask[:, frame_hw[1] :].any()
    assert np.array_equal(values, np.where(expected >= 1, expected, np.float32(-7)))


def test_the_mean_of_numbers_below_one_is_below_one(kernels):
    """Of that `mask_bits` makes use; at each of the 65,536 places between four pixels, for the highest such number."""
    below = np.nextafter(np.float32(1), np.float32(0))
    for fx in range(256):
        u, v = np.float32(fx) / np.float32(256), np.arange(256, dtype=np.float32) / np.float32(256)
        row = below * (np.float32(1) - u) + below * u
        assert row < 1
        assert (row * (np.float32(1) - v) + row * v < 1).all()


@pytest.mark.parametrize("arch", ["sm_86", "sm_87", "sm_90", "sm_100", "sm_120"])
def test_nvcc_takes_the_same_source(tmp_path, arch):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no CUDA toolkit (nvcc) here")
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    if arch not in known:
        pytest.skip(f"this CUDA toolkit knows no {arch}")
    out = tmp_path / "kernels.cubin"
    options = ["-cubin", f"-arch={arch}", "-fmad=false", "-Werror", "all-warnings"]
    done = subprocess.run(
        [nvcc, *options, str(SOURCE), "-o", str(out)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in re.findall(r"__global__ void (\w+)", SOURCE.read_text() + SOURCE.with_name("look.cuh").read_text()):
        assert name.encode() in out.read_bytes()
