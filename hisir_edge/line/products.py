"""The bundles that a line has at hand, loaded and tested, one inspector for each frame in flight."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bundle.fit import check_colours, check_settings, check_size
from hisir_edge.bundle.integrity import check_private
from hisir_edge.bundle.load import Bundle, load_bundle
from hisir_edge.camera.source import Source
from hisir_edge.config.from_files import CallsSource
from hisir_edge.config.sources import AnySource
from hisir_edge.config.tables import BundleTable, Settings
from hisir_edge.errors import BundleError, InputError
from hisir_edge.inspection.board import BoardInspector, in_flight
from hisir_edge.inspection.selftest import self_test
from hisir_edge.line.sockets.message import Provenance, provenance_from_manifest
from hisir_edge.revisions.active import ACTIVE

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Product:
    """One bundle: what its verdicts say of it, and its inspectors by slot of the pipeline.

    ``configured_sha256``: manifest of the configured bundle, which a revision may be in use instead of. ``more``: the
    same product for each further camera, in their order.
    """

    bundle: Bundle
    provenance: Provenance
    inspectors: tuple[BoardInspector, ...] = field(repr=False)
    configured_sha256: str = ""
    more: tuple[Product, ...] = field(default=(), repr=False)

    def close(self, wait: bool = True) -> None:
        """See ``Products.close``."""
        for one in (self, *self.more):
            one.inspectors[0].close(wait)


@dataclass(frozen=True, slots=True)
class Products:
    """Everything that was loaded with one configuration, by the products' names; ``first`` is that of bundle.path."""

    settings: Settings
    by_name: dict[str, Product] = field(repr=False)
    first: str

    @property
    def lost(self) -> bool:
        """Whether a GPU that one of them runs on is lost to this process; see ``BoardInspector.lost``."""
        return any(one.inspectors[0].lost for product in self.by_name.values() for one in (product, *product.more))

    def close(self, wait: bool = True) -> None:
        """End the engines' threads; without ``wait`` those that hang are left to the end of the process."""
        for product in self.by_name.values():
            product.close(wait)


class Selection:
    """The products that are loaded and which of them boards are, unless a trigger names another.

    ``Intake`` alone changes it, and holds its lock meanwhile.
    """

    def __init__(self, products: Products) -> None:
        self.products = products
        self.product = products.first

    @property
    def present(self) -> Product:
        """The product of the boards that are accepted now."""
        by_name = self.products.by_name
        return by_name.get(self.product) or next(iter(by_name.values()))  # while another thread exchanges them

    def select(self, product: str) -> None:
        """The product of the boards that are accepted from now on; InputError for one that is not loaded."""
        if product not in self.products.by_name:
            raise InputError(
                expected=f"one of the products {', '.join(sorted(self.products.by_name))}",
                received=product,
                fix="add its bundle to bundle.others",
                code="unknown",
            )
        self.product = product
        log.info("product", product=product)

    def use(self, products: Products) -> Products:
        """Inspect the boards that are accepted from now on with these products; returns the ones before.

        InputError where the product that was selected is not among them: another is not to be taken for it.
        """
        if self.product not in products.by_name and self.product != self.products.first:
            raise InputError(
                expected=f"the selected product {self.product} in the new configuration",
                received=", ".join(sorted(products.by_name)),
                fix="select another one first",
            )
        before, self.products = self.products, products
        if self.product not in products.by_name:
            self.product = products.first
            log.warning("product", product=self.product, reason="bundle.path holds another one now")
        return before


def each_camera(products: Products) -> dict[tuple[str, str], Product]:
    """Every product as each camera inspects it, by product and camera."""
    settings = products.settings
    cameras = [settings.source.name, *(view.source.name for view in settings.also)]
    return {
        (name, camera): one
        for name, product in products.by_name.items()
        for camera, one in zip(cameras, (product, *product.more), strict=True)
    }


def number_of(product: Product) -> int:
    """The revision that a product's camera inspects with, 0: the configured bundle."""
    bundle = product.bundle
    if bundle.manifest.revision is None or bundle.manifest_sha256 == product.configured_sha256:
        return 0  # what is configured may itself be a copy of another line's revision
    return bundle.manifest.revision.number


def used_revisions(products: Products) -> dict[tuple[str, str], int]:
    """``number_of`` each product and camera."""
    return {key: number_of(one) for key, one in each_camera(products).items()}


Chosen = Callable[[str, str, str], tuple[Path | None, str]]
"""See ``RevisionStore.chosen``."""


