"""Addresses of sockets. ZeroMQ itself takes any number for a port and listens on what is left of it in 16 bits."""

from __future__ import annotations

import ipaddress
import re
import socket

from hisir_edge.errors import InputError


def port_of(endpoint: str) -> int:
    """The port of ``tcp://HOST:PORT``, 1..65535; 0 where there is none."""
    found = re.fullmatch(r"tcp://.+:([0-9]{1,5})", endpoint)
    port = int(found[1]) if found else 0
    return port if port <= 65535 else 0


def ipc_in_use(endpoint: str) -> bool:
    """Whether an ``ipc://`` address is in use: ZeroMQ would take it over without an error."""
    if not endpoint.startswith("ipc://"):
        return False
    path = endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError:  # nobody does, or it is no address, which binding will say
            return False
    return True


def reachable_by_others(endpoint: str) -> bool:
    """Whether other machines may reach a ``tcp://`` address: any but the loopback addresses of this one."""
    found = re.fullmatch(r"tcp://(.+):[0-9]+", endpoint)
    if not found:
        return not endpoint.startswith("ipc://") and endpoint != ""
    host = found[1].strip("[]")
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def not_an_address(endpoint: str) -> str:
    """The fault of a socket's address; empty where there is none."""
    if not endpoint.startswith(("tcp://", "ipc://")):
        return "a tcp:// or ipc:// address"
    if endpoint.startswith("ipc://@"):
        return "an ipc:// address with a path: its file says who may use it, which ipc://@ has none of"
    if endpoint.startswith("tcp://") and not port_of(endpoint):
        return "a tcp:// address with a port from 1 to 65535, such as tcp://127.0.0.1:5556"
    return ""


def heard_at(endpoint: str) -> str:
    """An address that others are told: of all this machine's networks (``tcp://*:5557``) the port alone."""
    found = re.fullmatch(r"tcp://(.+):([0-9]+)", endpoint)
    return f"tcp://*:{found[2]}" if found else endpoint


def beside(endpoint: str, told: str) -> str:
    """The address that ``heard_at`` stands for, for one who knows another address of the same machine."""
    host, port = re.fullmatch(r"tcp://(.+):[0-9]+", endpoint), re.fullmatch(r"tcp://\*:([0-9]+)", told)
    return f"tcp://{host[1]}:{port[1]}" if host and port else told


def not_free(received: str) -> InputError:
    """Of a server that cannot listen where it should."""
    return InputError(
        expected="an address of this machine that is free", received=received,
        fix="choose another with --listen, or end what listens there; ports below 1024 need a right of their own",
    )  # fmt: skip
