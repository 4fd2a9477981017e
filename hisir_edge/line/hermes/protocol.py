"""IPC-HERMES-9852, horizontal channel, the receiving machine: which board comes next, and when it has arrived.

The receiver connects to the sender's port (50100 + lane, The Hermes Standard 2.3.1), both describe themselves, then for
each board: BoardAvailable, MachineReady, StartTransport, TransportFinished, StopTransport. Messages are XML documents
one after the other, 64 KiB at most (3.1).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from xml.parsers import expat

MOST_MESSAGE_BYTES = 65536
VERSION = "1.2"
BASE_PORT = 50100
NOT_STARTED, INCOMPLETE, COMPLETE = "1", "2", "3"
"""TransferState (3.9)."""
MOST_DEPTH = 16
CHECK_ALIVE_RESPONSE = "FeatureCheckAliveResponse"


class HermesError(Exception):
    """The peer does not speak Hermes; the connection is closed and made again."""


@dataclass(frozen=True, slots=True)
class HermesMessage:
    """One message: its name, its attributes, and the features that a ServiceDescription lists."""

    name: str
    values: Mapping[str, str]
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """A board as BoardAvailable describes it; empty fields where it says nothing."""

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
    TRANSPORT_STOPPED = "TransportStopped"


def encoded(message: HermesMessage) -> bytes:
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
    """Documents out of a stream of bytes, however it is cut, by expat as the bytes come.

    A document type is refused where it begins (it may define entities without end), and whatever grows beyond
    ``MOST_MESSAGE_BYTES``.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """The next document."""
        self._bytes = b""
        self._path: list[str] = []
        self._children: list[HermesMessage] = []
        self._features: list[str] = []
        self._ended_at: int | None = None
        self._parser = expat.ParserCreate("utf-8")
        if hasattr(self._parser, "SetReparseDeferralEnabled"):  # expat 2.6 waits for more bytes otherwise
            self._parser.SetReparseDeferralEnabled(False)
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, data: bytes) -> list[HermesMessage]:
        """The messages that are complete; HermesError for data that is no Hermes message."""
        found = []
        while data:
            if not self._bytes:
                data = data.lstrip(b" \t\r\n\0")
            self._bytes += data
            try:
                self._parser.Parse(data, False)
            except expat.ExpatError as error:
                if self._ended_at is None:  # else it is the next document, which expat calls junk
                    raise HermesError(f"no XML: {error}") from error
            if self._ended_at is None:
                if len(self._bytes) > MOST_MESSAGE_BYTES:
                    raise HermesError(f"more than {MOST_MESSAGE_BYTES} bytes without an end")
                break
            end = self._bytes.index(b">", self._ended_at) + 1
            if end > MOST_MESSAGE_BYTES:
                raise HermesError(f"a message of {end} bytes, {MOST_MESSAGE_BYTES} at most")
            data = self._bytes[end:]
            found.append(self._message())
            self._begin()
        return found

    def _message(self) -> HermesMessage:
        if len(self._children) != 1:
            raise HermesError(f"<Hermes> with {len(self._children)} messages, expected one")
        return replace(self._children[0], features=tuple(self._features))

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._ended_at is not None:
            return
        if not self._path and name != "Hermes":
            raise HermesError(f"<{name}>, expected <Hermes>")
        if len(self._path) >= MOST_DEPTH:
            raise HermesError(f"elements nested deeper than {MOST_DEPTH}")
        if len(self._path) == 1:
            self._children.append(HermesMessage(name, attributes))
        elif len(self._path) == 3 and self._path[2] == "SupportedFeatures":
            self._features.append(name)
        self._path.append(name)

    def _end(self, name: str) -> None:
        if self._ended_at is None:
            self._path.pop()
            if not self._path:
                if not self._children:  # where it is <Hermes/>, expat's index lies behind its end
                    raise HermesError("<Hermes> with 0 messages, expected one")
                self._ended_at = self._parser.CurrentByteIndex

    def _doctype(self, *_: object) -> None:
        raise HermesError("a message with a declaration")


