"""Each accepted trigger has one verdict, in order: with a real pipeline and bundle, and a camera that does as told."""

from __future__ import annotations

import threading
import time

import pytest

from hisir_edge.config import BundleTable, LineTable, ReplaySource, Settings
from hisir_edge.errors import CameraError, InputError
from hisir_edge.images import read_rgb
from hisir_edge.line.core import Core
from hisir_edge.line.products import products_from_settings
from hisir_edge.line.states import State, StateMachine
from hisir_edge.line.triggers import Identity
from hisir_edge.records import Frame, GrabFault

EPOCH = "e" * 32


class Camera:
    """Says how often it was asked; the test gives the frames."""

    name, up = "cam", True

    def __init__(self):
        self.asked, self.broken = 0, False

    def trigger(self):
        self.asked += 1
        if self.broken:
            raise CameraError(expected="the camera to take a trigger", received="it is lost", fix="wait")


@pytest.fixture
def loaded(small_bundle):
    """Products by trigger mode and deadline; loaded once each."""
    made = {}

    def load(trigger: str, deadline_ms: int = 30_000):
        key = (trigger, deadline_ms)
        if key not in made:
            settings = Settings(
                line=LineTable(deadline_ms=deadline_ms), bundle=BundleTable(path=str(small_bundle)),
                source=ReplaySource(type="replay", folder="x", trigger=trigger),
            )  # fmt: skip
            made[key] = products_from_settings(settings, EPOCH)
        return made[key]

    yield load
    for products in made.values():
        products.close()


@pytest.fixture
def frames(small_boards):
    missing = sorted((small_boards / "test" / "missing").iterdir())[0]
    good = sorted((small_boards / "test" / "good").iterdir())[0]
    rgb = {"good": read_rgb(good), "bad": read_rgb(missing)}
    ids = iter(range(1, 1000))
    return lambda kind: Frame(rgb[kind], "cam", next(ids), f"cam-{kind}", time.time_ns())


class Line:
    def __init__(self, products):
        self.out, self.more = [], threading.Condition()
        machine = StateMachine()
        machine.to(State.INITIALIZED)
        self.core = Core(products, EPOCH, machine, self.hand_over)
        self.core.source = self.camera = Camera()

    def hand_over(self, verdict):
        with self.more:
            self.out.append(verdict.message.body)
            self.more.notify()

    def __enter__(self):
        self.core.pipeline.__enter__()
        self.core.show_state()
        return self

    def __exit__(self, *error):
        self.core.pipeline.__exit__(None, None, None)

    def wait(self, count):
        with self.more:
            assert self.more.wait_for(lambda: len(self.out) >= count, 30)
        return self.out


def test_every_frame_is_a_trigger_with_the_identity_that_was_announced(loaded, frames):
    with Line(loaded("free-run")) as line:
        assert line.core.machine.state is State.CONTINUOUS_EXECUTION
        assert line.core.announce(Identity("board-7")) == 1
        assert line.core.announce(Identity("board-8", "nothing of that name")) == 2
        for kind in ("good", "bad", "bad"):
            line.core.take(frames(kind), lambda: True)
        found = line.wait(3)
        assert [v["unit"] for v in found] == ["board-7", "board-8", "cam-bad"]
        assert [v["result"] for v in found] == ["PASS", "ERROR", "FAIL"]
        assert [v["seq"] for v in found] == [1, 2, 3]
        assert "unknown product nothing of that name; loaded are p3" in found[1]["reason"]
        with pytest.raises(InputError, match="announce boards instead"):
            line.core.trigger(Identity("x"))


def test_a_frame_goes_to_the_trigger_that_asked_for_it(loaded, frames):
    with Line(loaded("software")) as line:
        core = line.core
        assert core.machine.state is State.READY
        core.take(frames("bad"), lambda: True)  # nobody asked
        first, second = core.trigger(Identity("a")), core.trigger(Identity("b"))
        assert core.machine.state is State.SINGLE_EXECUTION
        with pytest.raises(InputError, match="2 boards in flight"):
            core.trigger(Identity("c"))
        assert line.camera.asked == 2
        core.take(frames("good"), lambda: True)
        core.take(frames("bad"), lambda: True)
        found = line.wait(2)
        assert [(v["seq"], v["unit"], v["result"]) for v in found] == [
            (first.seq, "a", "PASS"), (second.seq, "b", "FAIL")
        ]  # fmt: skip
        third = core.trigger(Identity())
        assert third.seq == 3, "a refused trigger takes no number"
        core.take(GrabFault("cam", 9, "cam-9", "lost between camera and PC", time.time_ns()), lambda: True)
        assert line.wait(3)[2]["reason"] == "lost between camera and PC"
        assert core.status()["unsolicited_frames"] == 1
        core.pipeline.flush()
        core.show_state()
        assert core.machine.state is State.READY


def test_no_frame_by_the_deadline_is_an_error_and_the_camera_is_armed_anew(loaded, frames):
    with Line(loaded("software", 300)) as line:
        line.core.trigger(Identity("late"))
        found = line.wait(1)
        assert (found[0]["result"], found[0]["unit"]) == ("ERROR", "late")
        assert "no frame within 300 ms" in found[0]["reason"]
        assert line.core.rearm_wanted.is_set()
        line.core.take(frames("bad"), lambda: True)  # it comes after all: for nobody
        line.core.pipeline.flush()
        assert len(line.out) == 1
        assert line.core.pipeline.stuck == 0


def test_a_camera_that_cannot_be_asked_is_an_error_verdict(loaded):
    with Line(loaded("software")) as line:
        line.camera.broken = True
        line.core.trigger(Identity("x"))
        assert "it is lost" in line.wait(1)[0]["reason"]
        line.camera.up = False
        with pytest.raises(InputError, match="a lost camera"):
            line.core.trigger(Identity("y"))
        line.core.show_state()
        assert line.core.machine.state is State.ERROR


def test_paused_and_draining_lines_take_nothing(loaded, frames):
    with Line(loaded("free-run")) as line:
        core = line.core
        core.paused.set()
        core.show_state()
        assert core.machine.state is State.READY
        core.take(frames("good"), lambda: True)
        with pytest.raises(InputError, match="resume it"):
            core.announce(Identity("x"))
        core.paused.clear()
        core.take(frames("good"), lambda: True)
        assert [v["seq"] for v in line.wait(1)] == [1]
        assert core.status()["frames_while_paused"] == 1
        core.draining.set()
        with pytest.raises(InputError, match="drains"):
            core.announce(Identity("x"))


def test_a_product_is_selected_among_those_that_are_loaded(loaded, frames):
    with Line(loaded("free-run")) as line:
        line.core.select("p3")
        with pytest.raises(InputError, match="one of the products p3; got p4"):
            line.core.select("p4")
        assert line.core.status()["product"] == "p3"


def test_identities_do_not_pile_up(loaded):
    with Line(loaded("free-run")) as line:
        for number in range(256):
            line.core.announce(Identity(str(number)))
        with pytest.raises(InputError, match="all are forgotten"):
            line.core.announce(Identity("one too many"))
        assert line.core.announce(Identity("anew")) == 1


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
