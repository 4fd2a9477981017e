"""IPC-HERMES-9852, horizontal channel, the receiving machine: which board comes next, and when it has arrived.

The receiver connects to the sender's port (50100 + lane, The Hermes Standard 2.3.1), both describe themselves, then for
each board: BoardAvailable, MachineReady, StartTransport, TransportFinished, StopTransport. Messages are XML documents
one after the other, 64 KiB at most (3.1).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum

MOST_MESSAGE_BYTES = 65536
VERSION = "1.2"
BASE_PORT = 50100
COMPLETE = "3"
"""TransferState: 1 not started, 2 incomplete, 3 complete (3.9)."""
END = b"</Hermes>"
CHECK_ALIVE_RESPONSE = "FeatureCheckAliveResponse"


class HermesError(Exception):
    """What came is no Hermes; the connection is given up and made anew."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its name, its attributes, and the features that a ServiceDescription lists."""

    name: str
    values: Mapping[str, str]
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """What BoardAvailable says of a board; empty where it says nothing."""

    board_id: str
    product_type: str = ""
    top_barcode: str = ""
    bottom_barcode: str = ""
    work_order: str = ""


class Channel(str, Enum):
    """The states of the receiving side (2.3)."""

    NOT_CONNECTED = "NotConnected"
    SERVICE_DESCRIPTION = "ServiceDescription"
    NOT_AVAILABLE_NOT_READY = "NotAvailableNotReady"
    BOARD_AVAILABLE = "BoardAvailable"
    MACHINE_READY = "MachineReady"
    AVAILABLE_AND_READY = "AvailableAndReady"
    TRANSPORTING = "Transporting"


def encoded(message: Message) -> bytes:
    """One document."""
    stamp = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    root = ET.Element("Hermes", {"Timestamp": stamp})
    element = ET.SubElement(root, message.name, dict(message.values))
    if message.features:
        listed = ET.SubElement(element, "SupportedFeatures")
        for feature in message.features:
            ET.SubElement(listed, feature)
    return bytes(ET.tostring(root, "utf-8"))


