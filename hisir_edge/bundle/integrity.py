"""Whether a bundle is what its manifest says, and who could have changed it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
from pathlib import Path
from typing import Any

from hisir_edge.bundle.describe import rebuild_command
from hisir_edge.bundle.files import FIRST_LOOK, FIRST_LOOK_ENGINE, MANIFEST, REQUIRED, VARIANTS
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.errors import BundleError


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def seal_of(manifest: dict[str, Any]) -> str:
    """Hex SHA-256 of a manifest's JSON without ``seal_sha256``: keys sorted, no spaces, numbers as Python has them."""
    rest = {key: value for key, value in manifest.items() if key != "seal_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def how_to_find(folder: Path, is_run: bool) -> str:
    """The fix for a folder that is no bundle."""
    if is_run:
        return f"hisir-edge build-engine {shlex.quote(str(folder))} --out BUNDLE"
    real = Path(os.path.realpath(folder))
    old = real.with_name(f".{real.name}.old")
    if os.path.exists(old / MANIFEST):  # noqa: PTH110  # says no where it may not look
        mend = f"mv {shlex.quote(str(old))} {shlex.quote(str(real))}"
        return f"an interrupted build left the last one in {old}: {mend}"
    return f"check the path or {rebuild_command(folder)}"


def check_files(folder: Path, manifest: Manifest) -> None:
    """BundleError unless every file is there with the hash that the manifest lists."""
    rebuild = rebuild_command(folder, manifest)
    engine, variants = [manifest.engine.file] if manifest.engine else [], [VARIANTS] if manifest.variants else []
    first_look = [] if manifest.cascade is None else [FIRST_LOOK, *([FIRST_LOOK_ENGINE] if manifest.engine else [])]
    named = [manifest.self_test.image, *engine, *variants, *first_look]
    for name in (*REQUIRED, *named, *manifest.files):
        if name not in manifest.files or Path(name).name != name:
            raise BundleError(expected=f"{MANIFEST} to list {name} by plain name", received="it does not", fix=rebuild)
        try:
            actual = sha256_of(folder / name) if (folder / name).is_file() else ""
        except OSError as error:
            raise BundleError(
                expected=f"{name} in the bundle {folder}",
                received=error.strerror or str(error),
                fix=f"copy the bundle again or {rebuild}",
            ) from error
        if not actual:
            there = (folder / name).exists()
            raise BundleError(
                expected=f"{name} in the bundle {folder}",
                received="something that is no file" if there else "No such file or directory",
                fix=f"copy the bundle again or {rebuild}",
            )
        if actual != manifest.files[name]:
            raise BundleError(
                expected=f"{folder / name} with sha256 {manifest.files[name][:12]}...",
                received=f"{actual[:12]}... (altered since it was built)",
                fix=f"copy the bundle again or {rebuild}",
            )


def check_private(folder: Path) -> None:
    """BundleError when others than root and this user may change a bundle: an engine file is code, trusted as it is.

    That is so for the folder, each file in it, which may be no link, and each folder on the way to it; there a sticky
    one will do (as /tmp, where only its owner can rename what is in it).
    """
    real = folder.resolve()
    wanted = "a bundle that only root or this user can write to (a service trusts what is in it)"
    for path in (real, *sorted(real.iterdir())):
        found = path.lstat()
        quoted = shlex.quote(str(real))
        if stat.S_ISLNK(found.st_mode):
            raise BundleError(
                expected="a bundle of plain files", received=f"{path}, a link", fix="copy the bundle again"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            mode = f"{path} with mode {stat.S_IMODE(found.st_mode):o}"
            raise BundleError(expected=wanted, received=mode, fix=f"chmod -R go-w {quoted}")
        if found.st_uid not in (0, os.geteuid()):
            raise BundleError(
                expected=wanted, received=f"{path} of user {found.st_uid}", fix=f"chown -R root: {quoted}"
            )
    for path in _ways_to(folder):
        found = path.lstat()
        shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        foreign = found.st_uid not in (0, os.geteuid())
        if not stat.S_ISLNK(found.st_mode) and (shared or foreign):
            who = f"of user {found.st_uid}" if foreign else f"with mode {stat.S_IMODE(found.st_mode):o}"
            raise BundleError(
                expected=wanted,
                received=f"it lies in {path} {who}",
                fix="put the bundle into a folder of root's" if foreign else f"chmod go-w {shlex.quote(str(path))}",
            )


def _ways_to(folder: Path) -> list[Path]:
    """Every folder above a bundle: by its path as given, and by where that really leads."""
    return list(dict.fromkeys([*folder.absolute().parents, *folder.resolve().parents]))
