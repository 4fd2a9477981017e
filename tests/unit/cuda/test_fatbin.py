"""The kernels' file covers compute capabilities 7.5 to 12.0 and, by PTX, later ones; what it does not, is named."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys

import pytest

from hisir_edge.cuda import fatbin
from hisir_edge.errors import InputError

PTX, MACHINE_CODE = 1, 2


def kinds(image: bytes) -> set[tuple[int, int]]:
    """(PTX or machine code, compute capability) of each part: a header of 16 bytes, then a header before each."""
    magic, _, at, size = struct.unpack_from("<IHHQ", image)
    assert magic == 0xBA55ED50
    found, end = set(), at + size
    while at < end:
        kind, _, header_bytes, nbytes = struct.unpack_from("<HHIQ", image, at)
        found.add((kind, *struct.unpack_from("<I", image, at + 28)))
        at += header_bytes + nbytes
    return found


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """(shipped, cache): both empty."""
    shipped, cache = tmp_path / "shipped", tmp_path / "cache"
    shipped.mkdir()
    monkeypatch.setattr(fatbin, "shipped_folder", lambda: shipped)
    monkeypatch.setenv("CACHE_DIRECTORY", str(cache))
    return shipped, cache


def fatbin_of(content: bytes) -> bytes:
    """As long as it says."""
    return fatbin.HEAD.pack(fatbin.MAGIC, 1, 16, len(content)) + content


@pytest.mark.parametrize(
    ("arch", "how"),
    [("sm75", "machine code"), ("sm86", "machine code"), ("sm87", "machine code"), ("sm88", "machine code"),
     ("sm90", "machine code"), ("sm103", "machine code"), ("sm121", "machine code"), ("sm130", "PTX"), ("sm200", "PTX"),
     ("sm72", ""), ("sm61", "")],
)  # fmt: skip
def test_what_a_gpu_runs(arch, how, tmp_path):
    assert fatbin.Kernels(tmp_path, fatbin.ARCHITECTURES, fatbin.ARCHITECTURES[-1]).how(arch) == how


def test_a_toolkit_of_its_time_leaves_later_gpus_to_ptx(tmp_path):
    of_2024 = fatbin.Kernels(tmp_path, (75, 80, 86, 87, 89, 90), 90)
    assert [of_2024.how(arch) for arch in ("sm87", "sm100", "sm120")] == ["machine code", "PTX", "PTX"]


def test_compiled_once_for_every_gpu(folders):
    if shutil.which("nvcc") is None:
        pytest.skip("no CUDA toolkit (nvcc) here")
    image = fatbin.kernels_for("sm90")
    parts = kinds(image)
    assert {number for kind, number in parts if kind == MACHINE_CODE} >= {75, 80, 86, 87, 89, 90}
    (ptx,) = (number for kind, number in parts if kind == PTX)
    assert ptx == max(number for kind, number in parts if kind == MACHINE_CODE)
    (kept,) = folders[1].iterdir()
    named = fatbin.kernels_found("sm90")
    assert (named.path, {(MACHINE_CODE, one) for one in named.machine_code} | {(PTX, named.ptx)}) == (kept, parts)
    before = kept.stat().st_mtime_ns
    assert [fatbin.kernels_for(arch) for arch in ("sm75", "sm120", "sm130")] == [image] * 3
    assert kept.stat().st_mtime_ns == before


def test_shipped_ones_need_no_nvcc(folders, monkeypatch):
    monkeypatch.setattr(fatbin, "nvcc_path", lambda: None)
    with pytest.raises(InputError, match=r"compiled kernels kernels-\w+_\*.fatbin in .*shipped or .*cache, or nvcc"):
        fatbin.kernels_for("sm90")
    shipped, cached = fatbin_of(b"shipped"), fatbin_of(b"machine code is before PTX")
    (folders[0] / f"{fatbin.stem()}_sm75-90_ptx90.fatbin").write_bytes(shipped)
    assert fatbin.kernels_for("sm90") == shipped
    folders[1].mkdir()
    (folders[1] / f"{fatbin.stem()}_sm120_ptx120.fatbin").write_bytes(cached)
    assert fatbin.kernels_for("sm120") == cached
    for damaged in (b"", cached[:-1], b"x" * len(cached)):
        (folders[1] / f"{fatbin.stem()}_sm120_ptx120.fatbin").write_bytes(damaged)
        assert fatbin.kernels_for("sm120") == shipped  # by its PTX


def test_a_gpu_that_is_too_old_is_named_before_anything_is_compiled(folders, monkeypatch):
    monkeypatch.setattr(fatbin, "compiled", lambda folder: pytest.fail("compiled"))
    with pytest.raises(InputError) as error:
        fatbin.kernels_for("sm61", "NVIDIA GTX 1080")
    assert str(error.value).startswith(
        "expected a GPU of compute capability 7.5 or later; got NVIDIA GTX 1080 (sm61); use another GPU, or a bundle"
    )


def test_a_toolkit_that_refuses_is_one_line(folders, monkeypatch, tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'nvcc fatal: no such option' >&2; exit 1\n")
    nvcc.chmod(0o755)
    monkeypatch.setattr(fatbin, "nvcc_path", lambda: str(nvcc))
    with pytest.raises(InputError, match="to compile the line's kernels; got nvcc fatal: no such option"):
        fatbin.kernels_for("sm86")


def test_the_command_for_machines_without_nvcc(tmp_path):
    if shutil.which("nvcc") is None:
        pytest.skip("no CUDA toolkit (nvcc) here")
    old = tmp_path / "kernels-0123456789abcdef_sm75_ptx75.fatbin"
    old.write_bytes(b"of other sources")
    command = [sys.executable, "-m", "hisir_edge.cuda.fatbin", "--out", str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert [str(path) for path in tmp_path.iterdir()] == [done.stdout.strip()]
