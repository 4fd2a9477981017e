"""HTTP POSTs, over httpx; one after the other, each answered with 2xx before the cursor moves on."""

from __future__ import annotations

from pathlib import Path

import httpx
import stamina

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import Cursor, CursorFile
from hisir_edge.mes.sinks.base import OnRetry, Target
from hisir_edge.mes.verdict import Verdict

TIMEOUT_S = 10.0
LONGEST_WAIT_S = 5.0
AGAIN = (408, 425, 429)
"""Of the answers that blame the request, those that another try may mend."""


class WebhookSink:
    """The verdict's JSON as it was published, with ``Idempotency-Key: EPOCH-SEQ``.

    At least once, in order: what the server had when its answer was lost comes again, with the same key. While the
    server is away, or answers 5xx, verdicts wait in the line's journal.
    """

    def __init__(self, target: Target, on_retry: OnRetry) -> None:
        """InputError for an address that is none."""
        stamina.instrumentation.set_on_retry_hooks([])  # ``on_retry`` tells
        if not target.target.startswith(("http://", "https://")):
            raise InputError(expected="--target https://HOST/PATH", received=target.target, fix="correct it")
        self._url, self._on_retry = target.target, on_retry
        self._client = httpx.Client(timeout=TIMEOUT_S)
        self._cursor = CursorFile(Path(target.state_dir) / f"{target.name}.cursor")

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        return self._cursor.load()

    def put(self, verdict: Verdict) -> None:
        """See ``Sink``; InputError where the server refuses it for good: it is not passed over."""
        for attempt in stamina.retry_context(
            on=httpx.HTTPError,
            attempts=None,
            timeout=None,
            wait_initial=0.2,
            wait_max=LONGEST_WAIT_S,
        ):
            with attempt:
                self._posted(verdict)

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``."""
        self._cursor.save(cursor)

    def close(self) -> None:
        """See ``CursorStore``."""
        self._client.close()
        self._cursor.close()

    def _posted(self, verdict: Verdict) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{verdict.epoch}-{verdict.seq}"}
        try:
            with self._client.stream("POST", self._url, content=verdict.text, headers=headers) as answer:
                pass  # its status is what counts, whatever it says besides
            if 300 <= answer.status_code < 500 and answer.status_code not in AGAIN:
                raise InputError(
                    expected=f"{self._url} to take verdict #{verdict.seq}",
                    received=f"HTTP {answer.status_code} {answer.reason_phrase}",
                    fix="correct --target or the server; nothing is lost: run it again",
                )
            answer.raise_for_status()
        except httpx.HTTPError as error:
            self._on_retry(str(error) or type(error).__name__)
            raise
        except httpx.InvalidURL as error:
            raise InputError(expected="--target https://HOST/PATH", received=str(error), fix="correct it") from error
