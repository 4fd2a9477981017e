"""What a line PC runs, with the lowest versions that pyproject.toml allows: ``make test-lowest``.

No pytest here: the base install, two extras and nothing else.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import tifffile
import typer
import zxingcpp
from PIL import Image

from hisir_edge.cli.main import app
from hisir_edge.config.tables import IdentityTable
from hisir_edge.images import read_rgb
from hisir_edge.line.barcode import BarcodeReader

ROOT = Path(__file__).resolve().parents[1]


def hisir_edge(*arguments: object, code: int = 0) -> str:
    """The output of a command that ends with this exit code."""
    command = [sys.executable, "-m", "hisir_edge", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != code or "Traceback" in done.stderr:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def helps() -> None:
    """Every command explains itself."""
    group = cast("typer.core.TyperGroup", typer.main.get_command(app))
    commands = [name for name, command in group.commands.items() if not command.hidden]
    if len(commands) < 20:
        sys.exit(f"no more than {len(commands)} commands: {commands}")
    for command in commands:
        if "Usage" not in hisir_edge(command, "--help"):
            sys.exit(f"{command} --help says nothing of its usage")
    hisir_edge("check")


def demonstration() -> None:
    """The demonstration bundle passes its self-test and its own golden image."""
    hisir_edge("bundle", "verify", ROOT / "engines" / "demo", "--seed", 1)
    with tempfile.TemporaryDirectory() as name:
        board = Path(name) / "in" / "golden.jpg"
        board.parent.mkdir()
        shutil.copy(ROOT / "engines" / "demo" / "golden.jpg", board)
        said = hisir_edge("inspect", board, "--bundle", ROOT / "engines" / "demo", "--out", Path(name) / "out")
    if not said.startswith("PASS"):
        sys.exit(said)


def pictures() -> None:
    """Each format reads as it was written."""
    photo = np.kron(np.random.default_rng(1).integers(0, 256, (8, 9, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    with tempfile.TemporaryDirectory() as name:
        for form in ("PNG", "BMP", "JPEG"):
            out = io.BytesIO()
            Image.fromarray(photo).save(out, form, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}))
            _compare(Path(name) / form, out.getvalue(), photo, 6 if form == "JPEG" else 0)
        for compression in (None, "lzw", "zlib", "packbits"):
            out = io.BytesIO()
            tifffile.imwrite(out, photo, photometric="rgb", compression=compression)
            _compare(Path(name) / f"{compression}.tif", out.getvalue(), photo, 0)


def _compare(path: Path, data: bytes, photo: np.ndarray, most: int) -> None:
    path.write_bytes(data)
    if np.abs(read_rgb(path).astype(int) - photo).max() > most:
        sys.exit(f"{path.name} reads as something else")


def labels() -> None:
    """A label of several fields gives its field."""
    text = "[)>\x1e06\x1d1P1\x1dSX9\x1e\x04"
    reader = BarcodeReader(IdentityTable(barcode=True, field="S"))
    made = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.DataMatrix)
    code = zxingcpp.write_barcode_to_image(made, scale=4)
    picture = np.pad(np.array(code), 40, constant_values=255)
    if reader.read(np.ascontiguousarray(np.dstack([picture] * 3))) != "X9":
        sys.exit("the label's field is another")


if __name__ == "__main__":
    steps = (helps, demonstration, pictures, labels)
    for step in steps:
        step()
        print(f"{step.__name__}: {step.__doc__}")
    print(f"{len(steps)} passed, 0 failed")
