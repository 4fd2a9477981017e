"""What hisir-edge needs that is not there; run by the Python of the environment that was installed into.

    PYTHON installed.py EXTRA ...

Prints a line for each thing that is missing; exit code 1 where there is one. The modules are loaded, too: a library of
the system may be missing.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

STAND_INS = {
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless", "opencv"),
    "onnxruntime": ("onnxruntime-gpu",),
}
MODULES = ("cv2", "onnxruntime", "zmq", "simplejpeg", "PIL", "tifffile", "hisir_edge.cli.main", "harvesters.core")
OF_EXTRA = {
    "gpu": ("pycuda.driver",), "barcode": ("zxingcpp",), "tiff": ("imagecodecs",), "tensorrt-rtx": ("tensorrt_rtx",),
    "postgres": ("psycopg",), "mqtt": ("paho.mqtt",), "cfx": ("proton",), "webhook": ("httpx",),
    "opcua": ("asyncua",), "plc": ("pymodbus",),
    "train": ("torch", "onnx", "scipy", "sklearn", "matplotlib", "jinja2"),
}  # fmt: skip
FIXES = {
    "libGL": "install libgl1 and libglib2.0-0 (Debian, Ubuntu), which OpenCV links to",
    "libgthread": "install libglib2.0-0 (Debian, Ubuntu; libglib2.0-0t64 on the newest), which OpenCV links to",
    "torch": "bring the build of torch that this machine needs; hisir-edge's folders carry none",
}


def missing(name: str, extras: tuple[str, ...], seen: set[str]) -> list[str]:
    """Lines for what a distribution requires, and what that requires."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = []
    for text in importlib.metadata.requires(name) or ():
        one = Requirement(text)
        if one.marker is not None and not any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        wanted = canonicalize_name(one.name)
        if wanted in seen:
            continue
        seen.add(wanted)
        found, there = found_as(wanted)
        if there is None:
            fix = FIXES.get(wanted, "make the folder again, with a 'pip list' of this machine for HAVE")
            lines.append(f"expected {one.name}{one.specifier}, for {name}; got none; {fix}")
        elif there and not one.specifier.contains(there, prereleases=True):
            lines.append(
                f"expected {one.name}{one.specifier}, for {name}; got {there}; make the folder again, with a "
                "'pip list' of this machine for HAVE"
            )
        elif found:
            lines += missing(found, tuple(one.extras), seen)
    return lines


def found_as(name: str) -> tuple[str, str | None]:
    """The distribution that has its modules, and its version; ("", "") for one without metadata, None for none."""
    for one in (name, *STAND_INS.get(name, ())):
        try:
            return one, importlib.metadata.version(one)
        except importlib.metadata.PackageNotFoundError:
            continue
    if name == "opencv-python" and loads("cv2") == "":
        return "", ""  # as JetPack brings it
    return "", None


def loads(module: str) -> str:
    """Why a module does not load; empty where it does. In a process of its own: it may end it."""
    command = [sys.executable, "-I", "-c", f"import {module}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def main() -> int:
    """See above."""
    extras = tuple(sys.argv[1:])
    try:
        lines = missing("hisir-edge", extras, set())
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        lines = [f"expected hisir-edge and packaging to be installed; got {error}; make the folder again"]
    modules = [*MODULES, *(module for extra in extras for module in OF_EXTRA.get(extra, ()))]
    for module in modules if not lines else ():
        if (why := loads(module)) and not (module == "pycuda.driver" and "libcuda.so" in why):  # it needs a driver
            fix = next((text for word, text in FIXES.items() if word in why), "install what it names")
            lines.append(f"expected {module} to load; got {why}; {fix}")
    print("\n".join(lines))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
