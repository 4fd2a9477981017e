"""``hisir-edge opcua``, ``plc``: the line as machines see it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.cli.receiving.mes import Control, Endpoint, Key, Retries, ServerKey, state_folder
from hisir_edge.errors import InputError

OPCUA_MISSING = InputError(
    expected="the package asyncua", received="none", fix="pip install 'hisir-edge[opcua]', or from the wheelhouse"
)

PLC_MISSING = InputError(
    expected="the package pymodbus", received="none", fix="pip install 'hisir-edge[plc]', or from the wheelhouse"
)


def opcua(
    endpoint: Endpoint,
    listen: Annotated[str, typer.Option(help="Address of the OPC UA server.")] = "opc.tcp://127.0.0.1:4840",
    pki: Annotated[
        Path | None, typer.Option(help="Folder of certificates: own, trusted, operators, rejected; made if it is new.")
    ] = None,
    without_security: Annotated[
        bool, typer.Option("--without-security", help="Other machines may read without a certificate, too.")
    ] = False,
    control: Control = "",
    server_key: ServerKey = "",
    key: Key = "",
) -> None:
    """Show the line as an OPC UA server with the names of OPC 40100-1: states, last result, an event per verdict."""
    try:
        from hisir_edge.mes.opcua.server import Options, serve
    except ModuleNotFoundError as error:
        raise OPCUA_MISSING from error
    folder = pki or state_folder() / "opcua-pki"
    options = Options(endpoint, control, (server_key, key), listen, folder, without_security)
    serve(
        options, Retries(), lambda address: print(f"OPC UA server at {address}; certificates in {folder}", flush=True)
    )


def plc(
    endpoint: Endpoint,
    listen: Annotated[str, typer.Option(help="HOST:PORT of the Modbus TCP server; 502 is the usual port.")] = (
        "127.0.0.1:5020"
    ),
    only_from: Annotated[
        list[str] | None, typer.Option(help="Address of the PLC, which alone may connect; may be repeated.")
    ] = None,
    plc_silent_s: Annotated[
        float, typer.Option(min=0.2, max=60, help="So long the PLC's heartbeat may stand still.")
    ] = 2.0,
    verdict_s: Annotated[
        float, typer.Option(min=0.5, max=3600, help="So long a verdict may take; then it is ERROR.")
    ] = 30.0,
    control: Control = "",
    server_key: ServerKey = "",
    key: Key = "",
) -> None:
    """Let a PLC start boards and read results over Modbus TCP, by registers; no fresh heartbeat, no PASS."""
    try:
        from hisir_edge.mes.plc.handshake import Timing
        from hisir_edge.mes.plc.server import options, serve
    except ModuleNotFoundError as error:
        raise PLC_MISSING from error
    timing = Timing(plc_silent_s, verdict_s)
    given = options(endpoint, control, (server_key, key), listen, tuple(only_from or ()), timing)
    serve(given, Retries(), lambda address: print(f"Modbus TCP server at {address}", flush=True))
