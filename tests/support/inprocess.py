"""A line in the test's own process: the real intake, pipeline and bundle, and a camera that does what the test says."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from hisir_edge.errors import CameraError
from hisir_edge.line.assembly import line_from_products
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.products import Products
from hisir_edge.line.state import State, StateMachine
from hisir_edge.line.verdicts import LabelReader, Outcome
from support.messages import facts

EPOCH = "e" * 32


class ScriptedCamera:
    """Counts the requests for frames; the test hands frames to the line itself."""

    name = "cam"
    frame_wh = None

    def __init__(self) -> None:
        self.asked, self.broken, self.armed, self.rearmed, self.up = 0, False, True, 0, True

    def trigger(self) -> None:
        self.asked += 1
        if self.broken:
            raise CameraError(expected="the camera to take a trigger", received="it is lost", fix="wait")

    def rearm(self) -> None:
        self.rearmed += 1
        self.armed = False


class InProcessLine:
    """Enter it to start the pipeline; ``out`` collects what each verdict says, in order."""

    def __init__(self, products: Products, reader: LabelReader | None = None, journal: Journal | None = None) -> None:
        self.out: list[dict[str, Any]] = []
        self._more = threading.Condition()
        machine = StateMachine()
        machine.to(State.INITIALIZED)
        self.line = line_from_products(products, EPOCH, machine, self._hand_over, journal, reader=reader)
        self.state, self.intake, self.arrivals = self.line.state, self.line.intake, self.line.arrivals
        self.pipeline, self.camera = self.line.pipeline, ScriptedCamera()

    def _hand_over(self, outcome: Outcome) -> None:
        with self._more:
            self.out.append(facts(outcome.message.body))
            self._more.notify()

    def __enter__(self) -> InProcessLine:
        self.pipeline.__enter__()
        self.state.serve(self.camera)  # type: ignore[arg-type]
        self.state.show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.pipeline.__exit__(None, None, None)

    def status(self) -> dict[str, Any]:
        return self.state.status(EPOCH)

    def wait(self, count: int) -> list[dict[str, Any]]:
        """All verdicts, once there are so many."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.out) >= count, 30)
        return self.out
