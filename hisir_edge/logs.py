"""Logging: coloured lines on a terminal, JSON lines anywhere else; always on standard error."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import structlog

from hisir_edge.labels import shown


class _Writer:
    """Standard error; if it is closed, or its disk is full, log lines are lost and nothing else."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):  # None where it was closed before the process began
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()


def _escaped(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Control characters in values, as of a label's separators, stand in a terminal as they do in JSON."""
    return {k: shown(v) if isinstance(v, str) and k != "exception" else v for k, v in event.items()}


def configure_logging() -> None:
    """Set structlog up for this process."""
    writer: Any = _Writer()
    terminal = sys.stderr is not None and sys.stderr.isatty()
    render = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *([_escaped] if terminal else []),  # JSON escapes control characters by itself
            render,
        ],
        logger_factory=structlog.WriteLoggerFactory(writer),
        cache_logger_on_first_use=False,
    )
