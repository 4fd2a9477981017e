"""The line's state, named as in OPC UA for Machine Vision (OPC 40100-1, VisionStateMachine).

``StateMachine`` holds the state and refuses changes that the standard does not know; ``LineState`` derives it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from enum import Enum
from threading import Event, Lock
from typing import Any, Protocol

import structlog

from hisir_edge import __version__
from hisir_edge.camera.source import Source
from hisir_edge.errors import InputError
from hisir_edge.line.products import Selection
from hisir_edge.line.sequence import Sequence
from hisir_edge.records import Result

log = structlog.get_logger()


class State(str, Enum):
    """What the line is doing."""

    PREOPERATIONAL = "Preoperational"
    """Nothing is loaded yet."""
    INITIALIZED = "Initialized"
    """Bundles are loaded and tested, camera and sockets are open; the line waits for the subscribers it wants."""
    READY = "Ready"
    """Waits for triggers, or is paused."""
    SINGLE_EXECUTION = "SingleExecution"
    """A board that was asked for is being inspected."""
    CONTINUOUS_EXECUTION = "ContinuousExecution"
    """Every frame of the camera is a trigger."""
    ERROR = "Error"
    """The camera is lost, or inspections hang: triggers are ERROR verdicts or refused until that is over."""
    HALTED = "Halted"
    """It ends, or has ended."""


ALLOWED: dict[State, frozenset[State]] = {
    State.PREOPERATIONAL: frozenset({State.INITIALIZED, State.ERROR, State.HALTED}),
    State.INITIALIZED: frozenset({State.READY, State.CONTINUOUS_EXECUTION, State.ERROR, State.HALTED}),
    State.READY: frozenset({State.SINGLE_EXECUTION, State.CONTINUOUS_EXECUTION, State.ERROR, State.HALTED}),
    State.SINGLE_EXECUTION: frozenset({State.READY, State.ERROR, State.HALTED}),
    State.CONTINUOUS_EXECUTION: frozenset({State.READY, State.ERROR, State.HALTED}),
    State.ERROR: frozenset({State.READY, State.CONTINUOUS_EXECUTION, State.SINGLE_EXECUTION, State.HALTED}),
    State.HALTED: frozenset(),
}


class StateMachine:
    """The state now; changes that the standard does not know are refused, the rest is logged and told."""

    def __init__(self, on_change: Callable[[State], None] = lambda state: None) -> None:
        self._state, self._lock, self._on_change = State.PREOPERATIONAL, Lock(), on_change

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    def to(self, state: State) -> None:
        """Change, from any thread; the same state again is no change. RuntimeError for what is not allowed."""
        with self._lock:
            before = self._state
            if state is before:
                return
            if state not in ALLOWED[before]:
                raise RuntimeError(f"{before.value} cannot become {state.value}")
            self._state = state
        log.info("state", state=state.value, before=before.value)
        self._on_change(state)


class InFlight(Protocol):
    """The figures that the state needs of the pipeline."""

    @property
    def waiting(self) -> int:
        """Boards that were accepted and whose verdicts are not handed over yet."""

    @property
    def late_slots(self) -> int:
        """Slots at work on a board that has missed its deadline."""


class LineState:
    """Whether the line takes boards, why not, and what it has done; asked and changed from any thread.

    ``counts``: verdicts by result, and frames that were not taken by reason. ``unjournaled``: how many verdicts the
    journal has not taken. ``wrong``: why it takes none; empty: it does. ``optics``: by camera how its last frames were
    taken.
    """

    def __init__(
        self,
        machine: StateMachine,
        selection: Selection,
        sequence: Sequence,
        pipeline: InFlight,
        counts: Counter[str],
        unjournaled: Callable[[], int] = lambda: 0,
        wrong: Callable[[], str] = lambda: "",
        optics: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self.machine, self.counts, self._selection, self._sequence = machine, counts, selection, sequence
        self._pipeline, self._unjournaled, self._wrong, self._optics = pipeline, unjournaled, wrong, optics
        self.software_triggered = selection.products.settings.source.trigger == "software"
        """Whether frames come because a trigger asked for them; otherwise each frame is a trigger."""
        self.draining, self.paused = Event(), Event()
        self.source: Source | None = None
        self.last_reload = ""
        """Result of the last SIGHUP."""
        self._serving = False
        self._started_at = time.monotonic()

    def serve(self, source: Source) -> None:
        """Accept triggers from now on."""
        self.source, self._serving = source, True

    def close(self) -> None:
        """Accept no trigger from now on."""
        self._serving = False

    @property
    def camera_up(self) -> bool:
        """Whether there is a camera and it is connected."""
        return self.source is not None and self.source.up

    @property
    def takes_boards(self) -> bool:
        """Whether a board may come: the line serves, is neither paused nor draining, and has its camera."""
        return self.camera_up and self._serving and not self.draining.is_set() and not self.paused.is_set()

    def check_accepting(self) -> Source:
        """The camera; InputError (refused) while the line takes no triggers."""
        if self.source is None or not self._serving or self.draining.is_set():
            draining = self.draining.is_set()
            received = "one that drains or ends" if draining else "one that is not there yet, or ends"
            code = "draining" if draining else "starting"
            raise InputError(expected="a line that takes boards", received=received, fix="see status", code=code)
        if self.paused.is_set():
            raise InputError(
                expected="a line that takes boards", received="one that is paused", fix="resume it", code="paused"
            )
        return self.source

    def show(self) -> None:
        """Bring the state machine up to what is; the loop calls this at least every ``daemon.POLL_S``."""
        state = self.machine.state
        if state is State.HALTED or not self._serving:
            return
        if not self.camera_up or self._pipeline.late_slots or self._unjournaled() or self._wrong():
            self.machine.to(State.ERROR)
            return
        busy = State.SINGLE_EXECUTION if self.software_triggered else State.CONTINUOUS_EXECUTION
        running = self._pipeline.waiting > 0 if self.software_triggered else not self.paused.is_set()
        if state is State.INITIALIZED:
            self.machine.to(State.READY)
        self.machine.to(busy if running else State.READY)

    def status(self, epoch: str, hermes: str = "") -> dict[str, Any]:
        """The answer of the control socket's ``status``. ``hermes``: the state of that connection."""
        selection = self._selection
        return {
            "version": __version__, "line": selection.products.settings.line.name, "epoch": epoch,
            "state": self.machine.state.value, "paused": self.paused.is_set(), "draining": self.draining.is_set(),
            "product": selection.product, "products": sorted(selection.products.by_name),
            "camera_up": self.camera_up, "accepted": self._sequence.accepted, "seq": self._sequence.last,
            "verdicts": {result.value: self.counts[result.value] for result in Result},
            "in_flight": self._pipeline.waiting, "stuck_slots": self._pipeline.late_slots,
            "unsolicited_frames": self.counts["unsolicited"], "frames_while_paused": self.counts["while_paused"],
            "last_reload": self.last_reload, "unjournaled": self._unjournaled(), "journal_error": self._wrong(),
            "hermes": hermes, "optics": self._optics(),
            "uptime_s": round(time.monotonic() - self._started_at, 1),
        }  # fmt: skip
