"""Messages follow the schema in the repository, whatever the judgement."""

from __future__ import annotations

import json
import socket
from importlib import resources

import cv2
import jsonschema
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.config import PublishTable
from hisir_edge.errors import InputError
from hisir_edge.line.judge import Thresholds, regions_from_map
from hisir_edge.line.publish import Publisher, Recipe, message_from_judgement
from hisir_edge.mes.subscribe import received_from_frames
from hisir_edge.records import Frame, GrabFault, Judgement, Result, StageTimes

SCHEMA = json.loads((resources.files("hisir_edge.mes") / "verdict.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
RECIPE = Recipe("line-1", "0" * 32, "p", "a" * 64)


def _judged(seed: int, level: float) -> tuple[Frame, Judgement]:
    rng = np.random.default_rng(seed)
    anomaly_map = cv2.GaussianBlur(rng.random((40, 50)).astype(np.float32), (0, 0), 1.5) * np.float32(level)
    found = regions_from_map(anomaly_map, Thresholds(1.0, 1.0, 3))
    result = Result.FAIL if found.total else Result.PASS
    times = StageTimes(0.01, 0.01, 0.2, 0.02, 0.01, 0.25)
    reason = f"{found.total} region(s)" if found.total else ""
    score = float(anomaly_map.max())
    frame = Frame(np.zeros((40, 50, 3), np.uint8), "cam", seed, f"board {seed} ä", 1_700_000_000_000_000_000 + seed)
    return frame, Judgement(result, reason, score, found.regions, found.total, found.mask, times, 0.2)


@given(st.integers(0, 10**6), st.floats(0.5, 3.0))
@settings(max_examples=60, deadline=None)
def test_any_judgement_is_a_valid_message(seed, level):
    frame, judgement = _judged(seed, level)
    message = message_from_judgement(RECIPE, seed + 1, frame, judgement)
    topic, text, png = message.frames()
    body = json.loads(text)
    VALIDATOR.validate(body)
    assert topic.decode() == f"verdict/line-1/{body['result']}"
    mask = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) > 0
    assert np.array_equal(mask, judgement.mask)
    assert mask.any() == (body["result"] == "FAIL")


def test_a_fault_is_an_error_without_mask():
    fault = GrabFault("cam", 7, "cam-7", "lost", 1)
    judgement = Judgement(Result.ERROR, "lost", None, (), 0, None)
    message = message_from_judgement(RECIPE, 3, fault, judgement)
    VALIDATOR.validate(message.body)
    assert message.mask_png == b""
    assert message.body["frame"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"result": "PASS", "regions_total": 1},
        {"result": "MAYBE"},
        {"seq": 0},
        {"extra": 1},
        {"result": "ERROR", "score": None, "reason": ""},
        {"score": None},
        {"line": "a/b"},
    ],
)
def test_the_schema_refuses_what_is_no_verdict(change):
    frame, judgement = _judged(1, 0.5)
    body = {**message_from_judgement(RECIPE, 1, frame, judgement).body, **change}
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(body)


def test_gaps_in_the_numbers_are_counted_per_epoch():
    last: dict[tuple[str, str], int] = {}

    def take(epoch: str, seq: int) -> int:
        body = json.dumps({"line": "l", "epoch": epoch, "seq": seq}).encode()
        return received_from_frames([b"verdict/l/PASS", body, b""], last).missed

    assert [take("a", 1), take("a", 2), take("a", 5), take("b", 9), take("b", 10), take("a", 6)] == [0, 0, 2, 0, 0, 0]


@pytest.mark.parametrize("frames", [[b"x"], [b"t", b"no json", b""], [b"t", b"[]", b""], [b"t", b"{}", b""], []])
def test_what_is_no_verdict_is_an_input_error(frames):
    with pytest.raises(InputError):
        received_from_frames(frames, {})


def test_a_subscriber_that_does_not_read_holds_up_nobody():
    """Its own queue fills and it misses verdicts; sending goes on and the subscriber beside it has every one."""
    messages, payload = 160, bytes(256 * 1024)  # 40 MiB: more than the buffers of a loopback connection hold
    context = zmq.Context()
    readers = []
    try:
        with Publisher(PublishTable(endpoint=_free_endpoint(), send_high_water_mark=8)) as publisher:
            for _ in range(2):
                reader = context.socket(zmq.SUB)
                reader.setsockopt(zmq.RCVHWM, 8)
                reader.setsockopt(zmq.RCVTIMEO, 20_000)
                reader.setsockopt(zmq.LINGER, 0)
                reader.setsockopt(zmq.SUBSCRIBE, b"")
                reader.connect(publisher.settings.endpoint)
                readers.append(reader)
            for _ in range(100):
                if publisher.count_subscribers(200) == 2:
                    break
            assert publisher.subscribers == 2
            reads, lazy = readers
            for number in range(messages):
                publisher.send([b"verdict", b"%d" % number, payload])
                assert reads.recv_multipart()[1] == b"%d" % number
            lazy.setsockopt(zmq.RCVTIMEO, 1000)
            kept = []
            with pytest.raises(zmq.Again):
                while True:
                    kept.append(int(lazy.recv_multipart()[1]))
            assert kept == sorted(set(kept)) and 0 < len(kept) < messages
    finally:
        for reader in readers:
            reader.close()
        context.term()


def _free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"
