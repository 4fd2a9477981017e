"""A bundle that names the parts of a board; apart, since the build stage that tests it takes torch."""

from __future__ import annotations

import shutil
from pathlib import Path

from hisir_edge.bundle.files import MANIFEST
from hisir_edge.bundle.load import manifest_from_folder
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.engine.parts.importing import LEAST_ON_THINGS, Imported
from hisir_edge.engine.staging import finish, resolved, staging
from hisir_edge.errors import InputError


def bundle_with_parts(bundle: Path, out: Path, found: Imported) -> None:
    """A copy of a bundle that names these parts; tested as a daemon tests it, put in its place whole or not at all.

    InputError where they hardly lie on anything.
    """
    if found.share is None and len(found.points_px) < 3:
        raise InputError(
            expected="three points or more where fewer than eight parts have a known size",
            received=f"{len(found.points_px)}; no bundle was written", fix="name another --at, or sizes: --packages",
        )  # fmt: skip
    if found.share is not None and found.share < LEAST_ON_THINGS:
        raise InputError(
            expected=f"parts of which {LEAST_ON_THINGS:.0%} lie on something of their size",
            received=f"{found.share:.0%}; no bundle was written", fix="look at the overlay, correct --at",
        )  # fmt: skip
    manifest = manifest_from_folder(bundle)
    with staging(resolved(out)) as (staged, _):
        for path in sorted(bundle.iterdir()):
            if path.is_file() and path.name != MANIFEST:
                shutil.copyfile(path, staged / path.name)
        named = {"components": found.placed.components, "mm_per_px": 1 / found.fit.px_per_mm}
        finish(staged, resolved(out), Manifest.model_validate(manifest.model_copy(update=named).model_dump()))
