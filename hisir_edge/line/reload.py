"""SIGHUP: read the configuration and load its bundles again, while the line goes on with the present ones."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

import structlog

from hisir_edge.config.tables import OutputTable, Settings
from hisir_edge.errors import ConfigError, HisirEdgeError
from hisir_edge.line.assembly import InspectionLine
from hisir_edge.line.products import products_from_settings
from hisir_edge.line.reporting.systemd import Systemd

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
    "hermes",
)
"""Tables of line.toml that hold sockets, cameras and threads: to change them the daemon is started again."""


class Reloader:
    """A thread that reads, loads and tests again on request; requests meanwhile count as one."""

    def __init__(
        self,
        line: InspectionLine,
        read_again: Callable[[], Settings] | None,
        systemd: Systemd,
        use_output: Callable[[OutputTable], None],
    ) -> None:
        self.line, self._read_again, self._systemd, self._use_output = line, read_again, systemd, use_output
        self._asked, self._end = Event(), Event()
        self._thread = Thread(target=self._run, name="reload")

    def __enter__(self) -> Reloader:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it; a reload that is under way is finished first."""
        self._end.set()
        self._asked.set()
        self._thread.join()

    def ask(self) -> None:
        """Read again, soon."""
        self._asked.set()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._end.is_set():
                return
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
        products = products_from_settings(settings, self.line.epoch)
        try:
            before = self.line.intake.use(products)
            try:
                self._use_output(settings.output)
            except BaseException:
                self.line.intake.use(before)
                raise
        except BaseException:
            self.line.pipeline.settled().wait()
            products.close()
            raise
        self.line.pipeline.settled().wait()  # boards that were accepted before are still with the old ones
        before.close(wait=not self.line.pipeline.late_slots)
        log.info("reloaded", products=sorted(self.line.selection.products.by_name), product=self.line.selection.product)
