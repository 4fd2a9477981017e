"""Messages to an MQTT broker, over Paho; one after the other, each acknowledged before the cursor moves on."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
import stamina
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import Cursor, CursorFile
from hisir_edge.mes.sinks.base import OnRetry, Target
from hisir_edge.mes.verdict import Verdict

ANSWER_S = 5.0
LONGEST_WAIT_S = 5.0
RACE_S = 0.1
PORT, TLS_PORT = 1883, 8883


class MqttSink:
    """``mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC`` (mqtts: with TLS): JSON to TOPIC/LINE/RESULT with QoS 1.

    At least once, in order: what the broker had when the acknowledgement was lost comes again, under the same epoch and
    number. While the broker is away verdicts wait in the line's journal.
    """

    def __init__(self, target: Target, on_retry: OnRetry) -> None:
        """InputError for an address that is none."""
        stamina.instrumentation.set_on_retry_hooks([])  # ``on_retry`` tells
        parts = urlsplit(target.target)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise InputError(expected="--target mqtt://HOST/TOPIC", received=target.target, fix="correct it")
        try:
            port = parts.port or (TLS_PORT if parts.scheme == "mqtts" else PORT)
        except ValueError as error:
            raise InputError(
                expected="--target mqtt://HOST:PORT/TOPIC", received=str(error), fix="correct it"
            ) from error
        if set("+#\0") & set(unquote(parts.path)) or parts.query or parts.fragment:
            raise InputError(expected="a topic without + and #", received=target.target, fix="correct --target")
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
        self._connected = Event()
        self._client.on_connect = lambda client, data, flags, reason, properties: self._told(reason)
        self._client.on_disconnect = lambda *_: self._connected.clear()
        self._cursor = CursorFile(Path(target.state_dir) / f"{target.name}.cursor")
        self._begun = False

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        return self._cursor.load()

    def put(self, verdict: Verdict) -> None:
        """See ``Sink``; returns when the broker has acknowledged it, however often it has to be sent."""
        if not self._begun:
            self._connect()
        while not self._connected.wait(ANSWER_S):
            self._on_retry(f"no connection to {self._where[0]}:{self._where[1]}")
        sent = self._client.publish(f"{self._topic}/{verdict.line}/{verdict.result}", verdict.text, qos=1)
        while not _is_taken(sent):  # should the connection break, Paho sends it again by itself
            self._on_retry(f"no acknowledgement from {self._where[0]}:{self._where[1]} within {ANSWER_S:g} s")

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``."""
        self._cursor.save(cursor)

    def close(self) -> None:
        """See ``CursorStore``."""
        if self._begun:
            self._client.disconnect()
            self._client.loop_stop()
        self._cursor.close()

    def _told(self, reason: ReasonCode) -> None:
        if reason.is_failure:
            self._on_retry(f"{self._where[0]}:{self._where[1]} refuses: {reason}")
        else:
            self._connected.set()

    def _connect(self) -> None:
        """The first time; later Paho does so itself."""
        for attempt in stamina.retry_context(
            on=OSError, attempts=None, timeout=None, wait_initial=0.2, wait_max=LONGEST_WAIT_S
        ):
            with attempt:
                try:
                    self._client.connect(*self._where)
                except OSError as error:
                    self._on_retry(f"{self._where[0]}:{self._where[1]}: {error}")
                    raise
        self._client.loop_start()
        self._begun = True


def _is_taken(sent: mqtt.MQTTMessageInfo) -> bool:
    """Whether it is acknowledged, within ``ANSWER_S``."""
    try:
        sent.wait_for_publish(ANSWER_S)
        return sent.is_published()
    except RuntimeError:  # the connection broke just before: it is queued all the same, and its number is kept
        time.sleep(RACE_S)
        sent.rc = mqtt.MQTT_ERR_SUCCESS
        return False
