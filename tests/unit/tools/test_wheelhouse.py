"""A wheelhouse is of the locks, for the machine that it is named for, without what that machine has."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import packaging
import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]
from conftest import REPOSITORY
from have import installed_from_list, left_out, requirements_of
from locks import Pin, Target, beyond, extras_locked, pins_for, pins_from_lock
from make_wheelhouse import least_glibc, spill
from packaging.requirements import Requirement
from pycuda_build import CannotBuild, patched

MAKER = REPOSITORY / "requirements" / "wheelhouse" / "make_wheelhouse.py"
RTX = Target("3.12", "x86_64", 35)
JETSON = Target("3.10", "aarch64", 35)


def wheel(folder: Path, name: str, version: str, *requires: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        archive.writestr(
            f"{name}-{version}.dist-info/METADATA", "\n".join([*lines, *(f"Requires-Dist: {one}" for one in requires)])
        )
    return path


@pytest.mark.parametrize("target", [RTX, JETSON, Target("3.13", "x86_64", 28)])
def test_every_extra_is_locked_with_hashes_for_every_machine(target):
    names = [name for name in extras_locked() if name != "tensorrt-rtx"]
    assert {"starlette", "uvicorn", "argon2-cffi", "cffi"} <= set(pins_for(target, names))
    pins = pins_for(target, [name for name in names if name not in ("view", "cfx", "opcua")])
    assert {"numpy", "onnxruntime", "pycuda", "pybind11", "zxing-cpp", "pytest", "imagecodecs"} <= set(pins)
    assert not {"torch", "colorama", "tensorrt-rtx", "cffi"} & set(pins)
    assert all(one.startswith("sha256:") for pin in pins.values() for one in pin.hashes)
    assert all(pin.hashes for pin in pins.values())


def test_the_locks_hold_what_pyproject_asks_for():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = {
        name: wanted for name, wanted in project["optional-dependencies"].items() if name not in ("dev", "aravis")
    }
    assert set(extras) == {name for name in extras_locked() if not name.startswith("gpu-check")}
    for name, wanted in {"": project["dependencies"], **extras}.items():
        pins = pins_for(RTX, [name] if name else [])
        for one in map(Requirement, wanted):
            if one.name == "torch" or (one.marker and not one.marker.evaluate(RTX.markers())):
                continue
            assert one.specifier.contains(pins[one.name].version), one


def test_a_lock_is_read_for_the_target_not_for_this_machine(tmp_path):
    lock = tmp_path / "some.lock"
    lock.write_text(
        "# made by hand\n"
        "one==1.0 ; python_full_version < '3.11' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "one==2.0 ; python_full_version >= '3.11' and platform_machine == 'x86_64' \\\n    --hash=sha256:cc\n"
        "Some_Name==3\n"
    )  # fmt: skip
    assert pins_from_lock(lock) == [
        Pin("one", "1.0", "python_full_version < '3.11'", ("sha256:aa", "sha256:bb")),
        Pin("one", "2.0", "python_full_version >= '3.11' and platform_machine == 'x86_64'", ("sha256:cc",)),
        Pin("some-name", "3", "", ()),
    ]
    assert pins_from_lock(lock)[0].line() == "one==1.0 --hash=sha256:aa --hash=sha256:bb"
    base = tmp_path / "base.lock"
    base.write_text("one==1.0 ; python_full_version < '3.11' \\\n    --hash=sha256:aa\n")
    (tmp_path / "rest.lock").write_text(beyond(base, lock))
    assert pins_from_lock(tmp_path / "rest.lock") == pins_from_lock(lock)[1:]


def test_pip_is_asked_for_that_machines_wheels():
    options = JETSON.pip_options()
    assert "manylinux_2_35_aarch64" in options and "manylinux2014_aarch64" in options and "cp310" in options
    assert not [one for one in options if "x86_64" in one or one == "manylinux_2_36_aarch64"]


@pytest.mark.parametrize(
    "text",
    ["Package Version Editable project location\n------- ------- ---\nOpenCV_Python 4.10\ntorch   2.11.0\n",
     "OpenCV-Python==4.10\ntorch==2.11.0\nours @ file:///somewhere\n",
     json.dumps([{"name": "opencv-python", "version": "4.10"}, {"name": "Torch", "version": "2.11.0"}])],
)  # fmt: skip
def test_pip_list_in_each_of_its_formats(text, tmp_path):
    (tmp_path / "have.txt").write_text(text)
    assert installed_from_list(tmp_path / "have.txt") == {"opencv-python": "4.10", "torch": "2.11.0"}


def test_what_is_there_is_left_out_where_all_are_content(tmp_path):
    pins = {name: Pin(name, "9", "", ()) for name in ("numpy", "opencv-python", "onnxruntime", "rich", "protobuf")}
    have = {"numpy": "2.5.2", "opencv-python-headless": "4.13", "onnxruntime": "1.20.0", "rich": "", "protobuf": "3.0"}
    ours = wheel(tmp_path, "hisir_edge", "1", "numpy>=1.26", "opencv-python<5,>=4.10", "onnxruntime>=1.21", "rich")
    assert left_out(pins, have, [ours], RTX, []) == {
        "numpy": "2.5.2", "opencv-python": "4.13", "rich": "", "protobuf": "3.0"
    }  # fmt: skip
    # onnxruntime is carried, and wants a later protobuf: it is carried, too
    theirs = wheel(tmp_path, "onnxruntime", "9", "protobuf>=4", 'numpy>=3; python_version < "3.12"')
    assert set(left_out(pins, have, [ours, theirs], RTX, [])) == {"numpy", "opencv-python", "rich"}


def test_requirements_of_an_extra_count_when_it_is_asked_for(tmp_path):
    ours = wheel(tmp_path, "hisir_edge", "1", "numpy", 'pycuda; extra == "gpu"', 'x; sys_platform == "win32"')
    assert [one.name for one in requirements_of(ours, RTX, [])] == ["numpy"]
    assert [one.name for one in requirements_of(ours, RTX, ["gpu"])] == ["numpy", "pycuda"]


def test_glibc_is_that_of_the_newest_wheel():
    names = ["a-1-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", "b-1-py3-none-any.whl",
             "c-1-cp312-abi3-manylinux_2_34_x86_64.whl"]  # fmt: skip
    assert [least_glibc([Path(name) for name in names[:n]]) for n in (1, 2, 3)] == [27, 27, 34]


def test_what_does_not_fit_goes_into_the_folder_beside(tmp_path):
    out = tmp_path / "house"
    (out / "wheels").mkdir(parents=True)
    for name, size in (("a", 500), ("b", 300), ("c", 200)):
        (out / "wheels" / name).write_bytes(bytes(size))
    assert spill(out, 1000) is None
    assert spill(out, 600) == tmp_path / "house-large"
    assert sorted(path.name for path in (out / "wheels").iterdir()) == ["b", "c"]
    assert [path.name for path in (tmp_path / "house-large").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--python", "3.9"], "expected PY to be one of 3.10, 3.11, 3.12, 3.13; got 3.9"),
     (["--machine", "arm64"], "expected MACHINE to be one of x86_64, aarch64; got arm64"),
     (["--glibc", "musl"], "expected GLIBC as 2.35; got musl"),
     (["--extras", "barcode,gpus"], "expected EXTRAS to be of barcode, gpu, mqtt"),
     (["--extras", "cfx"], "it is built from sources"),
     (["--extras", "aravis"], "install python3-gi and gir1.2-aravis-0.8 instead"),
     (["--have", "/nowhere/list.txt"], "expected what 'pip list' said in /nowhere/list.txt")],
)  # fmt: skip
def test_wrong_options_are_one_line(options, said, tmp_path):
    command = [sys.executable, str(MAKER), "--out", str(tmp_path / "out"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").touch()
    done = subprocess.run(
        [sys.executable, str(MAKER), "--out", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "with other files" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_pycudas_source_is_told_where_the_toolkit_is(tmp_path):
    import tarfile

    source = tmp_path / "pycuda-1"
    source.mkdir()
    (source / "setup.py").write_text('"""Words."""\nfrom __future__ import annotations\nimport os\n')
    (source / "pyproject.toml").write_text('[build-system]\nrequires = [\n    "setuptools",\n    "numpy",\n]\n')
    with tarfile.open(tmp_path / "pycuda-1.tar.gz", "w:gz") as archive:
        archive.add(source, "pycuda-1")
    root, out = tmp_path / "cuda", tmp_path / "out"
    (root / "include").mkdir(parents=True)
    out.mkdir()
    made = patched(tmp_path / "pycuda-1.tar.gz", out, root)
    assert "CUDA_ENABLE_CURAND = False" in (made / "siteconf.py").read_text()
    assert repr(str(root / "lib64")) in (made / "siteconf.py").read_text()
    compile((made / "setup.py").read_text(), "setup.py", "exec")  # the future comes first
    assert '"setuptools", "pybind11",' in (made / "pyproject.toml").read_text()


def test_without_a_toolkit_pycuda_is_refused_in_one_line(monkeypatch, tmp_path):
    import pycuda_build

    monkeypatch.setattr(pycuda_build, "which", lambda *_, **__: None)
    if not (Path("/usr/local/cuda") / "include" / "cuda.h").is_file():
        with pytest.raises(CannotBuild, match=r"expected the CUDA toolkit with nvcc and cuda.h, for pycuda; got none"):
            pycuda_build.cuda_root()
    monkeypatch.setattr(pycuda_build, "cuda_root", lambda: tmp_path)
    with pytest.raises(CannotBuild, match=r"expected a C\+\+ compiler, for pycuda"):
        pycuda_build.build(tmp_path / "none.tar.gz", Path(sys.executable), [])


# The installer, on a folder without wheels: what it refuses, it refuses before anything is made.


@pytest.fixture
def house(tmp_path):
    """A wheelhouse with the installer alone."""
    out = tmp_path / "house"
    out.mkdir()
    for name in ("install.sh", "install.py", "installed.py", "pycuda_build.py"):
        (out / name).write_bytes((MAKER.parent / name).read_bytes())
    (out / "requirements.txt").touch()
    manifest = {
        "format": "hisir-edge wheelhouse 1", "hisir_edge": "0",
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}", "machine": "x86_64",
        "glibc": 0, "extras": [], "sources": [], "left_out": {}, "files": {},
    }  # fmt: skip
    import platform

    manifest["machine"] = platform.machine()
    for path in sorted(out.iterdir()):
        manifest["files"][path.name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": 0}
    return out, manifest


def installed(house, manifest, *options):
    (house / "manifest.json").write_text(json.dumps(manifest, indent=1))
    command = ["sh", str(house / "install.sh"), str(house.parent / "venv"), "--python", sys.executable, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"python": "3.99"}, "expected Python 3.99, for which this folder was made; got"),
     ({"machine": "riscv64"}, "expected a machine with riscv64, for which this folder was made; got"),
     ({"glibc": 99}, "expected glibc 2.99 or later; got"),
     ({"files": {"wheels/gone.whl": {"sha256": "0", "bytes": 1}}}, "got No such file or directory; copy the whole"),
     ({"files": {"../house-large/gone.whl": {"sha256": "0", "bytes": 1}}}, "copy house-large beside house"),
     ({"files": {"install.py": {"sha256": "0", "bytes": 1}}}, "install.py as it was made; got another content")],
)  # fmt: skip
def test_another_machine_or_a_damaged_folder_is_refused(house, change, said):
    folder, manifest = house
    done = installed(folder, manifest | change)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (folder.parent / "venv").exists()


def test_a_folder_that_is_no_environment_is_left_alone(house):
    folder, manifest = house
    (folder.parent / "venv").mkdir()
    (folder.parent / "venv" / "mine.txt").touch()
    done = installed(folder, manifest)
    assert done.returncode == 2 and "expected a new folder or an environment" in done.stderr


def test_what_is_missing_is_named(house):
    folder, manifest = house
    done = installed(folder, manifest, "--no-system-site-packages")
    assert done.returncode == 2 and "but for what is named above" in done.stderr
    assert "hisir-edge" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_python_without_ensurepip_uses_the_pip_around_it(monkeypatch, tmp_path):
    import install

    real = subprocess.run

    def without_ensurepip(command, **options):
        if "venv" in command and "--without-pip" not in command:
            return subprocess.CompletedProcess(command, 1, "", "Error: ensurepip is not available")
        return real(command, **options)

    monkeypatch.setattr(install.subprocess, "run", without_ensurepip)
    python = install.environment(tmp_path / "venv", system_packages=True)
    monkeypatch.undo()
    assert not list((tmp_path / "venv").rglob("pip"))
    assert install.said([python, "-m", "pip", "--version"]).startswith("pip ")
    monkeypatch.setattr(install.subprocess, "run", without_ensurepip)
    with pytest.raises(install.Refused, match="got Error: ensurepip is not available; install python3"):
        install.environment(tmp_path / "other", system_packages=False)


def test_a_folder_that_is_no_wheelhouse_is_left_alone(tmp_path):
    """A bundle has a manifest.json, too, and the folder beside may be anybody's."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    beside = tmp_path / "house-large"
    beside.mkdir()
    (beside / "data.txt").touch()
    for out in (bundle, tmp_path / "house", bundle / "manifest.json"):
        done = subprocess.run(
            [sys.executable, str(MAKER), "--out", str(out)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2 and "with other files" in done.stderr and len(done.stderr.splitlines()) == 1
    assert (bundle / "manifest.json").is_file() and (beside / "data.txt").is_file()


def test_an_environment_of_another_python_is_left_alone(house):
    folder, manifest = house
    venv = folder.parent / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.7.1\n")
    done = installed(folder, manifest)
    assert done.returncode == 2 and "expected an environment of Python" in done.stderr, done.stderr
    assert sorted(path.name for path in venv.rglob("*")) == ["bin", "python", "pyvenv.cfg"]


def test_a_damaged_installer_is_one_line(house):
    folder, manifest = house
    (folder / "pycuda_build.py").write_text("def")
    done = installed(folder, manifest)
    assert done.returncode == 2 and "pycuda_build.py as it was made" in done.stderr and "Traceback" not in done.stderr


def test_the_python_that_is_named_is_taken(house):
    folder, manifest = house
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    command = ["sh", str(folder / "install.sh"), str(folder.parent / "venv"), "--python=/bin/false"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "got no such program (/bin/false)" in done.stderr


def test_another_package_with_the_same_modules_will_do(tmp_path):
    """hisir-edge asks for opencv-python; what is there is called otherwise, and asks for something itself."""
    for name, version, requires in (
        ("hisir_edge", "1", "opencv-python<5,>=4.10"), ("opencv_python_headless", "4.12", "numpy>=2"),
        ("numpy", "1.0", ""),
    ):  # fmt: skip
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *([f"Requires-Dist: {requires}"] if requires else [])]))
    code = "import installed\nprint(installed.missing('hisir-edge', (), set()))\n"
    shutil.copytree(Path(packaging.__file__).parent, tmp_path / "packaging")
    environment = {"PYTHONPATH": f"{tmp_path}:{MAKER.parent}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert "expected numpy>=2, for opencv-python-headless; got 1.0" in done.stdout, done.stdout


def test_the_drivers_own_library_is_linked_with(monkeypatch, tmp_path):
    import pycuda_build

    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "libcuda.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path}:{tmp_path / 'driver'}")
    folder = pycuda_build.linkable(tmp_path / "link")
    assert (folder / "libcuda.so").resolve() == tmp_path / "driver" / "libcuda.so.1"


