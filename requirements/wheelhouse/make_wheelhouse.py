"""Make a folder from which hisir-edge is installed on a machine without a network: ``make wheelhouse``.

    python requirements/wheelhouse/make_wheelhouse.py --python 3.12 --machine x86_64 --extras gpu,barcode --out FOLDER
        [--have PIP_LIST] [--check PARTS] [--most-mib 60]

In it: ``wheels/`` (locked, with hashes, and hisir-edge itself), ``sources/`` (pycuda), ``demo/`` (the demonstration's
bundle), ``docs/``, ``install.sh``, and with ``--check`` the GPU check and what was prepared for it; ``manifest.json``
names every file with its hash. What does not fit into ``--most-mib`` goes into the folder ``FOLDER-large`` beside it.
Runs where there is a network, on any machine: nothing is built but hisir-edge's wheel.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from zipfile import ZipFile

from fetch import ROOT, Fetched, Refused, fetched
from have import installed_from_list
from locks import MACHINES, PYTHONS, Target, extras_locked, pins_for
from packaging.utils import parse_wheel_filename

from hisir_edge.cuda.fatbin import stem

HERE = Path(__file__).resolve().parent
CARRIED = ("install.sh", "install.py", "pycuda_build.py", "installed.py")
MIB = 1 << 20
FORMAT = "hisir-edge wheelhouse 1"
DOCUMENTS = ("README.md", "CHANGELOG.md", "LICENSE")
NO_EXTRA = {
    "aravis": "it is built from sources with the desktop's libraries; install python3-gi and gir1.2-aravis-0.8 instead",
    "cfx": "it is built from sources; install python3-qpid-proton of the system instead, or forward from another PC",
    "dev": "it is for the checkout; use make test",
}


def sha256_of(path: Path) -> str:
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def least_glibc(wheels: list[Path]) -> int:
    """The minor number of the oldest glibc that runs all of these wheels."""
    least = 0
    for path in wheels:
        minors = [
            int(tag.platform.split("_")[2])
            for tag in parse_wheel_filename(path.name)[3]
            if tag.platform.startswith("manylinux_2_")
        ]
        least = max(least, min(minors, default=0))
    return least


def lay_out(out: Path, found: Fetched, target: Target, extras: list[str], check: Path | None) -> None:
    """The folder without its manifest."""
    for name, files in (("wheels", found.wheels), ("sources", found.sources)):
        (out / name).mkdir(parents=True)
        for path in files:
            shutil.copy2(path, out / name / path.name)
    for name in CARRIED:
        shutil.copy2(HERE / name, out / name)
    for name in DOCUMENTS:
        shutil.copy2(ROOT / name, out / name)
    shutil.copytree(ROOT / "docs", out / "docs")
    shutil.copytree(ROOT / "engines" / "demo", out / "demo")
    installed = {*pins_for(target, extras), "hisir-edge"}
    for name, of_the_line in (("requirements.txt", True), ("check-requirements.txt", False)):
        wheels = [path for path in found.wheels if (name_of(path) in installed) is of_the_line]
        (out / name).write_text("".join(f"{line}\n" for line in sorted(map(requirement, wheels))))
    if check is not None:
        shutil.copy2(HERE / "gpu-check.sh", out / "gpu-check.sh")
        shutil.copytree(check, out / "check")


def name_of(wheel: Path) -> str:
    """The canonical name of a wheel's package."""
    return parse_wheel_filename(wheel.name)[0]


