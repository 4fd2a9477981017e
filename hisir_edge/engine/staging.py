"""A bundle is made beside its place and put there whole, or not at all."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.lock import sole_writer
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.bundle.replace import replace_folder
from hisir_edge.bundle.write import write_manifest
from hisir_edge.engine.assemble import check_drawn
from hisir_edge.engine.compiler import compiler_of
from hisir_edge.engine.options import check_out
from hisir_edge.errors import InputError
from hisir_edge.inspection.selftest import draw_seed


def resolved(out: Path) -> Path:
    """Where a bundle really goes: a link to a bundle stays one."""
    try:
        return out.resolve()
    except (OSError, RuntimeError) as error:  # Python up to 3.12 raises RuntimeError for links in a circle
        raise InputError(
            expected="--out to be a path", received=f"{out} ({error})", fix="choose another --out"
        ) from error


@contextmanager
def staging(out: Path) -> Iterator[tuple[Path, Path]]:
    """Folders for the bundle and for what is needed meanwhile, beside ``out``; both are gone at the end.

    One process at a time writes ``out``; a signal ends the work as an exception would.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(out), _ended_by_signals():
        _sweep(out)
        staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.new.", dir=out.parent))
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.work.", dir=out.parent))
        try:
            yield staged, scratch
        finally:
            for folder in (staged, scratch):
                shutil.rmtree(folder, ignore_errors=True)


def finish(staged: Path, out: Path, manifest: Manifest) -> None:
    """Write the manifest, load the bundle as a daemon would, and put it in its place."""
    write_manifest(staged, manifest)
    loaded = load_bundle(staged)
    if compiler_of(manifest.target) is None:  # the very draw that every daemon with this bundle will make
        with closing(inspector_from_bundle(loaded)) as inspector:
            inspector.look_first(guarded=False)
            check_drawn(inspector, draw_seed(loaded))
    _make_private(staged)
    check_out(out)  # somebody may have put something there meanwhile
    replace_folder(staged, out)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP, unless ignored (nohup), end a build as an exception would: its folders are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    heeded = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_private(folder: Path) -> None:
    """Readable by all, writable by its owner, whatever the umask: a service loads nothing else."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def _sweep(out: Path) -> None:
    """Remove what a killed build into this folder left; the lock is held, so none of it is in use."""
    for kind in ("new", "work"):
        ours = re.compile(re.escape(f".{out.name}.{kind}.") + r"[a-z0-9_]{8}")  # as mkdtemp names them
        for left in out.parent.iterdir():
            if ours.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True)
