"""A revision is made: a bundle of its own, whole, tested as the line would test it."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bundle.integrity import check_private
from hisir_edge.bundle.load import Bundle, load_bundle
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.bundle.revised import RevisionModel
from hisir_edge.bundle.write import write_manifest
from hisir_edge.errors import BundleError, InputError
from hisir_edge.inspection.selftest import plants_found, self_test
from hisir_edge.revisions.change import Change, strength_of, with_change


def revision_of_change(bundle: Bundle, change: Change, record: RevisionModel, staged: Path, threads: int) -> Bundle:
    """A bundle with other zones and thresholds in the empty folder ``staged``, loaded from there and tested.

    InputError where nothing would change, BundleError where the self-test does not hold any more.
    """
    record = record.model_copy(update={"strength": strength_of(bundle.manifest) * change.strength})
    manifest = with_change(bundle.manifest, change).model_copy(update={"revision": record})
    return _written(bundle, manifest, staged, threads)


def revision_of_bundle(source: Path, now: Bundle, record: RevisionModel, staged: Path, threads: int) -> Bundle:
    """A copy of another bundle of the same product, as one that was trained anew, in the empty folder ``staged``.

    BundleError for one that is none, InputError for one of another product or of other frames.
    """
    if "INVOCATION_ID" in os.environ:  # set by systemd for its services
        check_private(source)
    _check_plain(source)
    found = load_bundle(source)
    wanted, got = now.manifest, found.manifest
    if (wanted.product, now.recipe.frame_hw) != (got.product, found.recipe.frame_hw):
        h, w = now.recipe.frame_hw
        other_h, other_w = found.recipe.frame_hw
        raise InputError(
            expected=f"a bundle of {wanted.product} for frames of {w}x{h}",
            received=f"{source} of {got.product} for {other_w}x{other_h}",
            fix=f"build it with --product {wanted.product}, from photos of this camera",
        )
    record = record.model_copy(update={"strength": strength_of(got)})
    return _written(found, got.model_copy(update={"revision": record}), staged, threads)


def _check_plain(folder: Path) -> None:
    """InputError for what is no file in a bundle's folder, such as a pipe that nobody writes to."""
    try:
        others = sorted(path.name for path in folder.iterdir() if not path.is_file())
    except OSError as error:
        raise InputError(
            expected="the folder of a bundle", received=f"{folder} ({error.strerror})", fix="check the path"
        ) from error
    if others:
        raise InputError(expected=f"a bundle of plain files in {folder}", received=others[0], fix="copy it again")


def _written(source: Bundle, manifest: Manifest, staged: Path, threads: int) -> Bundle:
    for name in source.manifest.files:
        shutil.copyfile(source.folder / name, staged / name)
    made = _sealed(staged, manifest)
    with closing(inspector_from_bundle(made, threads)) as inspector:
        plants = plants_found(inspector)
        if plants == manifest.self_test.plants:
            self_test(inspector)
            return made
    if not plants:
        raise BundleError(
            expected=f"at least one of {len(manifest.self_test.plants)} planted defects of the self-test to be found",
            received="none with these zones and thresholds",
            fix="leave more of the board to be inspected, or be less strict",
        )
    made = _sealed(
        staged, manifest.model_copy(update={"self_test": manifest.self_test.model_copy(update={"plants": plants})})
    )
    with closing(inspector_from_bundle(made, threads)) as inspector:
        self_test(inspector)
    return made


def _sealed(staged: Path, manifest: Manifest) -> Bundle:
    write_manifest(staged, manifest)
    staged.chmod(0o700)
    for path in staged.iterdir():
        path.chmod(0o600)  # whatever the umask: a service loads nothing that others may change
    return load_bundle(staged)
