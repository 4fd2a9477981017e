"""The lock files, and what of them a machine with a named Python and processor installs.

``base.lock`` is the base install; ``extras/NAME.lock`` has what an extra adds to it. All are universal (uv pip compile
--universal): a line's marker says for which machines it is.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).resolve().parents[1]
SOURCES = ("pycuda",)
"""Packages without wheels: their source is carried, and built where it is installed."""
WHEELS_MADE = ("tensorrt-rtx", "tensorrt-rtx-cu13")
"""Packages of metadata alone that have no wheels either: theirs are made here, and are for any machine."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
OLDEST_GLIBC = 5
"""Of glibc 2.5 are the oldest wheels for Linux (manylinux1)."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One locked package: canonical name, version, the marker's text ("": everywhere), and hashes as pip has them."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        """As a line of a requirements file, without the marker."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={one}" for one in self.hashes)])


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that is installed on: Linux, CPython ``python`` ("3.12"), ``machine``, glibc 2.``glibc`` or later."""

    python: str
    machine: str
    glibc: int

    def markers(self) -> dict[str, str]:
        """The environment that markers ask about."""
        return {
            "python_version": self.python, "python_full_version": f"{self.python}.0", "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0", "platform_python_implementation": "CPython",
            "platform_machine": self.machine, "platform_system": "Linux", "platform_release": "",
            "platform_version": "", "sys_platform": "linux", "os_name": "posix", "extra": "",
        }  # fmt: skip

    def pip_options(self) -> list[str]:
        """Options of ``pip download`` that take wheels for it; pip matches platforms by their whole name."""
        named = [f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, OLDEST_GLIBC - 1, -1)]
        named += [f"manylinux{year}_{self.machine}" for year in (2014, 2010, 1)] + [f"linux_{self.machine}"]
        abis = (f"cp{self.python.replace('.', '')}", "abi3", "none")
        return [
            "--python-version", self.python, "--implementation", "cp",
            *(part for abi in abis for part in ("--abi", abi)),
            *(part for one in named for part in ("--platform", one)),
        ]  # fmt: skip


def pins_from_lock(path: Path) -> list[Pin]:
    """All lines of a lock; OSError where there is none."""
    found = []
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        requirement, *hashes = line.split("--hash=")
        named, _, marker = requirement.partition(";")
        name, _, version = named.strip().partition("==")
        found.append(
            Pin(canonicalize_name(name), version.strip(), marker.strip(), tuple(one.strip() for one in hashes))
        )
    return found


def extras_locked() -> list[str]:
    """Names of extras that have a lock."""
    return sorted(path.stem for path in (FOLDER / "extras").glob("*.lock"))


def pins_for(target: Target, extras: list[str]) -> dict[str, Pin]:
    """What is installed there, by name."""
    found: dict[str, Pin] = {}
    for path in (FOLDER / "base.lock", *(FOLDER / "extras" / f"{name}.lock" for name in extras)):
        for pin in pins_from_lock(path):
            if pin.marker and not Marker(pin.marker).evaluate(target.markers()):
                continue
            if found.setdefault(pin.name, pin).version != pin.version:
                raise ValueError(f"{path.name} and another lock disagree about {pin.name}: run make lock")
    return found


def beyond(base: Path, whole: Path) -> str:
    """The lines of a lock that another one lacks."""
    have = {(pin.name, pin.version, pin.marker) for pin in pins_from_lock(base)}
    out = []
    for pin in pins_from_lock(whole):
        if (pin.name, pin.version, pin.marker) not in have:
            marker = f" ; {pin.marker}" if pin.marker else ""
            out.append(
                " \\\n    ".join([f"{pin.name}=={pin.version}{marker}", *(f"--hash={one}" for one in pin.hashes)])
            )
    return "".join(f"{line}\n" for line in out)


def main() -> None:
    """``python locks.py BASE WHOLE``: what WHOLE has beyond BASE, for make lock."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("whole", type=Path)
    options = parser.parse_args()
    sys.stdout.write(beyond(options.base, options.whole))


if __name__ == "__main__":
    main()
