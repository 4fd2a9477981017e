"""Where a CFX endpoint connects to: ``amqp://[USER:PASSWORD@]HOST[:PORT]/ADDRESS[?handle=...&requests=...]``."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from proton import SSLDomain

from hisir_edge.errors import InputError

PORT, TLS_PORT = 5672, 5671
QUEUES = ("/amq/queue/", "/queue/")
KEPT = (*QUEUES, "/exchange/", "/topic/")
"""RabbitMQ's addresses begin with a slash; others' do not."""
ESCAPE = "correct it; / ? # @ and : of a password are written %2F %3F %23 %40 %3A"
OPTIONS = ("handle", "requests", "heartbeat_s", "window")
MOST_WINDOW = 1000


@dataclass(frozen=True, slots=True)
class Address:
    """``target``: the address that messages go to; ``requests``: where requests for this endpoint come in, or none."""

    host: str
    port: int
    tls: bool
    target: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    handle: str = ""
    requests: str = ""
    heartbeat_s: float = 60.0
    window: int = 1
    """Messages that may be on their way at a time."""

    @property
    def url(self) -> str:
        """For Proton, without user and address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'amqps' if self.tls else 'amqp'}://{host}:{self.port}"

    @property
    def shown(self) -> str:
        """For messages: no password."""
        return f"{self.host}:{self.port}"


def address_from_text(text: str) -> Address:
    """InputError for what is no such address."""
    wanted = "--target amqp://[USER:PASSWORD@]HOST[:PORT]/ADDRESS"
    try:
        parts = urlsplit(text)
        port = parts.port or (TLS_PORT if parts.scheme == "amqps" else PORT)
    except ValueError as error:  # its words would show the password
        raise InputError(expected=wanted, received="an address whose host or port is none", fix=ESCAPE) from error
    if "@" in parts.path + parts.query + parts.fragment:
        raise InputError(expected=wanted, received="an @ behind the host", fix=ESCAPE)
    shown = text if "@" not in text else f"{parts.scheme}://...@{text.rpartition('@')[2]}"
    path = unquote(parts.path)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname or path in ("", "/") or parts.fragment:
        raise InputError(expected=wanted, received=shown, fix=ESCAPE)
    options = parse_qs(parts.query, keep_blank_values=True)
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise InputError(
            expected=f"?{'=...&'.join(OPTIONS)}=... behind the address", received=unknown[0], fix="correct --target"
        )
    first = {name: values[0] for name, values in options.items()}
    try:
        each_s = float(first.get("heartbeat_s", 60))
    except ValueError:
        each_s = 0
    if not 1 <= each_s <= 300:
        raise InputError(
            expected="heartbeat_s of 1 to 300, as CFX asks for", received=first["heartbeat_s"], fix="correct --target"
        )
    window = first.get("window", "1")
    if not (window.isdecimal() and len(window) < 6 and 1 <= int(window) <= MOST_WINDOW):
        raise InputError(expected=f"window of 1 to {MOST_WINDOW}", received=window, fix="correct --target")
    return Address(
        host=parts.hostname, port=port, tls=parts.scheme == "amqps", target=_as_meant(path),
        user=unquote(parts.username or ""), password=unquote(parts.password or ""), handle=first.get("handle", ""),
        requests=_as_meant(first["requests"]) if first.get("requests") else "", heartbeat_s=each_s,
        window=int(window),
    )  # fmt: skip


def _as_meant(path: str) -> str:
    return path if path.startswith(KEPT) else path.removeprefix("/")


def is_queue(address: str) -> bool:
    """Whether it is one of RabbitMQ's queues."""
    return address.startswith(QUEUES)


def ssl_domain(address: Address) -> Any:
    """Certificates that this machine trusts, and the name that the broker must have; None without TLS."""
    if not address.tls:
        return None
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    paths = ssl.get_default_verify_paths()
    domain.set_trusted_ca_db(paths.cafile or paths.capath or "")
    domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
    return domain
