"""``hisir-edge revision``: the bundles that people made of a line's own: listed, added, activated, taken back."""

from __future__ import annotations

import getpass
import json
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hisir_edge.cli.control import Config, Endpoint, Key, ServerKey, asked
from hisir_edge.errors import InputError

POLL_S, ASK_S = 0.3, 20.0
MOST_DIGITS, MOST_EVENTS = 9, 20


class DoWith(str, Enum):
    """What is done with revisions."""

    list = "list"
    add = "add"
    activate = "activate"
    take_back = "take-back"


def revision(
    do: Annotated[DoWith, typer.Argument(help="list; add a bundle; activate a NUMBER; take-back the one in use.")],
    what: Annotated[
        str,
        typer.Argument(
            help="add: the bundle's folder; activate: a number, 0 for the configured bundle; take-back: that meant."
        ),
    ] = "",
    endpoint: Endpoint = "",
    config: Config = None,
    why: Annotated[str, typer.Option(help="Why, for those who look at it later.")] = "",
    who: Annotated[str, typer.Option(help="Who; default: the user's name here.")] = "",
    product: Annotated[str, typer.Option(help="The product; default: the one that is selected.")] = "",
    camera: Annotated[str, typer.Option(help="The camera; default: the first.")] = "",
    server_key: ServerKey = "",
    key: Key = "",
    as_json: Annotated[bool, typer.Option("--json", help="list: the line's whole answer.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until it is loaded and tested.")] = 600.0,
) -> None:
    """Change the bundle that a running line inspects with, and back. Exit code 2 where the line refuses."""

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        return asked(request, endpoint, config, server_key, key, min(timeout, ASK_S))

    if do is DoWith.list:
        if what or why:
            raise InputError(expected="nothing beside list", received=what or why, fix="leave it out")
        found = ask({"do": "revisions"})
        print(json.dumps(found, indent=1) if as_json else "\n".join(_lines(found, product, camera)))
        return
    if not why:
        raise InputError(expected="--why, for those who look at it later", received="none", fix="say why")
    request = {"do": do.value.replace("-", "_"), "who": who or getpass.getuser(), "why": why}
    request |= {name: value for name, value in (("product", product), ("camera", camera)) if value}
    if do is DoWith.add:
        request = {**request, "do": "add_revision", **_bundle(what)}
    elif do is DoWith.activate or what:
        request["number"] = _number(what)
    number = ask(request)["number"]
    if refused := _wait(ask, timeout):
        print(f"hisir-edge: {refused}", file=sys.stderr)
        raise typer.Exit(InputError.exit_code)
    if do is DoWith.add:
        print(f"revision {number} is added; to inspect with it: the same with activate {number} instead of add")
    else:
        print(f"in use: {f'revision {number}' if number else 'the configured bundle'}")


def _number(what: str) -> int:
    if not (what.isascii() and what.isdigit() and len(what) <= MOST_DIGITS):
        raise InputError(
            expected="the number of a revision", received=what[:80] or "none", fix="hisir-edge revision list has them"
        )
    return int(what)


def _bundle(what: str) -> dict[str, Any]:
    """The bundle to add, and what became of the boards that people had reviewed."""
    from hisir_edge.bundle.load import manifest_from_folder

    if not what:
        raise InputError(expected="the folder of a bundle", received="none", fix="name it")
    folder = Path(what).absolute()
    reviewed = manifest_from_folder(folder).reviewed
    if reviewed is None:
        return {"bundle": str(folder)}
    names = ("boards", "false_calls", "gone", "defects", "found")
    return {"bundle": str(folder), "comparison": {f"reviewed_{name}": getattr(reviewed, name) for name in names}}


def _wait(ask: Any, timeout_s: float) -> str:
    """Until it is done; why the line refused it, empty where it did not."""
    end = time.monotonic() + timeout_s
    while (found := ask({"do": "revisions", "most": 0}))["busy"] is not None:
        if time.monotonic() > end:
            raise InputError(
                expected=f"it to be done within {timeout_s:g} s",
                received="the line still at it",
                fix="hisir-edge revision list tells when it is",
            )
        time.sleep(POLL_S)
    return str(found["last"]["refused"]) if found["last"] else ""


def _lines(found: dict[str, Any], product: str, camera: str) -> list[str]:
    """What is in use, each revision, and who did what, of a product and camera; empty: of all."""

    def asked_for(one: dict[str, Any]) -> bool:
        return product in ("", one["product"]) and camera in ("", one["camera"])

    lines = []
    for one in filter(asked_for, found["in_use"]):
        used = f"revision {one['number']}" if one["number"] else "the configured bundle"
        lines.append(f"{one['product']}, camera {one['camera']}: {used}")
    if not lines:
        raise InputError(
            expected=f"a product and camera of the line: {', '.join(sorted({p['product'] for p in found['in_use']}))}; "
            f"{', '.join(sorted({p['camera'] for p in found['in_use']}))}",
            received=f"{product or 'any'} and {camera or 'any'}",
            fix="correct them",
        )
    for one in filter(asked_for, found["revisions"]):
        figures = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in one["comparison"].items())
        mark = "*" if one["in_use"] else " "
        lines.append(
            f"{mark}{one['number']:5d}  {one['sha256'][:12]}  {one['at']}  {one['who']}: {one['why']}"
            + (f" ({figures})" if figures else "")
        )
    for one in filter(asked_for, found["events"][:MOST_EVENTS]):
        who = f" by {one['who']}: {one['why']}" if "who" in one else ""
        lines.append(f"{one['at']}  {one['number'] or 'configured bundle'} {one['what']}{who}")
    if found["busy"]:
        lines.append(f"being done: {found['busy']['do']}")
    return lines
