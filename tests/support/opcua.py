"""``hisir-edge opcua`` as a child process, and clients of asyncua's, with and without a certificate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from support.served import PATIENCE_S, Served
from support.sockets import free_port

NAMESPACE = "urn:hisir-edge:machine-vision"
URI = "urn:test:client"


class OpcUaServer(Served):
    """From entry to exit; ``pki`` is its folder of certificates, ``url`` its address."""

    def __init__(self, folder: Path, endpoint: str, control: str, host: str = "127.0.0.1") -> None:
        port = free_port()
        self.pki, self.url = folder / "pki", f"opc.tcp://127.0.0.1:{port}"
        arguments = ["opcua", endpoint, "--control", control, "--listen", f"opc.tcp://{host}:{port}"]
        super().__init__([*arguments, "--pki", str(self.pki)], "OPC UA server at", folder / "opcua.log")


class Events:
    """What a subscription brings: events as dictionaries of their fields."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.at: list[float] = []

    def event_notification(self, event: Any) -> None:
        self.at.append(time.time())
        self.seen.append(event.get_event_props_as_fields_dict())

    def datachange_notification(self, *_: Any) -> None:
        pass

    def numbers(self) -> list[int]:
        return [int(one["SequenceNumber"].Value) for one in self.seen]


class Seen:
    """A connected client's view of the line."""

    def __init__(self, client: Client, index: int) -> None:
        self.client, self.index = client, index

    async def value(self, path: str) -> ua.DataValue:
        return await self.client.get_node(f"ns={self.index};s=VisionSystem/{path}").read_data_value(False)

    async def read(self, path: str) -> Any:
        """Its value, whatever its status."""
        found = await self.value(path)
        return found.Value.Value if found.Value is not None else None

    async def until(self, path: str, condition: Callable[[ua.DataValue], bool]) -> ua.DataValue:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if condition(found := await self.value(path)):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{path}: {found}")

    async def call(self, path: str, *arguments: Any) -> Any:
        parent = self.client.get_node(f"ns={self.index};s=VisionSystem/{path.rpartition('/')[0]}")
        return await parent.call_method(f"{self.index}:{path.rpartition('/')[2]}", *arguments)

    async def events(self, period_ms: float = 20, of_server: bool = False) -> Events:
        handler = Events()
        kind = await self.client.nodes.base_event_type.get_child([f"{self.index}:ResultReadyEventType"])
        subscription = await self.client.create_subscription(period_ms, handler)
        root = self.client.nodes.server if of_server else self.client.get_node(f"ns={self.index};s=VisionSystem")
        await subscription.subscribe_events(root, kind, queuesize=10000)
        return handler

    async def until_events(self, events: Events, enough: Callable[[Events], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not enough(events):
            assert time.monotonic() < end, events.numbers()
            await asyncio.sleep(0.05)


class Connected:
    """``async with`` gives ``Seen``; ``identity``: certificate and key of ``make_identity``."""

    def __init__(self, url: str, identity: tuple[Path, Path] | None = None, server: Path | None = None) -> None:
        self._client = Client(url)
        self._client.application_uri = URI
        self._identity, self._server = identity, server

    async def __aenter__(self) -> Seen:
        if self._identity is not None:
            certificate, key = self._identity
            await self._client.set_security(
                SecurityPolicyBasic256Sha256, str(certificate), str(key), server_certificate=str(self._server),
                mode=ua.MessageSecurityMode.SignAndEncrypt,
            )  # fmt: skip
        await self._client.connect()
        return Seen(self._client, await self._client.get_namespace_index(NAMESPACE))

    async def __aexit__(self, *_: object) -> None:
        await self._client.disconnect()


def make_identity(folder: Path, name: str) -> tuple[Path, Path]:
    """A client's certificate and key."""
    key = generate_private_key()
    made = generate_self_signed_app_certificate(
        key, name, {}, [x509.UniformResourceIdentifier(URI)], [ExtendedKeyUsageOID.CLIENT_AUTH], 30
    )
    certificate_path, key_path = folder / f"{name}.der", folder / f"{name}.pem"
    certificate_path.write_bytes(made.public_bytes(Encoding.DER))
    key_path.write_bytes(dump_private_key_as_pem(key))
    return certificate_path, key_path
