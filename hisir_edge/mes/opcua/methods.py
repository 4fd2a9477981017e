"""Methods of the vision system: asked of the line, in its own words where it refuses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import structlog
from asyncua import ua

from hisir_edge.errors import InputError, NoAnswer, TryLater
from hisir_edge.mes.live import LiveLine
from hisir_edge.mes.opcua.access import CALLER, may_call
from hisir_edge.mes.opcua.model import Model
from hisir_edge.mes.opcua.pki import Pki

log = structlog.get_logger()
OK, REFUSED, NO_ANSWER, LATER = 0, 1, 2, 3
RESULT_ID = re.compile(r"([0-9a-f]{1,32})/([0-9]{1,18})")


class Methods:
    """``pki``: who may call those that change something."""

    def __init__(self, line: LiveLine, pki: Pki) -> None:
        self._line, self._pki = line, pki

    async def add_to(self, model: Model) -> None:
        """Add them all."""
        outputs = [
            _argument("error", ua.ObjectIds.Int32, "0: done; 1: refused; 2: the line does not answer; 3: not now"),
            _argument("errorText", ua.ObjectIds.String, "why, in the line's words"),
        ]
        product = _argument("product", ua.ObjectIds.String, "one of RecipeManagement/Products")
        await model.method("RecipeManagement/SelectProduct", self.select, [product], outputs)
        await model.method("VisionStateMachine/Pause", self.pause, [], outputs)
        await model.method("VisionStateMachine/Resume", self.resume, [], outputs)
        given = _argument("resultId", ua.ObjectIds.String, "EPOCH/NUMBER, as in LastResult/ResultId and in events")
        content = _argument("resultContent", ua.ObjectIds.String, "the verdict as it was published, JSON without masks")
        await model.method("ResultManagement/GetResultById", self.result, [given], [content, *outputs])

    async def select(self, _parent: Any, *given: Any) -> Any:
        """SelectProduct."""
        product = _text(given)
        if product is None:
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        return await self._changed({"do": "select", "product": product})

    async def pause(self, _parent: Any, *_: Any) -> Any:
        """Pause."""
        return await self._changed({"do": "pause"})

    async def resume(self, _parent: Any, *_: Any) -> Any:
        """Resume."""
        return await self._changed({"do": "resume"})

    async def result(self, _parent: Any, *given: Any) -> Any:
        """GetResultById."""
        found = RESULT_ID.fullmatch(_text(given) or "")
        if found is None:
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        code, answer = await _asked(lambda: self._line.verdict_text(found[1], int(found[2])))
        if code:
            return [_string(""), *_told(code, answer)]
        if answer is None:
            return [_string(""), *_told(REFUSED, "the journal has no verdict of this number any more, or not yet")]
        return [_string(answer), *_told(OK, "")]

    async def _changed(self, request: dict[str, Any]) -> Any:
        caller = CALLER.get()
        name = caller.name if caller is not None else ""
        if not may_call(self._pki):
            log.warning("an OPC UA client may not call methods", client=name, method=request["do"])
            return ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        code, answer = await _asked(lambda: self._line.ask(request))
        log.info("asked for over OPC UA", client=name, **request, error=code, text=answer if code else "")
        return _told(code, answer if code else "")


async def _asked(question: Callable[[], Any]) -> tuple[int, Any]:
    """0 and an answer, or a code and why there is none; the server goes on meanwhile."""
    try:
        return OK, await asyncio.get_running_loop().run_in_executor(None, question)
    except NoAnswer as error:
        return NO_ANSWER, str(error)
    except TryLater as error:
        return LATER, str(error)
    except InputError as error:
        return REFUSED, str(error)


def _told(code: int, text: str) -> list[ua.Variant]:
    return [ua.Variant(code, ua.VariantType.Int32), _string(text)]


def _string(text: str) -> ua.Variant:
    return ua.Variant(text, ua.VariantType.String)


def _text(given: tuple[Any, ...]) -> str | None:
    """The one argument of a method that takes a text; None for anything else."""
    value = given[0].Value if len(given) == 1 else None
    return value if isinstance(value, str) else None


def _argument(name: str, kind: int, text: str) -> ua.Argument:
    return ua.Argument(
        Name=name, DataType=ua.NodeId(kind), ValueRank=-1, ArrayDimensions=[], Description=ua.LocalizedText(text)
    )
