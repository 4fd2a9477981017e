"""Each accepted trigger has one verdict, in order: with a real pipeline and bundle, and a camera that does as told."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.inprocess import EPOCH, InProcessLine
from support.messages import facts

from hisir_edge.config.from_files import ReplaySource
from hisir_edge.config.kept import JournalTable
from hisir_edge.config.tables import BundleTable, LineTable, Settings
from hisir_edge.errors import InputError
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.verdict import error_judgement
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.products import products_from_settings
from hisir_edge.line.sequence import Sequence
from hisir_edge.line.sockets.message import Provenance
from hisir_edge.line.state import State, StateMachine
from hisir_edge.line.triggers import Identity
from hisir_edge.line.verdicts import encoded
from hisir_edge.records import Frame, GrabFault, Result


@pytest.fixture
def loaded(small_bundle):
    """Products by trigger mode and deadline; loaded once each."""
    made = {}

    def load(trigger: str, deadline_ms: int = 30_000, period_ms: int = 0):
        key = (trigger, deadline_ms, period_ms)
        if key not in made:
            settings = Settings(
                line=LineTable(deadline_ms=deadline_ms, expected_period_ms=period_ms),
                bundle=BundleTable(path=str(small_bundle)),
                source=ReplaySource(type="replay", folder="x", trigger=trigger),  # type: ignore[arg-type]
            )  # fmt: skip
            made[key] = products_from_settings(settings, EPOCH)
        return made[key]

    yield load
    for products in made.values():
        products.close()


@pytest.fixture
def frames(small_boards):
    missing = min((small_boards / "test" / "missing").iterdir())
    good = min((small_boards / "test" / "good").iterdir())
    rgb = {"good": read_rgb(good), "bad": read_rgb(missing)}
    ids = iter(range(1, 1000))
    return lambda kind: Frame(
        image=Pixels(rgb[kind]), source="cam", frame_id=next(ids), unit=f"cam-{kind}", grabbed_at_ns=time.time_ns()
    )


def test_every_frame_is_a_trigger_with_the_identity_that_was_announced(loaded, frames):
    with InProcessLine(loaded("free-run")) as line:
        assert line.state.machine.state is State.CONTINUOUS_EXECUTION
        assert line.intake.announce(Identity("board-7")) == 1
        assert line.intake.announce(Identity("board-8", "nothing of that name")) == 2
        for kind in ("good", "bad", "bad"):
            line.intake.take(frames(kind), lambda: True)
        found = line.wait(3)
        assert [v["unit"] for v in found] == ["board-7", "board-8", "cam-bad"]
        assert [v["result"] for v in found] == ["PASS", "ERROR", "FAIL"]
        assert [v["seq"] for v in found] == [1, 2, 3]
        assert "unknown product nothing of that name; loaded are p3" in found[1]["reason"]
        with pytest.raises(InputError, match="announce boards instead"):
            line.intake.trigger(Identity("x"))


def test_a_frame_goes_to_the_trigger_that_asked_for_it(loaded, frames):
    with InProcessLine(loaded("software")) as line:
        intake, state, status, pipeline = line.intake, line.state, line.status, line.pipeline
        assert state.machine.state is State.READY
        intake.take(frames("bad"), lambda: True)  # nobody asked
        first = intake.trigger(Identity("a"))
        assert state.machine.state is State.SINGLE_EXECUTION  # type: ignore[comparison-overlap]
        with pytest.raises(InputError, match="frame is still to come"):
            intake.trigger(Identity("b"))  # two on their way could be taken for one another
        intake.take(frames("good"), lambda: True)
        second = intake.trigger(Identity("b"))
        intake.take(frames("bad"), lambda: True)
        assert line.camera.asked == 2
        found = line.wait(2)
        assert [(v["seq"], v["unit"], v["result"]) for v in found] == [
            (first.seq, "a", "PASS"), (second.seq, "b", "FAIL")
        ]  # fmt: skip
        third = intake.trigger(Identity())
        assert third.seq == 3, "a refused trigger takes no number"
        intake.take(
            GrabFault(
                source="cam",
                frame_id=9,
                unit="cam-9",
                reason="lost between camera and PC",
                grabbed_at_ns=time.time_ns(),
            ),
            lambda: True,
        )
        assert line.wait(3)[2]["reason"] == "lost between camera and PC"
        assert status()["unsolicited_frames"] == 1
        pipeline.flush()
        state.show()
        assert state.machine.state is State.READY


def test_no_frame_by_the_deadline_is_an_error_and_its_frame_is_for_nobody(loaded, frames):
    with InProcessLine(loaded("software", 300)) as line:
        intake, camera, status, pipeline = line.intake, line.camera, line.status, line.pipeline
        intake.trigger(Identity("late"))
        found = line.wait(1)
        assert (found[0]["result"], found[0]["unit"]) == ("ERROR", "late")
        assert "no frame within 300 ms" in found[0]["reason"]
        with pytest.raises(InputError, match="being armed"):
            intake.trigger(Identity("next"))
        intake.take(frames("bad"), lambda: True)  # it comes after all
        intake.arm(camera)  # type: ignore[arg-type]
        intake.take(frames("bad"), lambda: True)  # or while the camera is being armed
        intake.arm(camera)  # type: ignore[arg-type]
        assert camera.rearmed == 1
        with pytest.raises(InputError, match="being armed"):
            intake.trigger(Identity("next"))
        camera.armed = True
        intake.arm(camera)  # type: ignore[arg-type]
        intake.trigger(Identity("next"))
        intake.take(frames("good"), lambda: True)
        assert [(v["unit"], v["result"]) for v in line.wait(2)] == [("late", "ERROR"), ("next", "PASS")]
        assert status()["unsolicited_frames"] == 2
        assert pipeline.late_slots == 0


def test_after_a_fault_the_camera_is_armed_before_the_next_board(loaded, frames):
    with InProcessLine(loaded("software")) as line:
        intake, camera = line.intake, line.camera
        intake.trigger(Identity("a"))
        intake.take(
            GrabFault(
                source="cam", frame_id=1, unit="cam-1", reason="camera lost", grabbed_at_ns=time.time_ns(), boards=None
            ),
            lambda: True,
        )
        intake.take(frames("bad"), lambda: True)
        with pytest.raises(InputError, match="being armed"):
            intake.trigger(Identity("b"))
        intake.arm(camera)  # type: ignore[arg-type]
        camera.armed = True
        intake.arm(camera)  # type: ignore[arg-type]
        intake.trigger(Identity("b"))
        intake.take(frames("good"), lambda: True)
        assert [(v["unit"], v["result"]) for v in line.wait(2)] == [("a", "ERROR"), ("b", "PASS")]


def test_identities_do_not_slip_to_other_boards(loaded, frames):
    with InProcessLine(loaded("free-run")) as line:
        intake = line.intake

        def fault(boards):
            intake.take(
                GrabFault(
                    source="cam",
                    frame_id=9,
                    unit="cam-9",
                    reason="something",
                    grabbed_at_ns=time.time_ns(),
                    boards=boards,
                ),
                lambda: True,
            )

        for unit in ("a", "b", "c"):
            intake.announce(Identity(unit))
        fault(0)  # a repeated frame is no board
        fault(1)  # a's frame was lost
        intake.take(frames("good"), lambda: True)
        fault(None)  # the camera was gone, and nobody knows how many went by: c may be one of them
        intake.take(frames("good"), lambda: True)
        assert [v["unit"] for v in line.wait(5)] == ["cam-9", "a", "b", "cam-9", "cam-good"]
        intake.announce(Identity("d"))
        intake.pause()
        intake.resume()
        intake.take(frames("good"), lambda: True)
        assert line.wait(6)[5]["unit"] == "cam-good"


def test_a_code_on_the_board_names_it_and_another_than_was_announced_is_an_error(loaded, frames):
    class Reader:
        def __init__(self):
            self.says = ["LABEL-1", "LABEL-2", "LABEL-3", ""]

        def read(self, rgb):
            assert rgb.shape[2] == 3
            return self.says.pop(0)

    with InProcessLine(loaded("free-run"), Reader()) as line:
        line.intake.take(frames("good"), lambda: True)
        line.wait(1)
        for announced in ("LABEL-2", "LABEL-9", ""):
            if announced:
                line.intake.announce(Identity(announced))
            line.intake.take(frames("good"), lambda: True)
            line.wait(len(line.out) + 1)
        found = [(v["unit"], v["result"]) for v in line.out]
        assert found == [("LABEL-1", "PASS"), ("LABEL-2", "PASS"), ("LABEL-9", "ERROR"), ("cam-good", "PASS")]
        assert "got LABEL-3 on its label" in line.out[2]["reason"]


@pytest.mark.parametrize(
    "announced",
    ["(01)09506000134352(10)LOT7(21)ABC", "]d2010950600013435210LOT7\x1d21ABC", "010950600013435210LOT7␝21ABC"],
)
def test_an_announced_label_is_the_one_on_the_board_however_it_is_spelled(loaded, frames, announced):
    label = "010950600013435210LOT7\x1d21ABC"
    with InProcessLine(loaded("free-run"), SimpleNamespace(read=lambda rgb: label)) as line:
        line.intake.announce(Identity(announced))
        line.intake.take(frames("good"), lambda: True)
        (verdict,) = line.wait(1)
        assert (verdict["unit"], verdict["result"]) == (label, "PASS"), verdict["reason"]
        line.intake.announce(Identity("(01)09506000134352(10)LOT7(21)ABD"))
        line.intake.take(frames("good"), lambda: True)
        assert "which was announced; got 010950600013435210LOT7\\u001d21ABC" in line.wait(2)[1]["reason"]


def test_whatever_goes_wrong_on_the_way_is_an_error_under_its_number(loaded, frames, monkeypatch):
    import hisir_edge.line.verdicts as verdicts_module

    real, times = verdicts_module.encoded, []

    def fails_once(*arguments):
        times.append(1)
        if len(times) == 1:
            raise MemoryError("no room")
        return real(*arguments)

    with InProcessLine(loaded("free-run")) as line:
        monkeypatch.setattr(verdicts_module, "encoded", fails_once)
        line.intake.take(frames("good"), lambda: True)
        line.wait(1)
        line.intake.take(frames("good"), lambda: True)
        assert [(v["seq"], v["result"]) for v in line.wait(2)] == [(1, "ERROR"), (2, "PASS")]
        assert "MemoryError: no room" in line.out[0]["reason"]
        assert not line.pipeline.failed


def test_triggers_are_accepted_between_serve_and_close_alone(loaded):
    with InProcessLine(loaded("software")) as line:
        line.state.close()
        with pytest.raises(InputError, match="not there yet, or ends"):
            line.intake.trigger(Identity("x"))


def test_a_camera_that_cannot_be_asked_is_an_error_verdict(loaded):
    with InProcessLine(loaded("software")) as line:
        line.camera.broken = True
        line.intake.trigger(Identity("x"))
        assert "it is lost" in line.wait(1)[0]["reason"]
        line.camera.up = False
        with pytest.raises(InputError, match="a lost camera"):
            line.intake.trigger(Identity("y"))
        line.state.show()
        assert line.state.machine.state is State.ERROR


def test_paused_and_draining_lines_take_nothing(loaded, frames):
    with InProcessLine(loaded("free-run")) as line:
        intake, state, status = line.intake, line.state, line.status
        intake.pause()
        state.show()
        assert state.machine.state is State.READY
        intake.take(frames("good"), lambda: True)
        with pytest.raises(InputError, match="resume it"):
            intake.announce(Identity("x"))
        intake.resume()
        intake.take(frames("good"), lambda: True)
        assert [v["seq"] for v in line.wait(1)] == [1]
        assert status()["frames_while_paused"] == 1
        state.draining.set()
        with pytest.raises(InputError, match="drains"):
            intake.announce(Identity("x"))


def test_a_product_is_selected_among_those_that_are_loaded(loaded, frames):
    with InProcessLine(loaded("free-run")) as line:
        line.intake.select("p3")
        with pytest.raises(InputError, match="one of the products p3; got p4"):
            line.intake.select("p4")
        assert line.status()["product"] == "p3"


def test_identities_do_not_pile_up(loaded):
    with InProcessLine(loaded("free-run")) as line:
        for number in range(256):
            line.intake.announce(Identity(str(number)))
        with pytest.raises(InputError, match="all are forgotten"):
            line.intake.announce(Identity("one too many"))
        assert line.intake.announce(Identity("anew")) == 1


def test_states_that_the_standard_does_not_know_are_refused():
    seen = []
    machine = StateMachine(seen.append)
    machine.to(State.INITIALIZED)
    machine.to(State.INITIALIZED)
    with pytest.raises(RuntimeError, match="Initialized cannot become SingleExecution"):
        machine.to(State.SINGLE_EXECUTION)
    machine.to(State.HALTED)
    with pytest.raises(RuntimeError, match="Halted cannot become Ready"):
        machine.to(State.READY)
    assert seen == [State.INITIALIZED, State.HALTED]


def test_a_board_that_does_not_come_in_its_period_is_an_error(loaded, frames):
    with InProcessLine(loaded("free-run", period_ms=50)) as line:

        def supervise_until(count):
            end = time.monotonic() + 20
            while len(line.out) < count:
                line.arrivals.check_period(lambda: True)
                assert time.monotonic() < end

        supervise_until(2)
        reasons = [v["reason"] for v in line.wait(2)]
        assert reasons == ["no board within the expected 50 ms"] * 2
        assert [v["seq"] for v in line.out] == [1, 2]
        assert {v["result"] for v in line.out} == {"ERROR"}
        line.pipeline.flush()
        line.intake.pause()
        start, before = time.monotonic(), len(line.out)
        while time.monotonic() < start + 0.2:
            line.arrivals.check_period(lambda: True)
        line.pipeline.flush()
        assert len(line.out) == before, "a paused line expects none"
        line.intake.resume()
        line.intake.take(frames("good"), lambda: True)
        assert line.wait(before + 1)[-1]["result"] == "PASS"
        supervise_until(before + 2)


def test_a_clock_that_is_set_back_changes_no_verdict(loaded, frames, monkeypatch):
    """Deadlines and periods run by the monotonic clock; the one on the wall is for people."""
    with InProcessLine(loaded("free-run", deadline_ms=5000)) as line:
        now = time.time_ns()
        for n, kind in enumerate(("good", "bad", "good")):
            monkeypatch.setattr(time, "time_ns", lambda n=n: now - n * 3600 * 10**9)
            line.intake.take(frames(kind), lambda: True)
        found = line.wait(3)
        assert [(v["seq"], v["result"]) for v in found] == [(1, "PASS"), (2, "FAIL"), (3, "PASS")]
        assert found[0]["grabbed_at"] > found[2]["grabbed_at"]


def test_a_board_that_is_not_there_takes_no_name_of_the_next(loaded, frames):
    with InProcessLine(loaded("free-run", period_ms=50)) as line:
        line.intake.announce(Identity("B1"))
        end = time.monotonic() + 20
        while not line.out and time.monotonic() < end:
            line.arrivals.check_period(lambda: True)
        line.intake.take(frames("good"), lambda: True)
        found = line.wait(2)
        assert found[0]["result"] == "ERROR"
        assert "B1" not in {v["unit"] for v in found}, "whose frame this is nobody knows"


def test_a_board_that_arrived_and_was_not_seen_is_an_error_and_the_next_may_come(loaded, frames):
    with InProcessLine(loaded("free-run", deadline_ms=300)) as line:
        assert line.arrivals.board_may_come
        line.arrivals.arrived(Identity("B1"))
        assert not line.arrivals.board_may_come
        end = time.monotonic() + 20
        while not line.out and time.monotonic() < end:
            line.arrivals.check_arrival()
            line.arrivals.answer()
        body = line.wait(1)[0]
        assert (body["unit"], body["result"]) == ("B1", "ERROR")
        assert "of the board's arrival" in body["reason"]
        line.pipeline.flush()
        assert line.arrivals.board_may_come
        line.arrivals.arrived(Identity("B2"))
        line.intake.take(frames("good"), lambda: True)
        assert line.wait(2)[1]["unit"] == "B2"


def test_boards_that_are_not_inspected_wait_for_a_slot_and_hold_nothing_up(loaded, frames):
    with InProcessLine(loaded("software")) as line:
        first = line.intake.trigger(Identity("a"))
        for n in range(4):
            line.arrivals.report(Identity(f"lost-{n}"), "it fell off")
        start = time.monotonic()
        line.arrivals.answer()
        assert time.monotonic() - start < 5
        line.intake.take(frames("good"), lambda: True)
        line.arrivals.answer(wait=True)
        found = line.wait(5)
        assert [v["seq"] for v in found] == list(range(first.seq, first.seq + 5))
        assert [v["unit"] for v in found] == ["a", *(f"lost-{n}" for n in range(4))]


def test_a_name_that_is_no_text_is_answered_all_the_same(loaded, frames):
    with InProcessLine(loaded("free-run")) as line:
        line.intake.take(replace(frames("good"), unit="b\udcff"), lambda: True)
        assert line.wait(1)[0]["unit"] == "b?"


def test_a_frame_that_cannot_be_encoded_is_an_error_and_the_line_goes_on(loaded, frames):
    with InProcessLine(loaded("free-run")) as line:
        line.intake.take(replace(frames("good"), frame_id=np.int64(7)), lambda: True)  # JSON takes no such number
        line.intake.take(frames("good"), lambda: True)
        found = line.wait(2)
        assert [(v["seq"], v["result"]) for v in found] == [(1, "ERROR"), (2, "PASS")]
        assert "verdict could not be encoded: TypeError" in found[0]["reason"]
        assert not line.pipeline.failed


def test_whatever_a_camera_raises_when_it_is_asked_is_that_triggers_error(loaded):
    with InProcessLine(loaded("software")) as line:
        line.camera.trigger = lambda: 1 / 0  # type: ignore[assignment, method-assign]
        accepted = line.intake.trigger(Identity("x"))
        (verdict,) = line.wait(1)
        assert (verdict["seq"], verdict["unit"], verdict["result"]) == (accepted.seq, "x", "ERROR")
        assert "camera not asked for a frame: ZeroDivisionError" in verdict["reason"]


def test_a_deadline_lets_the_slot_go_whoever_held_the_trigger(loaded, frames):
    with InProcessLine(loaded("software", 300)) as line:
        line.intake.trigger(Identity("a"))
        line.line.waiting.expire(1)  # as if the camera had refused at this very moment
        assert "not inspected within 300 ms" in line.wait(1)[0]["reason"]
        end = time.monotonic() + 20
        while line.pipeline.late_slots:
            assert time.monotonic() < end, "the slot waits for a frame that never comes"


def test_boards_that_were_not_numbered_when_the_daemon_failed_are_answered_by_the_next_start(loaded, tmp_path):
    with Journal(tmp_path, JournalTable()) as journal, InProcessLine(loaded("free-run"), journal=journal) as line:
        line.arrivals.report(Identity("B1"), "it fell off")
        line.arrivals.report(Identity("B2"), "it fell off")
        line.arrivals.leave_to_next_start()
        assert not line.arrivals.unanswered
    with Journal(tmp_path, JournalTable()) as journal:
        assert [(left.seq, left.unit) for left in journal.left] == [(1, "B1"), (2, "B2")]


def test_a_trigger_that_is_being_accepted_when_the_line_closes_has_its_verdict(loaded, monkeypatch):
    begun = threading.Event()
    with InProcessLine(loaded("software", 300)) as line:
        record = Sequence.record_answered

        def slow(sequence, trigger):  # a disk that takes its time
            closer.start()
            begun.set()
            closer.join(0.3)
            record(sequence, trigger)

        monkeypatch.setattr(Sequence, "record_answered", slow)
        closer = threading.Thread(target=line.intake.close)
        answered = threading.Thread(target=line.intake.trigger, args=(Identity("x"),))
        answered.start()
        assert begun.wait(20)
        closer.join()
        line.pipeline.flush()  # as the end of the daemon does
        assert [(v["unit"], v["result"]) for v in line.wait(1)] == [("x", "ERROR")]
        answered.join()
        with pytest.raises(InputError, match="not there yet, or ends"):
            line.intake.trigger(Identity("y"))


def test_a_judgement_that_cannot_be_encoded_keeps_its_frame(frames):
    frame = replace(frames("good"), frame_id=77)
    provenance = Provenance(line="l", epoch=EPOCH, product="p", bundle_sha256="a" * 64)
    judgement = replace(error_judgement("x"), result=Result.PASS, score=object())  # type: ignore[arg-type]
    said = facts(encoded(provenance, 3, frame, judgement).body)
    assert (said["seq"], said["result"], said["frame_id"]) == (3, "ERROR", 77)
    assert said["frame_wh"] == frame.image.hw[::-1]
