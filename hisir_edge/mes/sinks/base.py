"""The interface of a sink."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hisir_edge.mes.cursor import CursorStore
from hisir_edge.mes.verdict import Verdict

OnRetry = Callable[[str], None]
"""Called with the reason each time that storing has to wait and is tried again."""


def ignored(reason: str) -> None:
    """Nobody is told."""


class Sink(CursorStore, Protocol):
    """Stores verdicts; what ``put`` has taken is stored, or comes again under the same epoch and number."""

    def put(self, verdict: Verdict) -> None:
        """Store one. InputError for what no retry can mend.

        A sink that may end while nothing comes has a ``failure``, too: the InputError, or None.
        """


@dataclass(frozen=True, slots=True)
class Target:
    """Options of ``hisir-edge forward``: ``target`` is a file, a database's address, or a URL."""

    kind: str
    target: str
    name: str
    state_dir: Path
    masks: bool
    endpoint: str = ""
    control: str = ""
    keys: tuple[str, str] = ("", "")
    """Where the line publishes and is asked, and the keys for it: sinks that tell of the line's state, too."""
