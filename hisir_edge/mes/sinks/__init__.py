"""Where verdicts can be forwarded to: each sink a file here and a line of ``registry.SINKS``.

A sink stores one verdict at a time, and keeps the cursor with it.
"""

from __future__ import annotations

from collections.abc import Callable

from hisir_edge.by_name import part
from hisir_edge.errors import InputError
from hisir_edge.mes.sinks.base import Sink, Target
from hisir_edge.registry import SINKS


def opened(target: Target, on_retry: Callable[[str], None]) -> Sink:
    """The sink, connected; InputError for a target that cannot be used, or whose driver is not installed."""
    if target.kind not in SINKS:
        raise InputError(expected=f"--to {', '.join(SINKS)}", received=target.kind, fix="choose one")
    try:
        sink: Sink = part(SINKS[target.kind])(target, on_retry)
    except ImportError as error:
        raise InputError(
            expected=f"the driver for --to {target.kind}",
            received=str(error),
            fix=f"pip install 'hisir-edge[{target.kind}]'",
        ) from error
    return sink