class Receiver:
    """The protocol without its socket: ``on`` takes what came, ``ready`` what the line says; both give what to send.

    ``arrived`` is called once for each board that was handed over whole, which the sender's TransportFinished says. In
    state TransportStopped the receiver has sent StopTransport and waits for it: because the sender revoked the board
    while StartTransport was on its way, or because it waits for StopTransport itself (``waited``).
    """

    def __init__(self, machine_id: str, lane_id: int, arrived: Callable[[Board], None]) -> None:
        self._machine_id, self._lane_id, self._arrived = machine_id, lane_id, arrived
        self.state = Channel.NOT_CONNECTED
        self.board: Board | None = None
        self._is_revoked = False
        self._revoked_id = ""
        self.answers_alive = False
        """Whether the sender says that it answers CheckAlive: only then its silence means anything."""

    def connected(self) -> list[HermesMessage]:
        """The connection is made: the receiver describes itself first (2.3.2)."""
        self.state, self.answers_alive = Channel.SERVICE_DESCRIPTION, False
        self._forget_board()
        values = {"MachineId": self._machine_id, "LaneId": str(self._lane_id), "Version": VERSION}
        return [HermesMessage("ServiceDescription", values, (CHECK_ALIVE_RESPONSE,))]

    def disconnected(self) -> Board | None:
        """The connection is gone; returns the board that was under way, whose place is unknown."""
        under_way = self.state in (Channel.TRANSPORTING, Channel.TRANSPORT_STOPPED) and not self._is_revoked
        lost = self.board if under_way else None
        self.state = Channel.NOT_CONNECTED
        self._forget_board()
        return lost

    def _forget_board(self) -> None:
        self.board, self._is_revoked, self._revoked_id = None, False, ""

    def ready(self, ready: bool) -> list[HermesMessage]:
        """Whether the line takes a board now."""
        before = self.state
        if ready and before is Channel.NOT_AVAILABLE_NOT_READY:
            self.state = Channel.MACHINE_READY
            return [HermesMessage("MachineReady", {"FailedBoard": "0"})]
        if ready and before is Channel.BOARD_AVAILABLE:
            self.state = Channel.TRANSPORTING
            return [HermesMessage("MachineReady", {"FailedBoard": "0"}), self._start()]
        if not ready and before is Channel.MACHINE_READY:
            self.state = Channel.NOT_AVAILABLE_NOT_READY
            return [HermesMessage("RevokeMachineReady", {})]
        return []

    def waited(self) -> list[HermesMessage]:
        """The time for a transport, or for TransportFinished after a StopTransport, is over.

        A sender that waits for StopTransport gets it, and its TransportFinished decides. HermesError where that one
        does not come either; a board that the sender has revoked is still there, and the next one may come.
        """
        if self.state is Channel.TRANSPORTING:
            self.state = Channel.TRANSPORT_STOPPED
            return [self._stop(COMPLETE)]
        if self.state is Channel.TRANSPORT_STOPPED:
            if not self._is_revoked:
                raise HermesError("no TransportFinished after StopTransport")
            self._back_to_idle()
        return []

    def on(self, message: HermesMessage) -> list[HermesMessage]:
        """HermesError for what does not belong here, which ends the connection (2.3.3)."""
        name, values = message.name, message.values
        if name == "CheckAlive":
            # type 1 asks for an answer of type 2 with its id (3.3); an old sender only wants to see the connection
            return [HermesMessage(name, {"Type": "2", "Id": values.get("Id", "")})] if values.get("Type") == "1" else []
        if name == "ServiceDescription" and self.state is Channel.SERVICE_DESCRIPTION:
            self.state = Channel.NOT_AVAILABLE_NOT_READY
            self.answers_alive = CHECK_ALIVE_RESPONSE in message.features
            return []
        if self.state in (Channel.NOT_CONNECTED, Channel.SERVICE_DESCRIPTION):
            raise HermesError(f"{name} in state {self.state.value}")
        if name == "BoardAvailable":
            return self._available(values)
        if name == "RevokeBoardAvailable":
            return self._revoked()
        if name == "TransportFinished":
            return self._finished(values)
        return []  # Notification, BoardForecast, and what later versions add

    def _available(self, values: Mapping[str, str]) -> list[HermesMessage]:
        idle = self.state in (Channel.NOT_AVAILABLE_NOT_READY, Channel.MACHINE_READY)
        if not idle and not (self.state is Channel.TRANSPORT_STOPPED and self._is_revoked):
            raise HermesError(f"BoardAvailable in state {self.state.value}")
        if not values.get("BoardId"):
            raise HermesError("BoardAvailable without a BoardId")
        if not idle:  # a sender for which StopTransport was the end of the board that it revoked
            self._back_to_idle()
        self.board = Board(
            values["BoardId"], values.get("ProductTypeId", ""), values.get("TopBarcode", ""),
            values.get("BottomBarcode", ""), values.get("WorkOrderId", ""),
        )  # fmt: skip
        if self.state is Channel.MACHINE_READY:
            self.state = Channel.TRANSPORTING
            return [self._start()]
        self.state = Channel.BOARD_AVAILABLE
        return []

    def _start(self) -> HermesMessage:
        return HermesMessage("StartTransport", {"BoardId": self.board.board_id if self.board else ""})

    def _stop(self, transferred: str) -> HermesMessage:
        board_id = self.board.board_id if self.board else ""
        return HermesMessage("StopTransport", {"TransferState": transferred, "BoardId": board_id})

    def _back_to_idle(self) -> None:
        """No board is known any more; a TransportFinished for one that was revoked may still be on its way."""
        revoked_id = self.board.board_id if self.board and self._is_revoked else ""
        self._forget_board()
        self._revoked_id, self.state = revoked_id, Channel.NOT_AVAILABLE_NOT_READY

    def _revoked(self) -> list[HermesMessage]:
        if self.state is Channel.BOARD_AVAILABLE:
            self._forget_board()
            self.state = Channel.NOT_AVAILABLE_NOT_READY
        elif self.state is Channel.TRANSPORTING:
            # it crossed with StartTransport (2.3.4): the sender answers that with TransportFinished, not started
            self.state, self._is_revoked = Channel.TRANSPORT_STOPPED, True
            return [self._stop(NOT_STARTED)]
        return []

    def _finished(self, values: Mapping[str, str]) -> list[HermesMessage]:
        board, transferred, named = self.board, values.get("TransferState", ""), values.get("BoardId", "")
        if self.state not in (Channel.TRANSPORTING, Channel.TRANSPORT_STOPPED):
            if transferred == NOT_STARTED and named and named == self._revoked_id:
                self._revoked_id = ""
                return []
            raise HermesError(f"TransportFinished in state {self.state.value}")
        if board is None or (named and named != board.board_id):
            raise HermesError(f"TransportFinished of {named}, which is not the board under way")
        if transferred == COMPLETE:  # also where it was revoked: what the sender says last holds
            self._arrived(board)
        elif transferred != NOT_STARTED:  # it stays under way: nobody knows where it is, which ``disconnected`` says
            self._is_revoked = False
            raise HermesError(f"a board was left between two machines (TransferState {transferred})")
        answer = [self._stop(transferred)] if self.state is Channel.TRANSPORTING else []
        self._forget_board()
        self.state = Channel.NOT_AVAILABLE_NOT_READY
        return answer
