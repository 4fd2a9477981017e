"""``hisir-edge revision``: the bundles that people made of a line's own: listed, added, activated, taken back."""

from __future__ import annotations

import getpass
import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hisir_edge.cli.control import Config, Endpoint, Key, ServerKey, asked
from hisir_edge.errors import InputError

POLL_S = 0.3


class DoWith(str, Enum):
    """What is done with revisions."""

    list = "list"
    add = "add"
    activate = "activate"
    take_back = "take-back"


def revision(
    do: Annotated[DoWith, typer.Argument(help="list; add a bundle; activate a NUMBER; take-back the one in use.")],
    what: Annotated[
        str, typer.Argument(help="add: the bundle's folder; activate: a number, 0 for the configured bundle.")
    ] = "",
    endpoint: Endpoint = "",
    config: Config = None,
    why: Annotated[str, typer.Option(help="Why, for those who look at it later.")] = "",
    who: Annotated[str, typer.Option(help="Who; default: the user's name here.")] = "",
    product: Annotated[str, typer.Option(help="The product; default: the one that is selected.")] = "",
    camera: Annotated[str, typer.Option(help="The camera; default: the first.")] = "",
    server_key: ServerKey = "",
    key: Key = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until it is loaded and tested.")] = 600.0,
) -> None:
    """Change the bundle that a running line inspects with, and back. Exit code 2 where the line refuses."""

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        return asked(request, endpoint, config, server_key, key, 20.0)

    if do is DoWith.list:
        _print(ask({"do": "revisions"}))
        return
    if not why:
        raise InputError(expected="--why, for those who look at it later", received="none", fix="say why")
    request = {"do": do.value.replace("-", "_"), "who": who or getpass.getuser(), "why": why}
    request |= {name: value for name, value in (("product", product), ("camera", camera)) if value}
    if do is DoWith.add:
        request = {**request, "do": "add_revision", **_bundle(what)}
    elif do is DoWith.activate:
        if not what.isdigit():
            raise InputError(expected="the number of a revision", received=what or "none", fix="list tells them")
        request["number"] = int(what)
    number = ask(request)["number"]
    _wait(ask, timeout)
    words = {DoWith.add: f"revision {number} is added; activate it: hisir-edge revision activate {number} --why WHY"}
    print(words.get(do, f"in use: {f'revision {number}' if number else 'the configured bundle'}"))


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


def _wait(ask: Any, timeout_s: float) -> None:
    """Until it is done; InputError where the line refused it."""
    end = time.monotonic() + timeout_s
    while (found := ask({"do": "revisions", "most": 0}))["busy"] is not None:
        if time.monotonic() > end:
            raise InputError(
                expected=f"it to be done within {timeout_s:g} s",
                received="the line still at it",
                fix="look later: list",
            )
        time.sleep(POLL_S)
    if found["last"] and found["last"]["refused"]:
        raise InputError(
            expected="a revision that the line takes",
            received=found["last"]["refused"],
            fix="the line goes on as it was",
        )


def _print(found: dict[str, Any]) -> None:
    for one in found["in_use"]:
        used = f"revision {one['number']}" if one["number"] else "the configured bundle"
        print(f"{one['product']}, camera {one['camera']}: {used}")
    for one in found["revisions"]:
        figures = ", ".join(f"{name} {value:g}" for name, value in one["comparison"].items())
        mark = "*" if one["in_use"] else " "
        print(
            f"{mark}{one['number']:5d}  {one['at']}  {one['who']}: {one['why']}" + (f" ({figures})" if figures else "")
        )
    if found["busy"]:
        print(f"being done: {found['busy']['do']}")
