"""Messages follow the schema in the repository, whatever the judgement."""

from __future__ import annotations

import json
import socket
import time
from importlib import resources

import cv2
import jsonschema
import numpy as np
import pytest
import structlog
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from support.messages import sample_message

from hisir_edge.bundle.thresholds import Thresholds
from hisir_edge.config.sockets import PublishTable, SecurityTable
from hisir_edge.errors import InputError, PublishError
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.regions import regions_from_map
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.message import Provenance, message_from_judgement
from hisir_edge.line.sockets.publish import MOST_SUBSCRIPTIONS, Publisher
from hisir_edge.mes import verdict_from_frames
from hisir_edge.mes.client import numbered
from hisir_edge.records import Frame, GrabFault, Judgement, Result, StageTimes
from hisir_edge.transport.run_lengths import runs_of_rle

SCHEMA = json.loads((resources.files("hisir_edge.mes") / "verdict.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
RECIPE = Provenance(line="line-1", epoch="0" * 32, product="p", bundle_sha256="a" * 64)


def _judged(seed: int, level: float) -> tuple[Frame, Judgement]:
    rng = np.random.default_rng(seed)
    anomaly_map = cv2.GaussianBlur(rng.random((40, 50)).astype(np.float32), (0, 0), 1.5) * np.float32(level)
    found = regions_from_map(anomaly_map, Thresholds(1.0, 1.0, 3))
    result = Result.FAIL if found.total else Result.PASS
    times = StageTimes(register_s=0.01, tile_s=0.01, infer_s=0.2, merge_s=0.02, judge_s=0.01, total_s=0.25)
    reason = f"{found.total} region(s)" if found.total else ""
    score = float(anomaly_map.max())
    frame = Frame(
        image=Pixels(np.zeros((40, 50, 3), np.uint8)),
        source="cam",
        frame_id=seed,
        unit=f"board {seed} ä",
        grabbed_at_ns=1_700_000_000_000_000_000 + seed,
    )
    return frame, Judgement(
        result=result,
        reason=reason,
        score=score,
        regions=found.regions,
        regions_total=found.total,
        mask=found.mask,
        times=times,
        registration_residual_px=0.2,
    )


@given(st.integers(0, 10**6), st.floats(0.5, 3.0))
@settings(max_examples=60, deadline=None)
def test_any_judgement_is_a_valid_message(seed, level):
    frame, judgement = _judged(seed, level)
    message = message_from_judgement(RECIPE, seed + 1, frame, judgement)
    topic, text, png = message.frames()
    VALIDATOR.validate(json.loads(text))
    verdict = verdict_from_frames([topic, text, png])
    assert topic.decode() == f"verdict/line-1/{verdict.result}"
    assert (verdict.result, verdict.unit, verdict.seq) == (judgement.result.value, frame.unit, seed + 1)
    assert [(d.x, d.y, d.w, d.h) for d in verdict.defects] == [r.box_xywh for r in judgement.regions]
    assert [d.contour for d in verdict.defects] == [r.contour_xy for r in judgement.regions]
    assert judgement.mask is not None
    assert (png == b"") == (not judgement.mask.any())
    mask = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) > 0 if png else judgement.mask & False
    assert np.array_equal(mask, judgement.mask)  # type: ignore[arg-type]
    assert mask.any() == (verdict.result == "FAIL")


def test_a_fault_is_an_error_without_mask():
    fault = GrabFault(source="cam", frame_id=7, unit="cam-7", reason="lost", grabbed_at_ns=1)
    judgement = Judgement(result=Result.ERROR, reason="lost", score=None, regions=(), regions_total=0, mask=None)
    message = message_from_judgement(RECIPE, 3, fault, judgement)
    VALIDATOR.validate(message.body)
    assert message.mask_png == b""
    assert verdict_from_frames(message.frames()).frame_wh is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("InspectedUnits", 0, "OverallResult"), "Maybe"),
        (("InspectedUnits", 0, "OverallResult"), "Failed"),
        (("InspectedUnits", 0, "OverallResult"), "Error"),
        (("InspectedUnits",), []),
        (("seq",), 0),
        (("vision", "defects_total"), 1),
        (("vision", "score"), None),
        (("line",), "a/b"),
        (("schema",), "hisir-edge/verdict/3.0"),
        (("TransactionId",), None),
        (("TimeStamp",), "yesterday"),
    ],
)
def test_the_schema_refuses_what_is_no_verdict(path, value):
    frame, judgement = _judged(1, 0.5)
    body = json.loads(message_from_judgement(RECIPE, 1, frame, judgement).frames()[1])
    VALIDATOR.validate(body)
    at = body
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(body)


def test_gaps_in_the_numbers_are_counted_per_epoch():
    last: dict[tuple[str, str], int] = {}

    def take(epoch: str, seq: int) -> int:
        frames = sample_message(seq, epoch).frames()
        return numbered(verdict_from_frames(frames), last).missed

    assert [take("a", 1), take("a", 2), take("a", 5), take("b", 9), take("b", 10), take("a", 6)] == [0, 0, 2, 0, 0, 0]


@pytest.mark.parametrize(
    "frames",
    [
        [b"x"], [b"t", b"no json", b""], [b"t", b"[]", b""], [b"t", b"{}", b""], [], [b"t", b"[" * 100_000, b""],
        [b"t", b'{"schema": "hisir-edge/verdict/3.0"}', b""], [b"t", b'{"schema": 7}', b""], [b""] * 5,
        [b"t", b'{"schema": "hisir-edge/verdict/2.0", "line": "l", "epoch": "e", "seq": 1, "InspectedUnits": [[]]}'],
    ],
)  # fmt: skip
def test_what_is_no_verdict_is_an_input_error(frames):
    with pytest.raises(InputError):
        verdict_from_frames(frames)


