"""Install pycuda where it is missing, from its source: see requirements/wheelhouse/pycuda_build.py.

python tests/gpu/pycuda_here.py [--libcuda FOLDER] [--archive FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "requirements" / "wheelhouse"))

from pycuda_build import OFFLINE, VERSION, CannotBuild, build


def missing(here: bool = False) -> bool:
    """Whether it is not there; ``here``: not in this very environment."""
    found = importlib.util.find_spec("pycuda")
    return found is None or (here and not Path(found.origin or "").is_relative_to(sys.prefix))


def install_carried(archive: Path) -> None:
    """Build it from a carried source, with what is installed and no network; ends with one line where that fails."""
    try:
        build(archive, Path(sys.executable), OFFLINE)
    except CannotBuild as error:
        sys.exit(str(error))


def install(libcuda: Path | None) -> None:
    """Download and build it; ends with one line where that fails."""
    with tempfile.TemporaryDirectory(prefix="hisir-pycuda-") as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        download = ["download", "--no-deps", "--no-binary", "pycuda", "-d", folder, f"pycuda=={VERSION}"]
        subprocess.run([*pip, *download], check=True)
        try:
            build(next(Path(folder).glob("pycuda-*.tar.gz")), Path(sys.executable), [], libcuda)
        except CannotBuild as error:
            sys.exit(str(error))


def main() -> None:
    """Install it unless it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--libcuda", type=Path, help="folder of a libcuda.so to link against, where no driver is")
    parser.add_argument("--archive", type=Path, help="its source, carried here; nothing is downloaded")
    options = parser.parse_args()
    if not missing(here=options.archive is not None):
        return
    print("building pycuda", flush=True)
    if options.archive is not None:
        install_carried(options.archive)
    else:
        install(options.libcuda)


if __name__ == "__main__":
    main()
