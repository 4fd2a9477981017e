"""Install hisir-edge from this folder into an environment of its own, without a network: see install.sh.

Standard library alone: nothing is installed yet.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # run with -I: nothing of the folder that it is started from
TEGRA_RELEASE = Path("/etc/nv_tegra_release")
PARENT = "hisir-parent-environment.pth"
"""Names the packages of the environment that this one was made from: venv looks at those of the system alone."""


class Refused(Exception):
    """What is wrong, in one line."""


def checked_manifest() -> dict[str, Any]:
    """The manifest, once every file is there with the hash that it has in it; else Refused."""
    try:
        manifest: dict[str, Any] = json.loads((HERE / "manifest.json").read_text())
    except ValueError as error:
        raise Refused(f"expected a whole manifest.json in {HERE}; got {error}; copy the whole folder again") from error
    for place, wanted in manifest["files"].items():
        path = HERE / place
        try:
            seen = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            beside = f"; copy {path.parent.name} beside {HERE.name}" if place.startswith("../") else ""
            raise Refused(f"expected {path}; got {error.strerror}; copy the whole folder again{beside}") from error
        if seen != wanted["sha256"]:
            raise Refused(f"expected {path} as it was made; got another content; copy the whole folder again")
    return manifest


def check_machine(manifest: dict[str, Any]) -> None:
    """Refused where the folder was made for another processor, or this system's C library is too old for it."""
    if platform.machine() != manifest["machine"]:
        raise Refused(
            f"expected a machine with {manifest['machine']}, for which this folder was made; got {platform.machine()}; "
            f"make it with MACHINE={platform.machine()}"
        )
    name, version = platform.libc_ver()
    if name == "glibc" and int(version.split(".")[1]) < manifest["glibc"]:
        raise Refused(
            f"expected glibc 2.{manifest['glibc']} or later; got {version}; make the folder with GLIBC={version}"
        )


def wants_system_packages() -> bool:
    """On a Jetson, whose TensorRT comes with the system, and where there is a torch already."""
    return TEGRA_RELEASE.exists() or importlib.util.find_spec("torch") is not None


def environment(folder: Path, system_packages: bool) -> Path:
    """The Python of a new environment, or of the one that is there."""
    python, ours = folder / "bin" / "python", f"{sys.version_info[0]}.{sys.version_info[1]}"
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise Refused(f"expected a new folder or an environment; got {folder} with other files; choose another")
    unfinished = folder.with_name(f".{folder.name}.installing")
    if python.exists() and not unfinished.exists():
        config = (folder / "pyvenv.cfg").read_text().lower()
        if f"version = {ours}." not in config and f"version_info = {ours}." not in config:
            raise Refused(f"expected an environment of Python {ours} in {folder}; got another; choose another folder")
        if "include-system-site-packages = true" not in config and system_packages and sys.prefix == sys.base_prefix:
            raise Refused(
                f"expected an environment with --system-site-packages in {folder}; got one without; choose another "
                "folder, or give --no-system-site-packages"
            )
    else:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            unfinished.touch()
        except OSError as error:
            raise Refused(
                f"expected to write to {folder.parent}; got {error.strerror}; use sudo, or choose another folder"
            ) from error
        make_environment(folder, ["--system-site-packages"] if system_packages else [])
    parent = (
        Path(said([python, "-I", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]).strip()) / PARENT
    )
    if system_packages and sys.prefix != sys.base_prefix:
        paths = dict.fromkeys((sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]))
        parent.write_text("".join(f"{path}\n" for path in paths))
    return python


