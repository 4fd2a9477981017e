"""``hisir-edge control``, ``status``, ``install-service``: what asks a running line, and what makes it a service."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hisir_edge.errors import InputError

Endpoint = Annotated[str, typer.Option(help="The line's control.endpoint, such as tcp://127.0.0.1:5557.")]
Config = Annotated[Path | None, typer.Option(help="The line's TOML file, for its control.endpoint.")]
ServerKey = Annotated[str, typer.Option(help="File with the line's public key, where it asks for keys.")]
Key = Annotated[str, typer.Option(help="File with your secret key, where the line asks for keys.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")]
TAKEN = (("blur", "blur_px", " px"), ("brightness", "brightness", ""), ("white", "white_share", ""))
"""A camera's optics in status: word, key, unit."""


class Do(str, Enum):
    """Requests to a line."""

    status = "status"
    trigger = "trigger"
    announce = "announce"
    select = "select"
    pause = "pause"
    resume = "resume"
    drain = "drain"
    reload = "reload"
    forget = "forget"
    decisions = "decisions"


def control(
    do: Annotated[Do, typer.Argument(help="What to do.")],
    endpoint: Endpoint = "",
    config: Config = None,
    unit: Annotated[str, typer.Option(help="The board, with trigger and announce.")] = "",
    product: Annotated[str, typer.Option(help="The product, with trigger, announce and select.")] = "",
    name: Annotated[str, typer.Option(help="With forget: who acknowledges no more.")] = "",
    server_key: ServerKey = "",
    key: Key = "",
    timeout: Timeout = 5.0,
) -> None:
    """Ask a running line: trigger or announce a board, select a product, pause, resume, drain, reload, forget."""
    if do is Do.forget and not name:
        raise InputError(expected="--name with forget", received="none", fix="status lists the names (acknowledged)")
    request: dict[str, Any] = {"do": do.value}
    request |= {name: value for name, value in (("unit", unit), ("product", product), ("name", name)) if value}
    answer = asked(request, endpoint, config, server_key, key, timeout)
    if do is Do.forget and not answer["known"]:
        raise InputError(
            expected="a name that acknowledges verdicts", received=name, fix="status lists the names (acknowledged)"
        )
    print(json.dumps(answer))


def status(
    endpoint: Endpoint = "",
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    server_key: ServerKey = "",
    key: Key = "",
    timeout: Timeout = 5.0,
) -> None:
    """Say what a running line is doing. Exit code 0 when it takes boards, 1 when it does not, 2 when it is gone."""
    found = asked({"do": "status"}, endpoint, config, server_key, key, timeout)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        optics = found.pop("optics", {})
        found |= {"optics": [_taken(camera, of) for camera, of in optics.items()]} if optics else {}
        for name, value in found.items():
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{name:22s}{', '.join(map(str, shown)) if isinstance(shown, list) else shown}")
    working = found["state"] in ("Ready", "SingleExecution", "ContinuousExecution")
    raise typer.Exit(0 if working and not found["paused"] and not found["draining"] else 1)


def _taken(camera: str, of: dict[str, Any]) -> str:
    """How a camera's last frames were taken, in words: now, and in the median."""
    parts = [(name, (of.get("last") or {}).get(key), of[key], unit) for name, key, unit in TAKEN if of[key] is not None]
    words = ", ".join(
        f"{name} {'unknown' if now is None else f'{now:g}{unit}'} (median {median:g})"
        for name, now, median, unit in parts
    )
    return f"{camera}: {words}; {of['with_warnings']} of the last {of['frames']} frames with a warning"


def asked(
    request: dict[str, Any], endpoint: str, config: Path | None, server_key: str, key: str, timeout_s: float
) -> dict[str, Any]:
    """The answer of the line at an endpoint, or of the one that a configuration is of."""
    from hisir_edge.transport.control_client import ask

    endpoint, server_key, key = line_from_options(endpoint, config, server_key, key)
    return ask(endpoint, request, timeout_s, server_key, key)


def line_from_options(endpoint: str, config: Path | None, server_key: str, key: str) -> tuple[str, str, str]:
    """Endpoint, the line's key and one's own; InputError where one is lacking."""
    from hisir_edge.config.file import settings_from_toml

    if config is not None:
        settings = settings_from_toml(config)
        endpoint = endpoint or settings.control.endpoint
        keyed = settings.security.server_key if not endpoint.startswith("ipc://") else ""
        server_key = server_key or keyed
    if not endpoint:
        raise InputError(
            expected="--endpoint, or --config of a line with control.endpoint",
            received="neither" if config is None else f"{config} without [control] endpoint",
            fix="name one" if config is None else "add it to the file, and start the line with it",
        )
    if server_key and not key:
        raise InputError(
            expected="--key beside the line's public key",
            received="none",
            fix="name your *.key_secret",
        )
    return endpoint, server_key, key


def install_service(
    line: Annotated[str, typer.Option(help="The line's name, as in the commands that are printed.")] = "LINE",
    gpu: Annotated[bool, typer.Option("--gpu", help="For bundles that run on an NVIDIA GPU.")] = False,
    view: Annotated[bool, typer.Option("--view", help="The operator's page, too (extra view).")] = False,
    connect: Annotated[
        bool, typer.Option("--connect", help="What runs forward, opcua and plc as services, too.")
    ] = False,
    root: Annotated[Path, typer.Option(help="Write below this folder.")] = Path("/"),
    program: Annotated[Path | None, typer.Option(help="The hisir-edge to run; default: this one.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Print the files, write nothing.")] = False,
) -> None:
    """Install the systemd units: the service for each line, its user, its folders. Prints what to do next.

    Also a file for /etc/sysctl.d, of the whole machine: how much a network camera's socket may hold.
    """
    from hisir_edge.cli import service

    files = service.service_files(gpu, program or service.program_here(), service.systemd_version(), view, connect)
    if show:
        for file in files:
            print(f"# {file.path}\n{file.text}")
        return
    for path in service.install(files, root):
        print(path)
    unit = service.UNITS["gpu" if gpu else "cpu"].replace("@", f"@{line}")
    print(service.NEXT.replace("LINE", line).format(unit=unit))
    if view:
        print(service.NEXT_PAGE)
    if connect:
        print(service.NEXT_CONNECTION)
