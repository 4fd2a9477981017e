"""The connection to the machine before this one, and what its boards mean to the line."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

import structlog

from hisir_edge.config.tables import HermesTable
from hisir_edge.line.hermes.protocol import Board, Channel, Decoder, HermesError, HermesMessage, Receiver, encoded

log = structlog.get_logger()

POLL_S = 0.1
MOST_READ = 65536
CONNECT_TIMEOUT_S = 3.0
LEAST_DELAY_S, MOST_DELAY_S = 0.5, 5.0
CHECK_ALIVE_S = 10.0
KEEP_ALIVE = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 10),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 5),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 3),
)
SILENCE_LIMIT_S = 60.0
"""A sender that answers CheckAlive and says nothing for so long is gone, whatever its connection says."""


class HermesLink:
    """A thread that connects, and connects again; ``ready`` is asked, ``arrived`` and ``lost`` are told.

    ``lost`` gets a board whose connection broke while it was under way. Without ``settings.host``: nothing.
    """

    def __init__(
        self,
        settings: HermesTable,
        machine_id: str,
        ready: Callable[[], bool],
        arrived: Callable[[Board], None],
        lost: Callable[[Board, str], None],
    ) -> None:
        self.settings, self._ready, self._lost = settings, ready, lost
        self._receiver = Receiver(settings.machine_id or machine_id, settings.lane_id, arrived)
        self._end = Event()
        self._thread: Thread | None = None

    @property
    def state(self) -> str:
        """The channel's state as the standard calls it; empty where none is configured."""
        return self._receiver.state.value if self.settings.host else ""

    def __enter__(self) -> HermesLink:
        """Start connecting; a sender that is not there is waited for."""
        if self.settings.host:
            self._thread = Thread(target=self._run, name="hermes")
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Revoke what was promised, close."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        delay_s = LEAST_DELAY_S
        while not self._end.is_set():
            began = time.monotonic()
            try:
                with socket.create_connection((self.settings.host, self.settings.port), CONNECT_TIMEOUT_S) as link:
                    log.info("hermes connected", host=self.settings.host, port=self.settings.port)
                    self._talk(link)
                    reason = "the line ends" if self._end.is_set() else "closed by the other side"
            except (OSError, HermesError) as error:
                reason = str(error)
            except Exception as error:
                log.exception("hermes failed")
                reason = f"{type(error).__name__}: {error}"
            was = self._receiver.state
            if board := self._receiver.disconnected():
                try:
                    self._lost(board, f"the connection to the machine before broke while it was under way ({reason})")
                except Exception:
                    log.exception("board lost", board_id=board.board_id)
            if was is not Channel.NOT_CONNECTED or delay_s == LEAST_DELAY_S:
                log.warning("hermes not connected", host=self.settings.host, reason=reason)
            delay_s = LEAST_DELAY_S if time.monotonic() - began > MOST_DELAY_S else min(2 * delay_s, MOST_DELAY_S)
            self._end.wait(delay_s)

    def _talk(self, link: socket.socket) -> None:
        decoder, heard_at, asked_at = Decoder(), time.monotonic(), time.monotonic()
        link.settimeout(CONNECT_TIMEOUT_S)
        for option, value in KEEP_ALIVE:  # a peer that lost its power is noticed, whatever it supports
            link.setsockopt(*option, value)
        self._send(link, self._receiver.connected())
        moving, moved_at = (self._receiver.state, self._receiver.board), time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(link, selectors.EVENT_READ)
            while not self._end.is_set():
                if selector.select(POLL_S):
                    data = link.recv(MOST_READ)
                    if not data:
                        return
                    heard_at = time.monotonic()
                    for message in decoder.feed(data):
                        log.debug("hermes", received=message.name, state=self.state)
                        self._send(link, self._receiver.on(message))
                self._send(link, self._receiver.ready(self._ready()))
                now = time.monotonic()
                if (self._receiver.state, self._receiver.board) != moving:
                    moving, moved_at = (self._receiver.state, self._receiver.board), now
                elif now > moved_at + self.settings.transport_s:
                    moved_at = now
                    self._send(link, self._receiver.waited())
                if now > asked_at + CHECK_ALIVE_S:
                    asked_at = now
                    self._send(link, [HermesMessage("CheckAlive", {"Type": "1", "Id": str(int(now))})])
                if self.settings.check_alive and self._receiver.answers_alive and now > heard_at + SILENCE_LIMIT_S:
                    raise HermesError(f"silent for {SILENCE_LIMIT_S:g} s")
            self._send(link, self._receiver.ready(False))

    @staticmethod
    def _send(link: socket.socket, messages: list[HermesMessage]) -> None:
        for message in messages:
            link.sendall(encoded(message))