def products_from_settings(
    settings: Settings, epoch: str, chosen: Chosen = lambda product, camera, sha256: (None, "")
) -> Products:
    """Load, check and test every bundle of a configuration, or the revision that is in use instead of it.

    BundleError or InputError for one that will not do.
    """
    loaded: list[dict[str, Product]] = []
    views = ((settings.source, settings.bundle), *((view.source, view.bundle) for view in settings.also))
    try:
        for source, bundle in views:
            loaded.append(_of_one_view(settings, source, bundle, epoch, chosen))
            if set(loaded[-1]) != set(loaded[0]):
                raise InputError(
                    expected=f"the products {', '.join(sorted(loaded[0]))} for camera {source.name}, too",
                    received=", ".join(sorted(loaded[-1])),
                    fix="give each [[also]] a bundle of each product, built with the same --product",
                )
    except BaseException:
        for view in loaded:
            for product in view.values():
                product.close()
        raise
    first, *others = loaded
    by_name = {name: replace(product, more=tuple(view[name] for view in others)) for name, product in first.items()}
    return Products(settings, by_name, next(iter(by_name)))


def _of_one_view(
    settings: Settings, source: AnySource, bundle: BundleTable, epoch: str, chosen: Chosen
) -> dict[str, Product]:
    by_name: dict[str, Product] = {}
    try:
        for path in (bundle.path, *bundle.others):
            product = _product(settings, source, Path(path), epoch, chosen)
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
    return by_name


def _loaded(folder: Path) -> Bundle:
    if "INVOCATION_ID" in os.environ and folder.is_dir():  # set by systemd for its services
        check_private(folder)
    return load_bundle(folder)


def _revision(folder: Path) -> Bundle:
    try:
        return _loaded(folder)
    except BundleError as error:
        raise BundleError(
            expected=f"revision {int(folder.name)} whole in {folder}",
            received=f"{error.received} (expected {error.expected})",
            fix=f"copy it again; where the line does not start for it, remove {folder.parent / ACTIVE}: the "
            "configured bundles are used then",
        ) from error


def _product(settings: Settings, source: AnySource, folder: Path, epoch: str, chosen: Chosen) -> Product:
    bundle = _loaded(folder)
    configured_sha256 = bundle.manifest_sha256
    instead, why_not = chosen(bundle.manifest.product, source.name, configured_sha256)
    if why_not:
        log.warning("revision not in use", product=bundle.manifest.product, camera=source.name, reason=why_not)
    if instead is not None:
        bundle = _revision(instead)
    check_settings(source, bundle.folder, bundle.recipe)
    _check_optics(settings, bundle)
    inspector = inspector_from_bundle(bundle, settings.infer.threads)
    try:
        _self_tested(inspector, settings)
        inspector.watch_optics(settings.optics.beyond)
        answers_calls = isinstance(settings.source, CallsSource)
        if answers_calls or settings.archive.keep != "none":
            inspector.keep_evidence(called_only=settings.archive.keep == "called" and not answers_calls)
        inspectors = tuple(in_flight(inspector, settings.infer.slots))
    except BaseException:
        inspector.close()
        raise
    provenance = provenance_from_manifest(settings.line.name, epoch, bundle.manifest, bundle.manifest_sha256)
    return Product(bundle, provenance, inspectors, configured_sha256)


def _self_tested(inspector: BoardInspector, settings: Settings) -> None:
    """The self-test of what the line runs: with the first look, which is guarded only from then on.

    No camera took the bundle's own board, which would be looked at everywhere.
    """
    looks_first = settings.infer.cascade == "auto" and inspector.look_first(guarded=False)
    self_test(inspector)
    if looks_first:
        inspector.look_first()
        if settings.archive.keep != "none":
            log.warning("first look not in use: boards that are archived are looked at everywhere")


def check_frames(sources: Sequence[Source], products: Products) -> None:
    """InputError for an opened camera whose frames are not those of a bundle: each would be an ERROR."""
    for product in products.by_name.values():
        for source, one in zip(sources, (product, *product.more), strict=True):
            if source.frame_wh is not None:
                check_size(source.name, source.frame_wh, one.bundle.recipe)
            if source.pixel_format is not None:
                check_colours(source.pixel_format, one.bundle.recipe.grey)


def _check_optics(settings: Settings, bundle: Bundle) -> None:
    """InputError where frames that are taken otherwise are to be ERRORs, and the bundle cannot tell them."""
    optics = bundle.manifest.optics
    watched = optics is not None and optics.most_blur_px is not None
    if not watched and settings.optics.beyond == "error":
        raise InputError(
            expected='a bundle that knows how sharp its good boards are, for optics.beyond = "error"',
            received=f"{bundle.folder}, which {'was built before that' if optics is None else 'shows too few edges'}",
            fix='build it again, or set optics.beyond = "warning"',
        )
    if not watched:
        log.warning("blur is not watched", product=bundle.manifest.product, bundle=str(bundle.folder))
