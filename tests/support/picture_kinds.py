"""The good golden board of a bundle in ways that are read, and in ways that must not be judged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from hisir_edge.images import read_rgb

WANTED = {
    "01_golden": "PASS", "02_hole": "ERROR", "03_motion_photo": "PASS", "04_cut_with_end": "ERROR",
    "05_two_pages": "ERROR", "06_jpeg2000": "ERROR", "07_foreign": "ERROR", "08_turned": "PASS", "09_planar": "PASS",
}  # fmt: skip
"""Verdict of each picture by its name."""


def write_picture_kinds(bundle: Path, folder: Path) -> Path:
    """Write them into a new folder, with a hidden file and a folder below."""
    folder.mkdir()
    golden = bundle / "golden.jpg"
    board = read_rgb(golden)
    whole = golden.read_bytes()
    hole, middle = bytearray(whole), len(whole) // 2
    hole[middle : middle + 1024] = bytes(1024)
    (folder / "01_golden.jpg").write_bytes(whole)
    (folder / "02_hole.jpg").write_bytes(hole)
    (folder / "03_motion_photo.jpg").write_bytes(whole + b"ftypmp42" * 400)
    (folder / "04_cut_with_end.jpg").write_bytes(whole[:middle] + b"\xff\xd9")
    with tifffile.TiffWriter(folder / "05_two_pages.tif") as writer:
        writer.write(board, photometric="rgb")
        writer.write(255 - board, photometric="rgb")
    tifffile.imwrite(folder / "06_jpeg2000.tif", board, photometric="rgb", compression="jpeg2000")
    (folder / "07_foreign.png").write_bytes(b"PK\3\4 not a picture")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.ascontiguousarray(board[::-1, ::-1])).save(folder / "08_turned.png", exif=exif)
    tifffile.imwrite(folder / "09_planar.tif", np.moveaxis(board, 2, 0), photometric="rgb", planarconfig="separate")
    (folder / "._10_golden.jpg").write_bytes(b"Mac OS X")
    (folder / "deeper").mkdir()
    picture = board.copy()
    picture[150:250, 150:250] = (255, 0, 255)
    cv2.imwrite(str(folder / "deeper" / "11_defective.png"), picture[..., ::-1])
    return folder
