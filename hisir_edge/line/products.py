"""The bundles that a line has at hand, loaded and tested, one inspector for each frame in flight."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from hisir_edge.config import CameraTable, Settings
from hisir_edge.engine.bundle import Bundle, check_private, load_bundle
from hisir_edge.engine.load import inspector_from_bundle
from hisir_edge.errors import InputError
from hisir_edge.line.board import BoardInspector, in_flight
from hisir_edge.line.publish import Recipe
from hisir_edge.line.selftest import self_test


@dataclass(frozen=True, slots=True)
class Product:
    """One bundle: what its verdicts say of it, and its inspectors by slot of the pipeline."""

    bundle: Bundle
    recipe: Recipe
    inspectors: tuple[BoardInspector, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Products:
    """Everything that was loaded with one configuration, by the products' names; ``first`` is that of bundle.path."""

    settings: Settings
    by_name: dict[str, Product] = field(repr=False)
    first: str

    def close(self, wait: bool = True) -> None:
        """End the engines' threads; without ``wait`` those that hang are left to the end of the process."""
        for product in self.by_name.values():
            product.inspectors[0].close(wait)


def products_from_settings(settings: Settings, epoch: str) -> Products:
    """Load, check and test every bundle of a configuration; BundleError or InputError for one that will not do."""
    by_name: dict[str, Product] = {}
    try:
        for path in (settings.bundle.path, *settings.bundle.others):
            product = _product(settings, Path(path), epoch)
            name = product.bundle.manifest.product
            if name in by_name:
                raise InputError(
                    expected="each product in one bundle of bundle.path and bundle.others",
                    received=f"{name} in {by_name[name].bundle.folder} and in {path}",
                    fix="take one out, or build it with another --product",
                )
            by_name[name] = product
    except BaseException:
        for product in by_name.values():
            product.inspectors[0].close()
        raise
    return Products(settings, by_name, next(iter(by_name)))


def _product(settings: Settings, folder: Path, epoch: str) -> Product:
    if "INVOCATION_ID" in os.environ and folder.is_dir():  # set by systemd for its services
        check_private(folder)
    bundle = load_bundle(folder)
    _check_source(settings, bundle)
    inspector = inspector_from_bundle(bundle, settings.infer.threads)
    try:
        self_test(inspector)
        inspectors = tuple(in_flight(inspector, settings.infer.slots))
    except BaseException:
        inspector.close()
        raise
    recipe = Recipe(settings.line.name, epoch, bundle.manifest.product, bundle.manifest_sha256)
    return Product(bundle, recipe, inspectors)


def _check_source(settings: Settings, bundle: Bundle) -> None:
    """InputError for a camera that is set to another size than the bundle's: each frame would be an ERROR."""
    source = settings.source
    h, w = bundle.recipe.frame_hw
    if isinstance(source, CameraTable) and (source.width or w, source.height or h) != (w, h):
        raise InputError(
            expected=f"source.width and source.height of {w}x{h}, for which the bundle was built",
            received=f"{source.width or w}x{source.height or h}",
            fix="correct them, or leave them out",
        )
