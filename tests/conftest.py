"""Shared fixtures. Every test fails that leaves a thread, process, memfd, shared memory or socket behind."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
import structlog
from support import small
from support.postgres import postgres_server

# before torch is loaded: threads that wait by spinning take a shared machine's cores from each other
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# how long an example takes says how busy the machine is, not whether the code is right
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SHM = Path("/dev") / "shm"
SHM_S = 5.0
"""So long what is new in /dev/shm may stay: a semaphore has its name for an instant alone."""
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
REPOSITORY = Path(__file__).resolve().parents[1]
DEMO_BUNDLE = REPOSITORY / "engines" / "demo"


def _sockets() -> set[str]:
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = str(fd.readlink())
        except OSError:
            continue
        if target.startswith(("socket:", "/memfd:hisir")):
            found.add(target)
    return found


def _shared_memory() -> set[str]:
    return {path.name for path in SHM.iterdir()}


def _left_in_shared_memory(before: set[str]) -> set[str]:
    """What is new in /dev/shm and nobody beside these tests has open: other programs use it, too."""
    end = time.monotonic() + SHM_S
    while left := _shared_memory() - before:
        ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        left -= {name for pid in psutil.pids() if pid not in ours for name in left if name in _mapped(pid)}
        if not left or time.monotonic() > end:
            break
        time.sleep(0.05)
    return left


def _mapped(pid: int) -> str:
    """What a process has mapped or open; empty where it ended, or belongs to somebody else."""
    try:
        opened = " ".join(str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir())
        return Path(f"/proc/{pid}/maps").read_text() + opened
    except OSError:
        return ""


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended between being listed and being asked
        return ""


@pytest.fixture(autouse=True)
def no_leaks():
    """Compare threads, children, descriptors and /dev/shm before and after each test."""
    before = (set(threading.enumerate()), _sockets(), _shared_memory())
    yield
    if set(threading.enumerate()) - before[0] or _sockets() - before[1] or _shared_memory() - before[2]:
        gc.collect()  # a third of a second with torch loaded: only where something may be left behind
    for thread in set(threading.enumerate()) - before[0]:
        thread.join(5)
    assert not {t for t in threading.enumerate() if t not in before[0] and t.is_alive()}, "threads left behind"
    children = [c for c in psutil.Process().children(recursive=True) if "resource_tracker" not in _command(c)]
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive, f"processes left behind: {alive}"
    assert not _sockets() - before[1], "sockets or rings left behind"
    left = _left_in_shared_memory(before[2])
    assert not left, f"shared memory left behind: {left}"


@pytest.fixture(autouse=True, scope="session")
def plain_tracebacks() -> None:
    """Structlog's own default draws every local variable of every frame, arrays too: seconds for each exception."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, renderer]
    )


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals go into a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command in its own session with one signal as given, however these tests were started; ended afterwards.

    `nohup` and a shell's background jobs ignore SIGHUP and SIGINT, and every child would inherit that.
    """
    running: list[subprocess.Popen[str]] = []

    def start(command: list[str], number: int, handler: signal.Handlers = signal.SIG_DFL, **pipes: int):
        before = signal.signal(number, handler)
        try:
            process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]
        finally:
            signal.signal(number, before)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The CUDA kernels' source compiled for the CPU (portable.h)."""
    import hisir_edge.cuda

    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: sudo apt-get install g++")
    source = Path(hisir_edge.cuda.__file__).parent / "kernels.cu"
    library = tmp_path_factory.mktemp("kernels") / "kernels.so"
    options = ["-x", "c++", "-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]
    if "HISIR_PREPARED" not in os.environ:  # else a machine to measure on, whose compiler may warn of other things
        options += ["-Wall", "-Wextra", "-Werror"]
    command = [compiler, *options, str(source), "-o", str(library)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="session")
def shared_transistor() -> Path:
    """The MVTec transistor photos, where they are at hand."""
    folder = SHARED / "transistor"
    if not folder.is_dir():
        pytest.skip(f"no real photos at {folder}")
    return folder


def _made_once(request: pytest.FixtureRequest, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is made by the first of the test processes that asks for it; the others wait for it."""
    base: Path = request.getfixturevalue("tmp_path_factory").getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base  # of one worker among several
    out = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / f"{name}.done").exists():
            shutil.rmtree(out, ignore_errors=True)  # of a process that was ended in the middle of it
            make(out)
            (shared / f"{name}.done").touch()
    return out


@pytest.fixture(scope="session")
def small_boards(request: pytest.FixtureRequest) -> Path:
    """See small.py."""
    return _made_once(request, "p3-boards", lambda out: small.prepared("small-boards", out) or small.small_boards(out))


@pytest.fixture(scope="session")
def small_run(small_boards: Path, request: pytest.FixtureRequest) -> Path:
    """See small.py."""

    def make(out: Path) -> None:
        run = small.prepared("small-run", out)
        if run is None:
            small.small_run(small_boards, out)
        else:
            small.with_boards(run, small_boards)

    return _made_once(request, "p3", make)


@pytest.fixture(scope="session")
def small_bundle(request: pytest.FixtureRequest) -> Path:
    """See small.py; the run is not made where a bundle was prepared."""

    def make(out: Path) -> None:
        if small.prepared("small-bundle", out) is None:
            small.small_bundle(request.getfixturevalue("small_run"), out)

    return _made_once(request, "p3-bundle", make)


@pytest.fixture
def postgres():
    """A PostgreSQL server of this test's own, to be started again and again (``support.postgres``)."""
    with postgres_server() as server:
        yield server
