"""Where verdicts can be forwarded to: each sink stores one verdict at a time and keeps the cursor with it."""

from __future__ import annotations

from collections.abc import Callable

from hisir_edge.errors import InputError
from hisir_edge.mes.sinks.base import Sink, Target

KINDS = ("jsonl", "sqlite", "postgres", "mqtt", "webhook")


def opened(target: Target, on_retry: Callable[[str], None]) -> Sink:
    """The sink, connected; InputError for a target that is none, or whose driver is not installed."""
    try:
        return _opened(target, on_retry)
    except ImportError as error:
        raise InputError(
            expected=f"the driver for --to {target.kind}",
            received=str(error),
            fix=f"pip install 'hisir-edge[{target.kind}]'",
        ) from error


def _opened(target: Target, on_retry: Callable[[str], None]) -> Sink:
    if target.kind == "jsonl":
        from hisir_edge.mes.sinks.jsonl import JsonlSink

        return JsonlSink(target)
    if target.kind == "sqlite":
        from hisir_edge.mes.sinks.sqlite import SqliteSink

        return SqliteSink(target)
    import stamina

    stamina.instrumentation.set_on_retry_hooks([])  # ``on_retry`` tells
    if target.kind == "postgres":
        from hisir_edge.mes.sinks.postgres import PostgresSink

        return PostgresSink(target, on_retry)
    if target.kind == "mqtt":
        from hisir_edge.mes.sinks.mqtt import MqttSink

        return MqttSink(target, on_retry)
    if target.kind == "webhook":
        from hisir_edge.mes.sinks.webhook import WebhookSink

        return WebhookSink(target, on_retry)
    raise InputError(expected=f"--to {', '.join(KINDS)}", received=target.kind, fix="choose one")
