"""Messages to an MQTT broker, over Paho; one after the other, each acknowledged before the cursor moves on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
import stamina
from paho.mqtt.enums import CallbackAPIVersion

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import Cursor, CursorFile
from hisir_edge.mes.sinks import Target
from hisir_edge.mes.verdict import Verdict

ANSWER_S = 5.0
LONGEST_WAIT_S = 5.0
PORT, TLS_PORT = 1883, 8883


class MqttSink:
    """``mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC`` (mqtts: with TLS): JSON to TOPIC/LINE/RESULT with QoS 1.

    At least once, in order: what the broker had when the acknowledgement was lost comes again, under the same epoch and
    number. While the broker is away verdicts wait in the line's journal.
    """

    def __init__(self, target: Target, on_retry: Callable[[str], None]) -> None:
        """InputError for an address that is none."""
        parts = urlsplit(target.target)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise InputError(expected="--target mqtt://HOST/TOPIC", received=target.target, fix="correct it")
        try:
            port = parts.port or (TLS_PORT if parts.scheme == "mqtts" else PORT)
        except ValueError as error:
            raise InputError(
                expected="--target mqtt://HOST:PORT/TOPIC", received=str(error), fix="correct it"
            ) from error
        self._where, self._topic = (parts.hostname, port), parts.path.strip("/") or "hisir-edge"
        self._on_retry = on_retry
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"hisir-edge-{target.name}", clean_session=True
        )
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.reconnect_delay_set(1, round(LONGEST_WAIT_S))
        self._cursor = CursorFile(Path(target.state_dir) / f"{target.name}.cursor")
        self._begun = False

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        return self._cursor.load()

    def put(self, verdict: Verdict) -> None:
        """See ``Sink``; whole again until the broker has acknowledged it."""
        topic = f"{self._topic}/{verdict.line}/{verdict.result}"
        for attempt in stamina.retry_context(
            on=(OSError, RuntimeError, ValueError),
            attempts=None,
            timeout=None,
            wait_initial=0.2,
            wait_max=LONGEST_WAIT_S,
        ):
            with attempt:
                self._published(topic, verdict.text)

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``."""
        self._cursor.save(cursor)

    def close(self) -> None:
        """See ``CursorStore``."""
        if self._begun:
            self._client.disconnect()
            self._client.loop_stop()
        self._cursor.close()

    def _published(self, topic: str, text: bytes) -> None:
        try:
            if not self._begun:
                self._client.connect(*self._where)
                self._client.loop_start()
                self._begun = True
            sent = self._client.publish(topic, text, qos=1)
            sent.wait_for_publish(ANSWER_S)
            if not sent.is_published():
                raise OSError(f"no acknowledgement from {self._where[0]}:{self._where[1]} within {ANSWER_S:g} s")
        except (OSError, RuntimeError, ValueError) as error:
            self._on_retry(str(error))
            raise