def requirement(wheel: Path) -> str:
    """A wheel as a line of a requirements file, with its own hash."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    return f"{name}=={version} --hash=sha256:{sha256_of(wheel)}"


def spill(out: Path, most_bytes: int) -> Path | None:
    """Move the largest wheels into the folder beside it until the rest fits; that folder, None where all fits."""
    large = large_of(out)
    files = [path for path in out.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    for path in sorted((out / "wheels").iterdir(), key=lambda one: -one.stat().st_size):
        if total <= most_bytes:
            break
        large.mkdir(exist_ok=True)
        total -= path.stat().st_size
        shutil.move(path, large / path.name)
    if total > most_bytes:
        raise Refused(f"expected at most {most_bytes / MIB:.0f} MiB beside the wheels; got {total / MIB:.1f}")
    return large if large.is_dir() else None


def write_manifest(out: Path, large: Path | None, found: Fetched, target: Target, extras: list[str]) -> None:
    """``manifest.json``: for what it is, what was left out, and every file with its hash."""
    files = {}
    for folder in filter(None, (out, large)):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path != out / "manifest.json":
                place = str(path.relative_to(out)) if folder == out else f"../{folder.name}/{path.name}"
                files[place] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    own = next(path for path in found.wheels if path.name.startswith("hisir_edge-"))
    manifest = {
        "format": FORMAT, "hisir_edge": str(parse_wheel_filename(own.name)[1]), **asdict(target),
        "glibc": least_glibc(found.wheels), "extras": extras,
        "sources": sorted({path.name.split("-")[0] for path in found.sources}), "left_out": found.left_out,
        "files": files,
    }  # fmt: skip
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def options_from_command_line() -> argparse.Namespace:
    """Checked options; Refused where one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    parser.add_argument("--python", default=here, help="of the machine that is installed on")
    parser.add_argument("--machine", default="x86_64", help="x86_64, or aarch64 for a Jetson")
    parser.add_argument("--glibc", default="2.35", help="of that machine, or older (ldd --version)")
    parser.add_argument("--extras", default="", help="as in pyproject.toml, with commas")
    parser.add_argument("--have", type=Path, help="what 'pip list' says there: it is not carried")
    parser.add_argument("--check", type=Path, help="the GPU check's prepared parts")
    parser.add_argument("--most-mib", type=float, help="what does not fit goes into FOLDER-large")
    parser.add_argument("--dry-run", action="store_true", help="look at the options alone")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.extras = sorted(set(options.extras.replace(",", " ").split()))
    for what, given, known in (("PY", options.python, PYTHONS), ("MACHINE", options.machine, MACHINES)):
        if given not in known:
            raise Refused(f"expected {what} to be one of {', '.join(known)}; got {given}")
    if not re.fullmatch(r"2\.[0-9]{1,2}", options.glibc):
        raise Refused(f"expected GLIBC as 2.35; got {options.glibc}")
    known = [name for name in extras_locked() if not name.startswith("gpu-check") and name not in NO_EXTRA]
    for name in options.extras:
        if name not in known:
            why = f": {NO_EXTRA[name]}" if name in NO_EXTRA else ""
            raise Refused(f"expected EXTRAS to be of {', '.join(known)}; got {name}{why}")
    options.out = options.out.absolute()
    for folder in (options.out, large_of(options.out)):
        if folder.exists() and not (folder.is_dir() and is_ours(folder)):
            raise Refused(f"expected OUT to be a new folder or an old wheelhouse; got {folder} with other files")
    return options


def large_of(out: Path) -> Path:
    """The folder beside it for what does not fit."""
    return out.with_name(f"{out.name}-large")


def is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or an old wheelhouse, or all wheels."""
    if all(path.suffix == ".whl" for path in folder.iterdir()):
        return True
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return manifest["format"] == FORMAT and all((folder / name).is_file() for name in CARRIED)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def main() -> int:
    """Make it in a folder beside, then take its place: a wheelhouse is whole or not there."""
    options = options_from_command_line()
    out: Path = options.out
    target = Target(options.python, options.machine, int(options.glibc[2:]))
    try:
        have = installed_from_list(options.have) if options.have else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"expected what 'pip list' said in {options.have}; got {error}") from error
    if options.dry_run:
        return 0
    checks = ["gpu-check", *(["gpu-check-torch"] if "torch" in have else [])] if options.check else []
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        found = fetched(target, [*options.extras, *checks], have, Path(folder) / "fetched")
        made = Path(folder) / out.name
        lay_out(made, found, target, options.extras, options.check)
        large = spill(made, int(options.most_mib * MIB)) if options.most_mib else None
        write_manifest(made, large, found, target, options.extras)
        for path in (out, large_of(out)):
            if path.exists():
                shutil.rmtree(path)
        made.rename(out)
        if large is not None:
            large.rename(out.with_name(large.name))
    report(out)
    return 0


def report(out: Path) -> None:
    """What there is now."""
    manifest = json.loads((out / "manifest.json").read_text())
    sizes = {place: one["bytes"] for place, one in manifest["files"].items()}
    beside = sum(size for place, size in sizes.items() if place.startswith("../"))
    print(f"{out}: {(sum(sizes.values()) - beside) / MIB:.1f} MiB in {len(sizes)} files, for Python "
          f"{manifest['python']} on {manifest['machine']}, glibc 2.{manifest['glibc']} or later")  # fmt: skip
    if beside:
        print(f"{out}-large: {beside / MIB:.1f} MiB; copy both folders, side by side")
    if manifest["left_out"]:
        print(f"left out, being there: {', '.join(sorted(manifest['left_out']))}")
    if not any(stem() in name for name in _names_in_wheel(out, manifest)):
        print("without compiled kernels: no nvcc here; a line PC with a GPU compiles them itself, with nvcc")
    print(f"copy it to the line PC; there: sh {out.name}/install.sh /opt/hisir-edge")


def _names_in_wheel(out: Path, manifest: dict[str, dict[str, object]]) -> list[str]:
    place = next(place for place in manifest["files"] if "hisir_edge-" in place)
    with ZipFile(out / place) as wheel:
        return wheel.namelist()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except (OSError, ValueError) as error:
        print(
            f"expected to make the wheelhouse; got {error}; choose another OUT, or correct what is named",
            file=sys.stderr,
        )
        sys.exit(2)