class Decoder:
    """Documents out of a stream of bytes, however it is cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """What is whole by now; HermesError for what is none of it."""
        self._rest += data
        found = []
        while (end := self._rest.find(END)) >= 0:
            document, self._rest = self._rest[: end + len(END)], self._rest[end + len(END) :]
            found.append(_message(document))
        if len(self._rest) > MOST_MESSAGE_BYTES:
            raise HermesError(f"more than {MOST_MESSAGE_BYTES} bytes without an end")
        return found


def _message(document: bytes) -> Message:
    if len(document) > MOST_MESSAGE_BYTES:
        raise HermesError(f"a message of {len(document)} bytes, {MOST_MESSAGE_BYTES} at most")
    if b"<!" in document:  # a document type may define entities without end
        raise HermesError("a message with a declaration")
    try:
        root = ET.fromstring(re.sub(rb"^[\s\x00]+", b"", document))  # noqa: S314
    except (ET.ParseError, ValueError, LookupError) as error:
        raise HermesError(f"no XML: {error}") from error
    if root.tag != "Hermes" or len(root) != 1:
        raise HermesError(f"<{root.tag}> with {len(root)} messages, expected <Hermes> with one")
    features = tuple(str(one.tag) for one in root[0].findall("SupportedFeatures/*"))
    return Message(str(root[0].tag), dict(root[0].attrib), features)


class Receiver:
    """The protocol without its socket: ``on`` takes what came, ``ready`` what the line says; both give what to send.

    ``arrived`` is called once for each board that was handed over whole.
    """

    def __init__(self, machine_id: str, lane_id: int, arrived: Callable[[Board], None]) -> None:
        self._machine_id, self._lane_id, self._arrived = machine_id, lane_id, arrived
        self.state = Channel.NOT_CONNECTED
        self.board: Board | None = None
        self.answers_alive = False
        """Whether the sender says that it answers CheckAlive: only then its silence means anything."""

    def connected(self) -> list[Message]:
        """The connection is made: the receiver describes itself first (2.3.2)."""
        self.state, self.board, self.answers_alive = Channel.SERVICE_DESCRIPTION, None, False
        values = {"MachineId": self._machine_id, "LaneId": str(self._lane_id), "Version": VERSION}
        return [Message("ServiceDescription", values, (CHECK_ALIVE_RESPONSE,))]

    def disconnected(self) -> Board | None:
        """The connection is gone; the board that was under way, of which nobody knows where it is."""
        lost = self.board if self.state is Channel.TRANSPORTING else None
        self.state, self.board = Channel.NOT_CONNECTED, None
        return lost

    def ready(self, ready: bool) -> list[Message]:
        """Whether the line takes a board now."""
        before = self.state
        if ready and before is Channel.NOT_AVAILABLE_NOT_READY:
            self.state = Channel.MACHINE_READY
            return [Message("MachineReady", {"FailedBoard": "0"})]
        if ready and before is Channel.BOARD_AVAILABLE:
            self.state = Channel.TRANSPORTING
            return [Message("MachineReady", {"FailedBoard": "0"}), self._start()]
        if not ready and before is Channel.MACHINE_READY:
            self.state = Channel.NOT_AVAILABLE_NOT_READY
            return [Message("RevokeMachineReady", {})]
        return []

    def on(self, message: Message) -> list[Message]:
        """HermesError for what does not belong here, which ends the connection (2.3.3)."""
        name, values = message.name, message.values
        if name == "CheckAlive":
            # type 1 asks for an answer of type 2 with its id (3.3); an old sender only wants to see the connection
            return [Message(name, {"Type": "2", "Id": values.get("Id", "")})] if values.get("Type") == "1" else []
        if name == "ServiceDescription" and self.state is Channel.SERVICE_DESCRIPTION:
            self.state = Channel.NOT_AVAILABLE_NOT_READY
            self.answers_alive = CHECK_ALIVE_RESPONSE in message.features
            return []
        if name == "BoardAvailable" and self.state in (Channel.NOT_AVAILABLE_NOT_READY, Channel.MACHINE_READY):
            return self._available(values)
        if name == "RevokeBoardAvailable":
            return self._revoked()
        if name == "TransportFinished" and self.state is Channel.TRANSPORTING:
            return self._finished(values)
        if self.state is Channel.SERVICE_DESCRIPTION or name in ("BoardAvailable", "TransportFinished"):
            raise HermesError(f"{name} in state {self.state.value}")
        return []  # Notification, BoardForecast, and what later versions add

    def _available(self, values: Mapping[str, str]) -> list[Message]:
        if not values.get("BoardId"):
            raise HermesError("BoardAvailable without a BoardId")
        self.board = Board(
            values["BoardId"], values.get("ProductTypeId", ""), values.get("TopBarcode", ""),
            values.get("BottomBarcode", ""), values.get("WorkOrderId", ""),
        )  # fmt: skip
        if self.state is Channel.MACHINE_READY:
            self.state = Channel.TRANSPORTING
            return [self._start()]
        self.state = Channel.BOARD_AVAILABLE
        return []

    def _start(self) -> Message:
        return Message("StartTransport", {"BoardId": self.board.board_id if self.board else ""})

    def _revoked(self) -> list[Message]:
        if self.state is Channel.BOARD_AVAILABLE:
            self.state, self.board = Channel.NOT_AVAILABLE_NOT_READY, None
        elif self.state is Channel.TRANSPORTING:
            # it crossed with StartTransport: the board stays where it is (2.3.4)
            stopped = Message(
                "StopTransport", {"TransferState": "1", "BoardId": self.board.board_id if self.board else ""}
            )
            self.state, self.board = Channel.NOT_AVAILABLE_NOT_READY, None
            return [stopped]
        return []

    def _finished(self, values: Mapping[str, str]) -> list[Message]:
        board, transferred = self.board, values.get("TransferState", "")
        if board is None or values.get("BoardId", board.board_id) != board.board_id:
            raise HermesError(f"TransportFinished of {values.get('BoardId', '')}, which is not the board under way")
        if transferred == COMPLETE:
            self._arrived(board)
        elif transferred != "1":  # it stays under way: nobody knows where it is, which ``disconnected`` says
            raise HermesError(f"a board was left between two machines (TransferState {transferred})")
        self.state, self.board = Channel.NOT_AVAILABLE_NOT_READY, None
        return [Message("StopTransport", {"TransferState": transferred, "BoardId": board.board_id})]
