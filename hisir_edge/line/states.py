"""The line's state, named as in OPC UA for Machine Vision (OPC 40100-1, VisionStateMachine), and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from threading import Lock

import structlog

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
        """What it is now."""
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
