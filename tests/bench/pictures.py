"""What reading a picture costs, and which damage is seen: ``read_rgb`` beside OpenCV's decoder, in turns.

python tests/bench/pictures.py engines/demo/golden.jpg --rounds 15
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tifffile

from hisir_edge.errors import InputError
from hisir_edge.images import png_bytes, read_rgb

HOLES_PX = (16, 64, 256, 1024)
HOLES = 60


def with_opencv(path: Path) -> np.ndarray:
    """As pictures were read before: no check of what the decoder says."""
    return cv2.cvtColor(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]


def seconds(path: Path, rounds: int) -> tuple[float, float]:
    """Median seconds of (ours, OpenCV's), one after the other."""
    ours, theirs = [], []
    for _ in range(rounds):
        for read, into in ((read_rgb, ours), (with_opencv, theirs)):
            start = time.perf_counter()
            read(path)
            into.append(time.perf_counter() - start)
    return statistics.median(ours), statistics.median(theirs)


def unseen(path: Path, bytes_lost: int, work: Path) -> int:
    """How many of ``HOLES`` files with a hole of zeros at random are read all the same."""
    whole, rng, count = path.read_bytes(), np.random.default_rng(bytes_lost), 0
    for _ in range(HOLES):
        data = bytearray(whole)
        at = int(rng.integers(len(data) // 10, len(data) - bytes_lost - 10))
        data[at : at + bytes_lost] = bytes(bytes_lost)
        damaged = work / "damaged"
        damaged.write_bytes(data)
        try:
            read_rgb(damaged)
            count += 1
        except InputError:
            pass
    return count


def main() -> None:
    """Print a table of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jpeg", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        photo = read_rgb(chosen.jpeg)
        (work / "a.png").write_bytes(png_bytes(photo, 1))
        tifffile.imwrite(work / "a.tif", photo, photometric="rgb")
        tifffile.imwrite(work / "lzw.tif", photo, photometric="rgb", compression="lzw", predictor=True)
        files = {"JPEG": chosen.jpeg, "PNG": work / "a.png", "TIFF": work / "a.tif", "TIFF, LZW": work / "lzw.tif"}
        print(f"{photo.shape[1]}x{photo.shape[0]}")
        for kind, path in files.items():
            ours, theirs = seconds(path, chosen.rounds)
            print(f"{kind:10s} {ours * 1e3:7.1f} ms, OpenCV {theirs * 1e3:7.1f} ms, ratio {ours / theirs:.2f}")
        for kind in ("JPEG", "PNG", "TIFF, LZW"):
            counts = {size: unseen(files[kind], size, work) for size in HOLES_PX}
            print(
                f"{kind}: read in spite of a hole, of {HOLES}: " + ", ".join(f"{n} ({s} B)" for s, n in counts.items())
            )


if __name__ == "__main__":
    main()
