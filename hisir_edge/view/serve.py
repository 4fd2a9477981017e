"""The page's process: follows its lines, answers browsers, until it is told to end."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import structlog
import uvicorn

from hisir_edge.bundle.lock import held_folder
from hisir_edge.errors import InputError
from hisir_edge.transport.addresses import not_an_address
from hisir_edge.transport.curve_keys import key_pair, public_key
from hisir_edge.view.access import AuditLog, Sessions, Tries, Users
from hisir_edge.view.answers import Page
from hisir_edge.view.app import STATIC, app_of
from hisir_edge.view.boards import Boards
from hisir_edge.view.guard import Guarded
from hisir_edge.view.history import History
from hisir_edge.view.hub import Hub
from hisir_edge.view.lines import Address, LineLink, Names
from hisir_edge.view.protocol import ImpatientProtocol
from hisir_edge.view.teach.trial import Trials

log = structlog.get_logger()

MOST_CONNECTIONS = 200
GRACE_S = 3
OWN_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSettings:
    """What ``hisir-edge view`` is asked; paths empty where they are not given."""

    lines: tuple[Address, ...]
    listen: str
    state: Path
    users: Path | None = None
    proxy_header: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    host_names: tuple[str, ...] = field(default=())
    keep_days: float = 365.0
    fleet: str = field(default="", repr=False)


def serve(settings: ViewSettings) -> None:
    """Serve until SIGTERM or SIGINT; InputError for what cannot be, before anything is opened."""
    host, port = _address(settings.listen)
    _check_open(settings, host)
    if not (STATIC / "index.html").is_file():
        raise InputError(
            expected="the page's files in the package",
            received=f"none in {STATIC}",
            fix="install a wheel, or make page",
        )
    users = Users(settings.users) if settings.users else None
    _check_lines(settings.lines)
    _check_fleet(settings.fleet)
    secure, ending = settings.tls_cert is not None, Event()
    with ExitStack() as stack:
        stack.enter_context(_sole_page(settings.state))
        history = History(settings.state)
        stack.callback(history.close)
        audit = AuditLog(settings.state / "audit.jsonl")
        stack.callback(audit.close)
        listening = stack.enter_context(_bound(host, port))
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="hisir-view-")))
        hub, names = Hub(), Names()
        links = tuple(
            stack.enter_context(LineLink(one, history, hub.tell, settings.keep_days, names)) for one in settings.lines
        )
        boards = {link.address.endpoint: Boards(link.asker, scratch, ending.is_set) for link in links}
        trials = {
            link.address.endpoint: Trials(link.asker, boards[link.address.endpoint], history, ending.is_set)
            for link in links
        }
        page = Page(
            history=history, links=links, hub=hub, sessions=Sessions(), tries=Tries(), audit=audit, users=users,
            proxy_header=settings.proxy_header.lower(), secure=secure, boards=boards, trials=trials,
            fleet=settings.fleet,
        )  # fmt: skip
        app = Guarded(app_of(page), (*OWN_NAMES, host, *settings.host_names), secure)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=GRACE_S,
            limit_concurrency=MOST_CONNECTIONS, lifespan="off", proxy_headers=False,
            http=ImpatientProtocol,
            ssl_certfile=settings.tls_cert, ssl_keyfile=settings.tls_key,
        )  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn ends at one, then raises it again
            signal.signal(number, lambda *_: None)
        log.info("ready", page=f"{'https' if secure else 'http'}://{settings.listen}/", lines=len(links))
        server = _Server(config, hub, ending)
        server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends what listens, and what waits for a line, before it waits for their connections."""

    def __init__(self, config: uvicorn.Config, hub: Hub, ending: Event) -> None:
        super().__init__(config)
        self._hub, self._ending = hub, ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``."""
        self._ending.set()
        self._hub.close()
        await super().shutdown(sockets)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= 65535:
        raise InputError(expected="--listen HOST:PORT, such as 127.0.0.1:8080", received=listen, fix="correct it")
    return host, int(port)


def _check_fleet(target: str) -> None:
    """InputError for a fleet that is no database, or whose driver is not installed."""
    if not target:
        return
    from hisir_edge.fleet.address import connection_of, is_database

    if not is_database(target):
        raise InputError(
            expected="--fleet postgresql://USER@HOST/DATABASE", received="a folder, or another kind of storage",
            fix="name the store.target of a fleet.toml that is a database",
        )  # fmt: skip
    try:
        connection_of(target, "--fleet")
    except ImportError as error:
        raise InputError(
            expected="the driver for --fleet", received=str(error), fix="pip install 'hisir-edge[postgres]'"
        ) from error


def _check_open(settings: ViewSettings, host: str) -> None:
    """InputError for a page that others can reach without TLS and login."""
    try:
        own = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        own = host == "localhost"
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InputError(expected="--tls-cert and --tls-key together", received="one of them", fix="name both")
    if settings.proxy_header and (settings.users is None or not own):
        raise InputError(
            expected="--users, and a loopback address, with --proxy-user-header: only the proxy may reach the page",
            received=settings.listen, fix="listen on 127.0.0.1, behind the proxy",
        )  # fmt: skip
    if not own and (settings.tls_cert is None or settings.users is None):
        raise InputError(
            expected=f"--tls-cert, --tls-key and --users for {settings.listen}, which other machines can reach",
            received="not all of them", fix="listen on 127.0.0.1, or name them (hisir-edge view-user makes users)",
        )  # fmt: skip
    if settings.tls_cert is not None and settings.tls_key is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                expected="a certificate and its key, both PEM", received=f"{settings.tls_cert}: {error}"[:200],
                fix="correct --tls-cert and --tls-key",
            ) from error  # fmt: skip


def _check_lines(lines: tuple[Address, ...]) -> None:
    """InputError for addresses and keys that are none, and for a line that is named twice."""
    for one in lines:
        for name, value in (("--connect", one.endpoint), ("--control", one.control)):
            if value and (wrong := not_an_address(value)):
                raise InputError(expected=f"{name} as {wrong}", received=value, fix="correct it")
        if bool(one.server_key) != bool(one.key):
            raise InputError(
                expected="--server-key and --key together, where a line asks for keys", received="one of them",
                fix="name both",
            )  # fmt: skip
        if one.key:
            public_key(one.server_key)
            key_pair(one.key)
    if len({one.endpoint for one in lines}) < len(lines):
        raise InputError(expected="each line once with --connect", received="one of them twice", fix="take one out")


@contextmanager
def _sole_page(state: Path) -> Iterator[None]:
    """Hold the folder of a page's history; InputError where another page does, or it cannot be made."""
    taken = InputError(
        expected=f"one page at {state}", received="another one that runs", fix="end it, or choose another --state"
    )
    fd = held_folder(state, "--state, the folder of the page's history", taken)
    try:
        yield
    finally:
        os.close(fd)


def _bound(host: str, port: int) -> socket.socket:
    name = host.strip("[]")
    out = socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET, socket.SOCK_STREAM)
    try:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        out.bind((name, port))
    except OSError as error:
        out.close()
        raise InputError(
            expected=f"to listen on {host}:{port}", received=error.strerror or str(error),
            fix="stop the other program there, or choose another --listen",
        ) from error  # fmt: skip
    out.set_inheritable(True)
    return out
