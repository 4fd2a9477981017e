"""Work of a frame that is the same each time: launched step by step at first, then as a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from hisir_edge.cuda.device import Event, Graph, Stream

log = structlog.get_logger()

Steps = Sequence[Callable[[], None]]


@dataclass
class Recorded:
    """How often some work has run, and its graph."""

    runs: int = 0
    graph: Graph | None = None

    def run(self, stream: Stream, steps: Steps, records: list[bool], marks: Iterator[Event] | None) -> None:
        """Launch it; the second one's work is recorded, for engines must run once.

        ``records``: see ``Rig``. With ``marks`` each step ends in one, and no graph is used.
        """

        def all_of_it() -> None:
            for step in steps:
                step()

        if self.runs == 1 and records[0]:
            try:
                self.graph = stream.recorded(all_of_it)
            except Exception as error:  # whatever cannot be recorded can still be done step by step
                records[0] = False
                log.warning("no CUDA graph, every step is launched by itself", error=f"{type(error).__name__}: {error}")
        if self.graph is not None and marks is None:
            self.graph()
        else:
            for step in steps:
                step()
                if marks is not None:
                    next(marks).record(stream)
        self.runs += 1

    def free(self) -> None:
        """Give the graph back."""
        if self.graph is not None:
            self.graph.free()
            self.graph = None
