"""People's changes of the bundles that a line inspects with: made, activated, taken back, one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock, Thread, get_native_id
from typing import Any

import structlog

from hisir_edge.bundle.revised import RevisionModel
from hisir_edge.config.tables import Settings
from hisir_edge.errors import HisirEdgeError, InputError, TryLater
from hisir_edge.line.assembly import InspectionLine
from hisir_edge.line.products import (
    Product,
    Products,
    each_camera,
    number_of,
    products_from_settings,
    used_revisions,
)
from hisir_edge.line.reload import Reloader
from hisir_edge.revisions.active import Actives, activated, active_of
from hisir_edge.revisions.change import Change, with_change
from hisir_edge.revisions.make import revision_of_bundle, revision_of_change
from hisir_edge.revisions.store import RevisionStore, utc_now

log = structlog.get_logger()

MOST_EVENTS = 50
NICENESS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Who asks for a change, why, and the name of the key that the request came with."""

    who: str
    why: str
    client: str = ""


class Revising:
    """Requests are checked at once and done by the reloader's thread; ``as_dict`` tells what came of the last one."""

    def __init__(self, line: InspectionLine, store: RevisionStore, reloader: Reloader) -> None:
        self.store = store
        self._line, self._reloader = line, reloader
        self._lock = Lock()
        self._busy: dict[str, Any] | None = None
        self._last: dict[str, Any] | None = None

    def revise(
        self, product: str, camera: str, of_sha256: str, change: Change, said: Said, comparison: dict[str, float]
    ) -> int:
        """Make a revision of the bundle in use, which has to be ``of_sha256`` still; its number."""
        of = self._of(product, camera)
        if of.bundle.manifest_sha256 != of_sha256:
            raise TryLater(
                expected=f"a change of the bundle that inspects, {of.bundle.manifest_sha256[:12]}...",
                received=f"one of {of_sha256[:12]}...",
                fix="look at the change again with the present bundle",
                code="busy",
            )

        with_change(of.bundle.manifest, change)  # what cannot be is told at once

        def make(staged: Path, record: RevisionModel) -> None:
            threads = self._settings.infer.threads
            revision_of_change(of.bundle, change, record, staged, threads)

        return self._make("revise", of, camera, said, comparison, make)

    def add(self, product: str, camera: str, bundle: Path, said: Said, comparison: dict[str, float]) -> int:
        """Make a revision of a bundle from elsewhere, such as one that was trained anew; its number."""
        of = self._of(product, camera)

        def make(staged: Path, record: RevisionModel) -> None:
            revision_of_bundle(bundle, of.bundle, record, staged, self._settings.infer.threads)

        return self._make("add_revision", of, camera, said, comparison, make)

    def activate(self, number: int, product: str, camera: str, said: Said) -> None:
        """Inspect with a revision from the next board on, 0: with the configured bundle of a product and camera.

        ``product``, ``camera``: of a revision those that are meant, empty: its own.
        """
        if number:
            revision = self.store.find(number)
            known = (revision.product, revision.record.camera)
            if (product or known[0], camera or known[1]) != known:
                raise InputError(
                    expected=f"revision {number}, which is for {known[0]} and camera {known[1]}",
                    received=f"{product or known[0]} and camera {camera or known[1]}",
                    fix="leave product and camera out, or name another revision",
                )
            product, camera = known
        of = self._of(product, camera)
        now = number_of(of)
        if number == now:
            raise InputError(
                expected="another revision than the one in use", received=str(number), fix="nothing is to be done"
            )
        actives = activated(self.store.actives, product, camera, number, of.configured_sha256, now)
        self._exchange("activate", "activated", number, of, camera, actives, said)

    def take_back(self, product: str, camera: str, said: Said, number: int = 0) -> int:
        """Inspect with what was in use before the present revision, from the next board on; its number.

        ``number``: the revision that is meant, which has to be in use still; 0: the one that is.
        """
        of = self._of(product, camera)
        now, active = number_of(of), active_of(self.store.actives, product, camera)
        if number and now != number:
            raise InputError(
                expected=f"revision {number} in use, to be taken back",
                received=f"revision {now}" if now else "the configured bundle",
                fix="look at what is in use",
            )
        if not now or active is None or active.number != now:
            raise InputError(
                expected=f"a revision in use for {product} and camera {camera}",
                received="the configured bundle",
                fix="nothing is to be taken back",
            )
        others = tuple(one for one in self.store.actives if one is not active)
        back = (replace(active, number=active.before, before=0),) if active.before else ()
        self._exchange("take_back", "taken back", active.before, of, camera, (*others, *back), said)
        return active.before

    @property
    def in_use(self) -> int:
        """The revision that boards of the selected product are inspected with by the first camera; 0: as configured."""
        return number_of(self._line.selection.present)

    def as_dict(self, most: int) -> dict[str, Any]:
        """All revisions, the newest first, which are in use, what is being done and what came of the last request."""
        with self._lock:  # first: what is told to be done is in what follows
            busy, last = self._busy, self._last
        used = used_revisions(self._line.selection.products)
        revisions = [
            {
                "number": one.number, "product": one.product, "camera": one.record.camera, "sha256": one.sha256,
                "of_sha256": one.record.of_sha256, "at": one.record.at, "who": one.record.who, "why": one.record.why,
                "comparison": one.record.comparison,
                "in_use": used.get((one.product, one.record.camera)) == one.number,
            }
            for one in reversed(self.store.all())
        ]  # fmt: skip
        return {
            "revisions": revisions[:most],
            "in_use": [{"product": p, "camera": c, "number": n} for (p, c), n in used.items()],
            "busy": busy, "last": last, "events": self.store.events(MOST_EVENTS),
        }  # fmt: skip

    @property
    def _settings(self) -> Settings:
        return self._line.selection.products.settings

    def _of(self, product: str, camera: str) -> Product:
        found = each_camera(self._line.selection.products)
        if (product, camera) not in found:
            cameras = dict.fromkeys(name for _, name in found)
            raise InputError(
                expected=f"a product and a camera of the line ({', '.join(cameras)})",
                received=f"{product!r} and {camera!r}"[:120],
                fix="ask status for the products",
                code="unknown",
            )
        return found[product, camera]

    def _make(
        self, what: str, of: Product, camera: str, said: Said, comparison: dict[str, float],
        make: Callable[[Path, RevisionModel], None],
    ) -> int:  # fmt: skip
        number = self.store.number()
        record = RevisionModel(
            number=number, camera=camera, of_sha256=of.bundle.manifest_sha256, at=utc_now(), who=said.who, why=said.why,
            comparison=comparison,
        )  # fmt: skip
        facts = {"number": number, "product": of.bundle.manifest.product, "camera": camera}

        def work() -> None:
            with self.store.staged() as staged:
                _quietly(lambda: make(staged, record))
                revision = self.store.put(staged)
            self._note("made" if what == "revise" else "added", {**facts, "sha256": revision.sha256}, said)

        self._do(what, facts, said, work)
        return number

    def _exchange(
        self, what: str, word: str, number: int, of: Product, camera: str, actives: Actives, said: Said
    ) -> None:
        product = of.bundle.manifest.product
        facts = {"number": number, "product": product, "camera": camera, "before": number_of(of)}
        key = (product, camera)

        def chosen(name: str, seen_by: str, configured_sha256: str) -> tuple[Path | None, str]:
            return self.store.chosen(name, seen_by, configured_sha256, actives)

        def make() -> Products:
            return self._as_asked(products_from_settings(self._settings, self._line.epoch, chosen), key, number)

        def work() -> None:
            self._reloader.exchange(make, lambda products: self.store.use(actives))
            self._note(word, facts, said)

        self._do(what, facts, said, work)

    def _as_asked(self, products: Products, key: tuple[str, str], number: int) -> Products:
        """What was loaded, where it is the present products but for this revision; InputError, and closed, if not."""
        before = self._line.selection.products
        now, then = each_camera(before), each_camera(products)
        same = now.keys() == then.keys() and all(
            one.configured_sha256 == then[of].configured_sha256 for of, one in now.items()
        )
        if same and used_revisions(products) == used_revisions(before) | {key: number}:
            return products
        products.close()
        raise InputError(
            expected="the configured bundles to be those that the line has loaded",
            received="others in their folders meanwhile",
            fix="reload the line, look, and ask again",
        )

    def _note(self, word: str, facts: dict[str, Any], said: Said) -> None:
        """It is done, whether or not the disk takes the note."""
        try:
            self.store.log(word, **facts, who=said.who, why=said.why, client=said.client)
        except InputError as error:
            log.error("revisions' log not written", reason=str(error))

    def _do(self, what: str, facts: dict[str, Any], said: Said, work: Callable[[], None]) -> None:
        with self._lock:
            if self._busy is not None:
                raise TryLater(
                    expected="one change of the bundles at a time",
                    received=f"{self._busy['do']}, which is being done",
                    fix="ask revisions until busy is null",
                    code="busy",
                )
            self._busy = {"do": what, **facts}

        def job() -> None:
            refused = ""
            try:
                work()
                log.info("revision", do=what, **facts, who=said.who, why=said.why)
            except HisirEdgeError as error:
                refused = str(error)
                log.error("revision refused", do=what, **facts, reason=refused)
            except Exception as error:
                refused = f"{type(error).__name__}: {error}"
                log.exception("revision failed", do=what, **facts, reason=refused)
            with self._lock:
                self._busy, self._last = None, {"do": what, **facts, "refused": refused}

        self._reloader.submit(job)


def _quietly(work: Callable[[], None]) -> None:
    """Do this in a thread of low priority, of which the engine's threads have it too: the boards come first."""
    failed: list[BaseException] = []

    def run() -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICENESS)
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, name="revision")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def store_from_settings(settings: Settings, journal: Path) -> RevisionStore:
    """The revisions of a line; ``journal``: the journal's folder. InputError or BundleError for an unusable one."""
    table = settings.revisions
    folder = Path(table.folder) if table.folder else journal.with_name(f"{journal.name}.revisions")
    return RevisionStore(folder, table.most)