def make_environment(folder: Path, options: list[str]) -> None:
    """With a pip of its own; where Python comes without ensurepip, with that of the environment around."""
    without_pip = ["--without-pip"] if options and importlib.util.find_spec("pip") else None
    for more in ([], without_pip):
        if more is None:
            break
        command = [sys.executable, "-m", "venv", "--clear", *options, *more, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    lines = (done.stdout + done.stderr).strip().splitlines()
    if lines and ("Errno 13" in lines[-1] or "Errno 28" in lines[-1] or "Errno 30" in lines[-1]):
        raise Refused(
            f"expected to write to {folder}; got {lines[-1]}; use sudo, free some space, or choose another folder"
        )
    raise Refused(
        f"expected Python's venv module to make {folder}; got {lines[-1] if lines else 'a failure'}; install "
        f"python{sys.version_info[0]}.{sys.version_info[1]}-venv (Debian, Ubuntu), or choose another folder"
    )


def said(command: list[Any], extra: dict[str, str] | None = None) -> str:
    """What a command printed; Refused with its last line where it failed."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env={**os.environ, **(extra or {})}, check=False
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["a failure"]
        told = [line for line in lines if "rror" in line] or lines
        raise Refused(f"expected {' '.join(map(str, command[:3]))} ... to work; got {told[-1][-400:]}")
    return done.stdout


def install_wheels(python: Path, manifest: dict[str, Any], lists: list[str]) -> None:
    """The wheels of these lists, by their hashes; whatever pip's settings say, nothing is looked for elsewhere."""
    folders = sorted({str((HERE / place).parent) for place in manifest["files"] if place.endswith(".whl")})
    links = [part for folder in folders for part in ("--find-links", folder)]
    said(
        [python, "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "-q", "install", "--no-index",
         "--no-deps", "--require-hashes", "--force-reinstall", *links,
         *(part for name in lists for part in ("-r", HERE / name))],
        {"PIP_CONFIG_FILE": os.devnull},
    )  # fmt: skip


def install_sources(python: Path, manifest: dict[str, Any], without: list[str]) -> list[str]:
    """pycuda, where it was carried and is not there; lines for what could not be built."""
    archive = next((HERE / place for place in manifest["files"] if place.startswith("sources/pycuda-")), None)
    if archive is None or "pycuda" in without or has_pycuda(python):
        return []
    from pycuda_build import OFFLINE, CannotBuild, build

    start = time.monotonic()
    try:
        build(archive, python, OFFLINE)
    except CannotBuild as error:
        return [str(error)]
    print(f"pycuda built in {time.monotonic() - start:.0f} s", flush=True)
    return []


def has_pycuda(python: Path) -> bool:
    """Whether the environment has it."""
    return (
        said([python, "-I", "-c", "import importlib.util as u; print(u.find_spec('pycuda') is not None)"]).strip()
        == "True"
    )


def options_from_command_line() -> argparse.Namespace:
    """What install.sh was given."""
    parser = argparse.ArgumentParser(prog="install.sh", description="Install hisir-edge without a network.")
    parser.add_argument("folder", type=Path, help="the environment, such as /opt/hisir-edge; new, or an older one")
    parser.add_argument("--python", help="the Python to make it with; else python3, or the version that is needed")
    parser.add_argument("--without", action="append", default=[], choices=["pycuda"], help="leave this out")
    parser.add_argument("--check", action="store_true", help="with what the GPU check's tests need")
    parser.add_argument(
        "--system-site-packages", action=argparse.BooleanOptionalAction, default=None,
        help="use what this Python has, too; by default on a Jetson and where there is a torch",
    )  # fmt: skip
    return parser.parse_args()


def main() -> int:
    """Check, make the environment, install, and say what is missing."""
    options = options_from_command_line()
    os.umask(0o022)  # the service's user has to read it, whatever root's own setting is
    start = time.monotonic()
    manifest = checked_manifest()
    check_machine(manifest)
    system_packages = options.system_site_packages
    if system_packages is None:
        system_packages = wants_system_packages()
    python = environment(options.folder.absolute(), system_packages)
    install_wheels(python, manifest, ["requirements.txt", *(["check-requirements.txt"] if options.check else [])])
    options.folder.absolute().with_name(f".{options.folder.absolute().name}.installing").unlink(missing_ok=True)
    lines = install_sources(python, manifest, options.without)
    extras = [name for name in manifest["extras"] if not (name == "gpu" and "pycuda" in options.without)]
    done = subprocess.run([python, "-I", HERE / "installed.py", *extras], capture_output=True, text=True, check=False)
    found = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()[-1:]
    if any("pycuda" in line for line in lines):
        found = [line for line in found if not line.startswith("expected pycuda")]
    lines += found
    for line in lines:
        print(line, file=sys.stderr)
    if lines:
        print(f"installed into {options.folder}, but for what is named above", file=sys.stderr)
        return 2
    print(f"hisir-edge {manifest['hisir_edge']} installed into {options.folder} in {time.monotonic() - start:.0f} s")
    folder = options.folder.absolute()
    print(f"extras: {', '.join(extras) or 'none'}")
    print(f"the machine: {folder}/bin/hisir-edge check")
    print(f"the demonstration: {folder}/bin/hisir-edge demo --bundle {HERE / 'demo'} --out /tmp/hisir-demo")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except (OSError, ValueError, KeyError) as error:
        print(f"expected to install from {HERE}; got {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
