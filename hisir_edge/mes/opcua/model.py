"""The address space: one object for the line, below Objects, with the names of OPC 40100-1 (Machine Vision).

Node ids are ``s=`` and the browse path, such as ``s=VisionSystem/ResultManagement/LastResult/Verdict``: the same at
every start.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from asyncua import Node, Server, ua

from hisir_edge.mes.opcua import values
from hisir_edge.mes.opcua.values import ANSWERS, RESULT, Values, Variable
from hisir_edge.mes.verdict import Verdict

NAMESPACE = "urn:hisir-edge:machine-vision"
ROOT, EVENT = "VisionSystem", "ResultReadyEventType"
MACHINE, AUTOMATIC = "VisionStateMachine", "VisionStateMachine/AutomaticModeStateMachine"
FOLDERS = ("RecipeManagement", "ResultManagement", RESULT, "Counters", "Diagnostics")
AWAY = ua.StatusCode(ua.StatusCodes.BadNoCommunication)
LAST_KNOWN = ua.StatusCode(ua.StatusCodes.UncertainLastUsableValue)
GOOD = ua.StatusCode(ua.StatusCodes.Good)
Answer = Callable[..., Any]


class Model:
    """Made once by ``build``; ``show_*`` are called on the server's event loop."""

    def __init__(self, server: Server, index: int) -> None:
        self._server, self._index = server, index
        self._result: dict[str, ua.Variant] = {}
        self._kinds: dict[str, Variable] = {}
        self._events: list[Any] = []
        self._line = ""

    async def build(self) -> Node:
        """Everything but methods; the vision system's node."""
        root = await self._server.nodes.objects.add_object(self._id(""), self._name(ROOT))
        await self._machine(MACHINE, values.STATES)
        await self._machine(AUTOMATIC, values.OPERATIONAL)
        for folder in FOLDERS:
            await self._parent(folder).add_object(self._id(folder), self._name(folder.rpartition("/")[2]))
        for one in (*values.OF_STATUS, values.ANSWERS):
            await self._variable(one.path, one)
        for one in (*values.OF_RESULT, values.CONTENT):
            await self._variable(f"{RESULT}/{one.path}", one)
        await self._event_type(root)
        await self.show_away()
        await self.show_nothing_judged()
        return root

    async def method(self, path: str, call: Answer, inputs: list[ua.Argument], outputs: list[ua.Argument]) -> None:
        """A method below the vision system; ``call`` is a coroutine function of (parent, *variants)."""
        name = path.rpartition("/")[2]
        await self._parent(path).add_method(self._id(path), self._name(name), call, inputs, outputs)

    async def show_status(self, status: dict[str, Any]) -> None:
        """What the line says of itself."""
        await self._show_states(*values.states(status))
        await self._show_name(str(status.get("line", "")))
        await self._write(ANSWERS.path, ua.Variant(True, ua.VariantType.Boolean))
        for path, value in values.of_status(status).items():
            await self._write(path, self._variant(path, value))

    async def show_away(self) -> None:
        """The line does not answer: nobody knows what it does, and the last result may be an old one."""
        for path in (MACHINE, AUTOMATIC):
            for part in ("CurrentState", "CurrentState/Id"):
                await self._write(f"{path}/{part}", None, AWAY)
        for one in values.OF_STATUS:
            await self._write(one.path, None, AWAY)
        await self._write(ANSWERS.path, ua.Variant(False, ua.VariantType.Boolean))
        await self.show_result_status(is_last=False)

    async def show_result_status(self, is_last: bool) -> None:
        """Whether the last result is known to be the line's last one."""
        for path, variant in self._result.items():
            await self._write(path, variant, GOOD if is_last else LAST_KNOWN)

    async def show_nothing_judged(self) -> None:
        """The last result before there is one."""
        await self._show_result(values.of_no_verdict(), "", LAST_KNOWN)

    async def show_verdict(self, verdict: Verdict, is_last: bool = True) -> None:
        """The last result, then the event, of the vision system and of the server."""
        found = values.of_verdict(verdict)
        await self._show_result(found, verdict.text.decode(), GOOD if is_last else LAST_KNOWN)
        reason = f": {verdict.reason}" if verdict.reason else ""
        for one in self._events:
            for path, value in found.items():
                setattr(one.event, path, value)
            one.event.Severity = values.SEVERITY[verdict.result]
            message = f"{verdict.result} {verdict.unit}{reason}"
            await one.trigger(time_attr=found["CreationTime"], message=message)

    async def _show_result(self, found: Values, content: str, status: ua.StatusCode) -> None:
        for path, value in (*found.items(), (values.CONTENT.path, content)):
            full = f"{RESULT}/{path}"
            self._result[full] = self._variant(full, value)
            await self._write(full, self._result[full], status)

    async def _show_states(self, state: str, automatic: str) -> None:
        for machine, name in ((MACHINE, state), (AUTOMATIC, automatic)):
            text = ua.Variant(ua.LocalizedText(name or None), ua.VariantType.LocalizedText)
            node = ua.Variant(self._id(f"{machine}/{name}") if name else ua.NodeId(), ua.VariantType.NodeId)
            await self._write(f"{machine}/CurrentState", text)
            await self._write(f"{machine}/CurrentState/Id", node)

    async def _show_name(self, line: str) -> None:
        if line != self._line:
            self._line = line
            text = ua.DataValue(ua.Variant(ua.LocalizedText(line), ua.VariantType.LocalizedText))
            await self._server.write_attribute_value(self._id(""), text, ua.AttributeIds.DisplayName)

    async def _write(self, path: str, variant: ua.Variant | None, status: ua.StatusCode = GOOD) -> None:
        now = datetime.now(timezone.utc)
        value = ua.DataValue(
            Value=variant if variant is not None else ua.Variant(), StatusCode=status, SourceTimestamp=now,
            ServerTimestamp=now,
        )  # fmt: skip
        await self._server.write_attribute_value(self._id(path), value)

    def _variant(self, path: str, value: Any) -> ua.Variant:
        one = self._kinds[path]
        return ua.Variant(value, one.kind, is_array=one.array)

    async def _machine(self, path: str, states: tuple[str, ...]) -> None:
        """A finite state machine with its states, numbered from 1 on; node ids as everywhere else."""
        name = path.rpartition("/")[2]
        abstract = self._server.get_node(ua.NodeId(ua.ObjectIds.FiniteStateMachineType))
        kind = await abstract.add_object_type(self._index, f"{name}Type")
        machine = await self._parent(path).add_object(self._id(path), self._name(name), kind.nodeid)
        for child in await machine.get_children():
            await self._server.delete_nodes([child], recursive=True)
        current = await machine.add_variable(
            self._id(f"{path}/CurrentState"), ua.QualifiedName("CurrentState", 0), ua.LocalizedText(),
            ua.VariantType.LocalizedText,
        )  # fmt: skip
        await current.add_property(
            self._id(f"{path}/CurrentState/Id"), ua.QualifiedName("Id", 0), ua.NodeId(), ua.VariantType.NodeId
        )
        for number, name in enumerate(states, 1):
            state = await machine.add_object(self._id(f"{path}/{name}"), self._name(name))
            await state.add_property(
                self._id(f"{path}/{name}/StateNumber"),
                ua.QualifiedName("StateNumber", 0),
                number,
                ua.VariantType.UInt32,
            )

    async def _variable(self, path: str, one: Variable) -> None:
        self._kinds[path] = one
        made = await self._parent(path).add_variable(
            self._id(path), self._name(path.rpartition("/")[2]),
            [] if one.array else ua.get_default_value(one.kind), one.kind,
            ua.NodeId(getattr(ua.ObjectIds, one.kind.name)),
        )  # fmt: skip
        rank = ua.ValueRank.OneDimension if one.array else ua.ValueRank.Scalar
        await made.write_attribute(ua.AttributeIds.ValueRank, ua.DataValue(ua.Variant(rank, ua.VariantType.Int32)))
        text = ua.Variant(ua.LocalizedText(one.text), ua.VariantType.LocalizedText)
        await made.write_attribute(ua.AttributeIds.Description, ua.DataValue(text))

    async def _event_type(self, root: Node) -> None:
        made = await self._server.create_custom_event_type(
            self._index, EVENT, ua.ObjectIds.BaseEventType, [(one.path, one.kind) for one in values.OF_RESULT]
        )
        self._events = [
            await self._server.get_event_generator(made, emitting)
            for emitting in (root, self._server.get_node(ua.ObjectIds.Server))
        ]
        for one in self._events:
            one.event.SourceNode, one.event.SourceName = root.nodeid, ROOT

    def _parent(self, path: str) -> Node:
        return self._server.get_node(self._id(path.rpartition("/")[0]))

    def _id(self, path: str) -> ua.NodeId:
        return ua.NodeId(f"{ROOT}/{path}" if path else ROOT, self._index)

    def _name(self, name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, self._index)