@pytest.fixture
def publisher():
    with (
        Wire(SecurityTable()) as wire,
        Publisher(PublishTable(endpoint=_free_endpoint(), send_high_water_mark=8), wire) as publisher,
    ):
        yield publisher


@pytest.fixture
def reader(publisher):
    """Makes sockets that have subscribed; all closed at the end."""
    context, sockets = zmq.Context(), []

    def subscribed(*topics: bytes):
        one = context.socket(zmq.SUB)
        sockets.append(one)
        for option, value in ((zmq.RCVHWM, 8), (zmq.RCVTIMEO, 20_000), (zmq.LINGER, 0)):
            one.setsockopt(option, value)
        for topic in topics:
            one.setsockopt(zmq.SUBSCRIBE, topic)
        before = publisher.count_subscribers(0)
        one.connect(publisher.settings.endpoint)
        wanted = before + sum(not t.startswith(b"heartbeat") for t in topics)
        end = time.monotonic() + 20
        while publisher.count_subscribers(50) < wanted:
            assert time.monotonic() < end
        return one

    yield subscribed
    for one in sockets:
        one.close()
    context.term()


def test_each_kind_of_topic_has_its_frames_and_all_the_same_json(publisher, reader):
    sockets = {kind: reader(kind + b"/") for kind in (b"verdict", b"brief", b"rle", b"overlay")}
    message = sample_message(1, fails=True)
    publisher.send(message.frames(), message.overlay, message.rle)
    got = {kind: socket.recv_multipart() for kind, socket in sockets.items()}
    text = message.frames()[1]
    assert got[b"verdict"] == [b"verdict/l/FAIL", text, message.mask_png]
    assert got[b"brief"] == [b"brief/l/FAIL", text]
    assert got[b"rle"][:2] == [b"rle/l/FAIL", text]
    assert list(runs_of_rle(got[b"rle"][2])) == [(2, 1, 3), (3, 1, 3)]
    assert got[b"overlay"][:3] == [b"overlay/l/FAIL", text, message.mask_png]
    assert cv2.imdecode(np.frombuffer(got[b"overlay"][3], np.uint8), cv2.IMREAD_COLOR).shape == (6, 8, 3)
    for kind, frames in got.items():
        assert verdict_from_frames(frames).result == "FAIL", kind
    assert not any(socket.poll(100) for socket in sockets.values()), "each once"


def test_one_that_has_ended_opens_nothing_again():
    with Wire(SecurityTable()) as wire:
        with Publisher(PublishTable(endpoint=_free_endpoint()), wire) as publisher:
            publisher.send(sample_message(1).frames())
        for what in (publisher.idle, lambda: publisher.send(sample_message(2).frames())):
            with pytest.raises(PublishError, match="has ended"):
                what()


def test_what_nobody_asks_for_by_name_is_not_made(publisher, reader):
    everything = reader(b"")

    def never():
        raise AssertionError("drawn for nobody")

    publisher.send(sample_message(1).frames(), never, never)
    publisher.beat("l", "0" * 32, 1, state="Ready", control="")
    assert everything.recv_multipart()[0] == b"verdict/l/PASS"
    topic, text = everything.recv_multipart()
    assert topic == b"heartbeat/l"
    assert json.loads(text)["seq"] == 1
    overlay = reader(b"overlay/")
    with structlog.testing.capture_logs() as logs:
        publisher.send(sample_message(2).frames(), never, never)  # it cannot be drawn: the verdict goes out without
    assert overlay.recv_multipart()[3] == b""
    assert logs[0]["event"] == "picture not drawn"


def test_subscriptions_without_end_are_cut_off_and_the_honest_come_back(publisher, reader):
    honest, context = reader(b"verdict/"), zmq.Context()
    flood = context.socket(zmq.XSUB)
    flood.setsockopt(zmq.SNDHWM, 0)
    flood.connect(publisher.settings.endpoint)
    end, n = time.monotonic() + 30, 0
    while not publisher.wire.refusals.counts["too many subscriptions"]:
        assert time.monotonic() < end
        for _ in range(500):
            n += 1
            flood.send(b"\x01verdict/%d" % n)
        publisher.count_subscribers(20)
    flood.close(linger=0)
    context.term()
    assert n >= MOST_SUBSCRIPTIONS
    while not honest.poll(50):  # it connects again by itself
        assert time.monotonic() < end
        publisher.send(sample_message(1).frames())
    assert honest.recv_multipart()[0] == b"verdict/l/PASS"


def test_a_subscriber_that_does_not_read_holds_up_nobody(publisher, reader):
    """Its own queue fills and it misses verdicts; sending goes on and the subscriber beside it has every one."""
    messages, payload = 160, bytes(256 * 1024)  # 40 MiB: more than the buffers of a loopback connection hold
    reads, lazy = reader(b""), reader(b"")
    for number in range(messages):
        publisher.send([b"verdict/l/PASS", b"%d" % number, payload])
        assert reads.recv_multipart()[1] == b"%d" % number
    lazy.setsockopt(zmq.RCVTIMEO, 1000)
    kept = []
    with pytest.raises(zmq.Again):
        while True:
            kept.append(int(lazy.recv_multipart()[1]))
    assert kept == sorted(set(kept)) and 0 < len(kept) < messages


def _free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_an_empty_frame_has_no_runs():
    assert list(runs_of_rle(b"")) == []
