"""Bundles are exchanged while the line goes on: SIGHUP reads the configuration again, people activate revisions."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from types import TracebackType

import structlog

from hisir_edge.config.kept import OutputTable
from hisir_edge.config.tables import Settings
from hisir_edge.errors import ConfigError, HisirEdgeError
from hisir_edge.line.assembly import InspectionLine
from hisir_edge.line.products import Products, products_from_settings, used_revisions
from hisir_edge.line.reporting.systemd import Systemd
from hisir_edge.revisions.store import RevisionStore

log = structlog.get_logger()

RESTART_ONLY = (
    "line",
    "source",
    "also",
    "publish",
    "control",
    "security",
    "identity",
    "infer",
    "metrics",
    "journal",
    "archive",
    "revisions",
    "hermes",
)
"""Tables of line.toml that hold sockets, cameras and threads: to change them the daemon is started again."""


class Reloader:
    """A thread that reads, loads and tests again on request; requests meanwhile count as one.

    Jobs that exchange bundles in another way are done by the same thread, one after the other.
    """

    def __init__(
        self,
        line: InspectionLine,
        read_again: Callable[[], Settings] | None,
        systemd: Systemd,
        use_output: Callable[[OutputTable], None],
        store: RevisionStore,
    ) -> None:
        self.line, self._read_again, self._systemd, self._use_output = line, read_again, systemd, use_output
        self._store = store
        self._asked, self._wake, self._end = Event(), Event(), Event()
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = Thread(target=self._run, name="reload")

    def __enter__(self) -> Reloader:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it; what is under way is finished first."""
        self._end.set()
        self._wake.set()
        self._thread.join()

    def ask(self) -> None:
        """Read again, soon."""
        self._asked.set()
        self._wake.set()

    def submit(self, job: Callable[[], None]) -> None:
        """Do this in the thread; it tells of its own failures."""
        self._jobs.put(job)
        self._wake.set()

    def exchange(self, make: Callable[[], Products], commit: Callable[[Products], None]) -> None:
        """Inspect with other products from the next board on; with the present ones where anything fails.

        ``commit`` makes it last. Only the thread may call this.
        """
        products = make()
        try:
            before = self.line.intake.use(products)
            try:
                commit(products)
            except BaseException:
                self.line.intake.use(before)
                raise
        except BaseException:
            self.line.pipeline.settled().wait()
            products.close()
            raise
        self.line.pipeline.settled().wait()  # boards that were accepted before are still with the old ones
        before.close(wait=not self.line.pipeline.late_slots)

    def _run(self) -> None:
        while not self._end.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._asked.is_set() and not self._end.is_set():
                self._asked.clear()
                self._read_and_tell()
            while not self._end.is_set() and (job := self._next()) is not None:
                job()

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._jobs.get_nowait()
        except Empty:
            return None

    def _read_and_tell(self) -> None:
        self._systemd.reloading()
        try:
            self._reload()
            self.line.state.last_reload = "reloaded"
        except HisirEdgeError as error:
            self.line.state.last_reload = f"refused: {error}"
            log.error("reload refused, the old configuration stays", reason=str(error))
        except Exception as error:
            self.line.state.last_reload = f"failed: {type(error).__name__}: {error}"
            log.exception("reload failed, the old configuration stays", reason=f"{type(error).__name__}: {error}")
        self._systemd.tell("READY=1", f"STATUS={self.line.state.machine.state.value}")

    def settle(self) -> None:
        """Forget the revisions that another configured bundle has set aside, so that none comes back by itself."""
        try:
            for one in self._store.set_aside(used_revisions(self.line.selection.products)):
                log.warning("revision set aside", number=one.number, product=one.product, camera=one.camera)
        except HisirEdgeError as error:
            log.error("revision not set aside", reason=str(error))

    def _reload(self) -> None:
        if self._read_again is None:
            raise ConfigError(expected="a configuration file", received="none", fix="start with --config")
        settings, now = self._read_again(), self.line.selection.products.settings
        changed = [name for name in RESTART_ONLY if getattr(settings, name) != getattr(now, name)]
        if changed:
            raise ConfigError(
                expected=f"only bundle, optics and output to change while the line runs; [{changed[0]}] as it was",
                received="another one",
                fix="start the daemon again for it",
            )
        self.exchange(
            lambda: products_from_settings(settings, self.line.epoch, self._store.chosen),
            lambda products: self._use_output(settings.output),
        )
        self.settle()
        log.info("reloaded", products=sorted(self.line.selection.products.by_name), product=self.line.selection.product)
