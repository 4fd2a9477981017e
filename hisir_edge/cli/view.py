"""``hisir-edge view``: the operator's page; ``view-user``: who may use it."""

from __future__ import annotations

import os
import sys
from enum import Enum
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.errors import InputError


class UserRole(str, Enum):
    """What a user may do, the least first; a page's roles (view.access.ROLES)."""

    viewer = "viewer"
    reviewer = "reviewer"
    engineer = "engineer"


def view(
    connect: Annotated[list[str], typer.Option(help="A line's publish.endpoint; may be repeated.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT to serve on; beyond loopback with TLS and users.")] = (
        "127.0.0.1:8080"
    ),
    state: Annotated[
        Path | None, typer.Option(help="Folder of the page's history; default: the user's state folder.")
    ] = None,
    control: Annotated[
        list[str] | None, typer.Option(help="Each line's control.endpoint, in the same order; default: as it says.")
    ] = None,
    server_key: Annotated[
        list[str] | None, typer.Option(help="Each line's public key (*.key), or one for all; where it asks for keys.")
    ] = None,
    key: Annotated[str, typer.Option(help="The page's own secret key, with the roles read, verify and revise.")] = "",
    users: Annotated[
        Path | None, typer.Option(help="File of users (hisir-edge view-user); none: nobody logs in.")
    ] = None,
    proxy_user_header: Annotated[
        str, typer.Option(help="Header in which a proxy on this machine names who logged in there (OIDC).")
    ] = "",
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    host_name: Annotated[
        list[str] | None, typer.Option(help="A further name under which browsers ask for the page; may be repeated.")
    ] = None,
    keep_days: Annotated[
        float, typer.Option(min=0.01, max=36500, help="Older boards and decisions leave the page's history.")
    ] = 365.0,
    fleet: Annotated[
        str,
        typer.Option(help="Database that hisir-edge fleet writes, postgresql://USER@HOST/DATABASE: its lines, too."),
    ] = "",
) -> None:
    """Serve the operator's page: live boards, review, history and statistics of one line or several."""
    _needs_view()
    from hisir_edge.view.lines import Address
    from hisir_edge.view.serve import ViewSettings, serve

    controls, keys = control or [""] * len(connect), server_key or [""]
    keys = keys * len(connect) if len(keys) == 1 else keys
    if len(controls) != len(connect) or len(keys) != len(connect):
        raise InputError(
            expected=f"--control and --server-key for each of {len(connect)} --connect, in their order",
            received=f"{len(controls)} and {len(keys)}",
            fix="repeat them",
        )
    lines = tuple(
        Address(endpoint=endpoint, control=told, server_key=public, key=key)
        for endpoint, told, public in zip(connect, controls, keys, strict=True)
    )
    serve(
        ViewSettings(
            lines=lines, listen=listen, state=state or _state_folder(), users=users, proxy_header=proxy_user_header,
            tls_cert=tls_cert, tls_key=tls_key, host_names=tuple(host_name or ()), keep_days=keep_days,
            fleet=fleet,
        )
    )  # fmt: skip


def view_user(
    name: Annotated[str, typer.Argument(help="Who.")],
    users: Annotated[Path, typer.Option(help="The file of users; made where there is none.")],
    role: Annotated[
        UserRole, typer.Option(help="viewer: look; reviewer: decide, too; engineer: try and change.")
    ] = UserRole.reviewer,
) -> None:
    """Add a user of the operator's page, or change one. The password is asked for, or read from standard input."""
    _needs_view()
    from hisir_edge.view.access import with_user

    if sys.stdin.isatty():
        password = getpass("password: ")
        if getpass("again: ") != password:
            raise InputError(expected="the same password twice", received="two", fix="try again")
    else:
        password = sys.stdin.buffer.readline().decode("utf-8", "replace").rstrip("\r\n")
    with_user(users, name, role.value, password)
    print(f"{name}: {role.value} in {users}")


def _state_folder() -> Path:
    if state := os.environ.get("STATE_DIRECTORY", ""):
        return Path(state.split(":", maxsplit=1)[0]) / "view"
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "hisir-edge" / "view"


def _needs_view() -> None:
    try:
        import argon2  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            expected="the packages of the operator's page", received=str(error), fix="pip install 'hisir-edge[view]'"
        ) from error