@pytest.mark.parametrize(
    ("line", "tells"),
    [("/usr/bin/ld: cannot find -lcuda: No such file or directory", True), ("a.cpp:1:2: error: no such thing", True),
     ("x.hpp:1:10: fatal error: boost/a.hpp: No such file", True), ("SyntaxError: invalid syntax", True),
     ("error: subprocess-exited-with-error", False), ("error: command '/usr/bin/g++' failed", False),
     ("warning: static void detail::error::virtual_function_default()", False)],
)  # fmt: skip
def test_of_a_build_that_fails_the_lines_that_tell_are_told(line, tells):
    from pycuda_build import TELLING

    assert bool(TELLING.search(line)) is tells


def test_an_interrupted_installation_begins_afresh(monkeypatch, tmp_path):
    import install

    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.7.1\n")
    (tmp_path / ".venv.installing").touch()
    python = install.environment(venv, system_packages=False)
    assert install.said([python, "-m", "pip", "--version"]).startswith("pip ")


def test_half_a_manifest_is_one_line(house):
    folder, _ = house
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (folder / "manifest.json").write_text(f'{{\n "format": 1,\n "python": "{version}",\n "files": {{')
    command = ["sh", str(folder / "install.sh"), str(folder.parent / "venv"), "--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "expected a whole manifest.json" in done.stderr and "Traceback" not in done.stderr
    (folder / "install.py").unlink()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "expected install.py in" in done.stderr


def test_a_target_that_cannot_be_written_to_says_so(house):
    folder, manifest = house
    (folder.parent / "file").touch()  # root may write anywhere but below a file
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    command = ["sh", str(folder / "install.sh"), str(folder.parent / "file" / "venv"), "--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "use sudo, or choose another folder" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1
