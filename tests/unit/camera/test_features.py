"""Settings that take effect: cameras that need an order, an enable, or an older name, and what they are told."""

from __future__ import annotations

from typing import Any

import pytest

from hisir_edge.camera.driver.features import set_up
from hisir_edge.camera.driver.identity import Seen, chosen, in_use
from hisir_edge.camera.driver.nodes import SetupError, check_limits, limits_of, nearest

RW, RO = 4, 3


class Node:
    """A feature of a made-up camera; ``check`` may refuse a value as a camera does."""

    min: Any
    max: Any
    inc: Any
    camera: Camera

    def __init__(self, value: Any, **limits: Any) -> None:
        self._value, self.access, self.name = value, RW, ""
        for name in ("min", "max", "inc", "symbolics"):
            if name in limits:
                setattr(self, name, limits[name])

    @property
    def value(self) -> Any:
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        if self.access != RW:
            raise PermissionError(f"{self.name} is not writable")
        if hasattr(self, "symbolics") and value not in self.symbolics:
            raise ValueError(f"{value} is no entry of {self.name}")
        if hasattr(self, "max") and not self.min <= value <= self.max:
            raise ValueError(f"{value} is out of the limits of {self.name}")
        if getattr(self, "inc", None) and (value - self.min) % self.inc:
            raise ValueError(f"{value} is off the steps of {self.name}")
        self.camera.takes(self, value)

    def get_access_mode(self) -> int:
        return self.access


class Camera:
    """A made-up camera; ``takes`` is called for each value that was allowed."""

    def __init__(self, **nodes: Node) -> None:
        self.__dict__.update(nodes)
        self.order: list[tuple[str, Any]] = []
        for name, node in nodes.items():
            node.name, node.camera = name, self

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def takes(self, node: Node, value: Any) -> None:
        self.order.append((node.name, value))
        node._value = value


def plain(**more: Node) -> dict[str, Node]:
    return {"PixelFormat": Node("Mono8", symbolics=("Mono8", "Mono12p", "BayerRG8", "Mono1p")), **more}


FREE = {"trigger": "free-run"}


class NeedsEnable(Camera):
    """A rate has no effect until it is enabled, as on many GigE cameras."""

    def takes(self, node: Node, value: Any) -> None:
        if node.name == "AcquisitionFrameRate" and not self.AcquisitionFrameRateEnable.value:
            self.order.append((node.name, value))
            return
        super().takes(node, value)


def test_what_has_to_be_on_is_switched_on_before_the_value():
    rate = Node(30.0, min=1.0, max=90.0)
    camera = NeedsEnable(**plain(AcquisitionFrameRate=rate, AcquisitionFrameRateEnable=Node(False)))
    set_up(camera, {**FREE, "frame_rate_hz": 12.5})
    assert camera.AcquisitionFrameRate.value == 12.5
    assert camera.order == [("AcquisitionFrameRateEnable", True), ("AcquisitionFrameRate", 12.5)]
    locked = NeedsEnable(**plain(AcquisitionFrameRate=rate, AcquisitionFrameRateEnable=Node(False)))
    locked.AcquisitionFrameRateEnable.access = RO
    with pytest.raises(SetupError) as caught:
        set_up(locked, {**FREE, "frame_rate_hz": 60.0})
    assert "12.5 after setting it" in caught.value.args[1]
    assert "source.frame_rate_hz (AcquisitionFrameRate)" in caught.value.args[2]


class TriggersLeftOn(Camera):
    """Each selector has a mode of its own."""

    def __init__(self, **nodes: Node) -> None:
        super().__init__(**nodes)
        self.modes = {"AcquisitionStart": "On", "FrameStart": "Off", "LineStart": "On", "FrameBurst": "Off"}
        self.missing = "FrameBurst"
        self.held = ""

    def takes(self, node: Node, value: Any) -> None:
        if node.name == "TriggerSelector":
            if value == self.missing:
                raise ValueError("not available on this model")
            self.TriggerMode._value = self.modes[value]
        if node.name == "TriggerMode" and self.TriggerSelector.value != self.held:
            self.modes[self.TriggerSelector.value] = value
            super().takes(node, value)
        elif node.name != "TriggerMode":
            super().takes(node, value)


def with_triggers() -> TriggersLeftOn:
    selectors = ("AcquisitionStart", "FrameStart", "LineStart", "FrameBurst")
    return TriggersLeftOn(
        **plain(
            TriggerSelector=Node("AcquisitionStart", symbolics=selectors),
            TriggerMode=Node("On", symbolics=("On", "Off")),
            TriggerSource=Node("Line0", symbolics=("Line0", "Line1", "Software")),
            TriggerActivation=Node("RisingEdge", symbolics=("RisingEdge", "FallingEdge")),
            TriggerDelayAbs=Node(0.0, min=0.0, max=1e6),
        )
    )


def test_every_other_trigger_is_off_before_ours_is_on():
    camera = with_triggers()
    hardware = {"trigger": "hardware", "trigger_selector": "FrameStart", "trigger_source": "Line1",
                "trigger_activation": "FallingEdge", "trigger_delay_us": 40.0}  # fmt: skip
    set_up(camera, hardware)
    assert camera.modes == {"AcquisitionStart": "Off", "FrameStart": "On", "LineStart": "Off", "FrameBurst": "Off"}
    assert camera.TriggerDelayAbs.value == 40.0
    set_up(camera, FREE)
    assert set(camera.modes.values()) == {"Off"}
    stuck = with_triggers()
    stuck.held = "LineStart"
    with pytest.raises(SetupError, match=r"TriggerMode\[TriggerSelector=LineStart\] = Off"):
        set_up(stuck, hardware)


def test_older_names_are_found_and_raw_steps_are_not_taken_for_units():
    camera = Camera(
        **plain(
            ExposureTimeAbs=Node(1000.0, min=10.0, max=1e6), ExposureAuto=Node("Once", symbolics=("Off", "Once")),
            AcquisitionFrameRateAbs=Node(5.0, min=1.0, max=90.0), GainRaw=Node(0, min=0, max=255),
            GainAuto=Node("Once", symbolics=("Off", "Once")), BalanceWhiteAuto=Node("Once", symbolics=("Off", "Once")),
        )
    )  # fmt: skip
    set_up(camera, {**FREE, "exposure_us": 4000, "frame_rate_hz": 20.0, "gain_raw": 12})
    assert (camera.ExposureTimeAbs.value, camera.AcquisitionFrameRateAbs.value, camera.GainRaw.value) == (4000, 20, 12)
    assert (camera.ExposureAuto.value, camera.GainAuto.value, camera.BalanceWhiteAuto.value) == ("Off", "Off", "Off")
    with pytest.raises(SetupError) as caught:
        set_up(camera, {**FREE, "gain_db": 6.0})
    assert "GainRaw, its maker's own steps" in caught.value.args[1]
    assert caught.value.args[2] == "set source.gain_raw instead of source.gain_db"
    assert camera.GainRaw.value == 12
    whole = Camera(**plain(ExposureTimeAbs=Node(1000, min=10, max=10**6)))
    set_up(whole, {**FREE, "exposure_us": 250.0})
    assert whole.ExposureTimeAbs.value == 250


class Sensor(Camera):
    """2000 x 1500 px; offset and size together must fit, binning halves both, mirroring moves the mosaic."""

    def takes(self, node: Node, value: Any) -> None:
        pairs = {"Width": ("OffsetX", 2000), "Height": ("OffsetY", 1500), "OffsetX": ("Width", 2000),
                 "OffsetY": ("Height", 1500)}  # fmt: skip
        if node.name in pairs:
            other, side = pairs[node.name]
            if value + getattr(self, other).value > side // self.BinningHorizontal.value:
                raise ValueError(f"{node.name} does not fit")
        if node.name == "ReverseX" and self.PixelFormat.value == "BayerRG8" and value:
            self.PixelFormat._value = "BayerGR8"
        super().takes(node, value)


def sensor() -> Sensor:
    return Sensor(
        PixelFormat=Node("BayerRG8", symbolics=("BayerRG8", "BayerGR8")),
        Width=Node(400, min=16, max=2000, inc=16), Height=Node(300, min=2, max=1500, inc=2),
        OffsetX=Node(1600, min=0, max=1984), OffsetY=Node(1200, min=0, max=1498),
        BinningHorizontal=Node(1, min=1, max=4), BinningVertical=Node(1, min=1, max=4), ReverseX=Node(False),
    )  # fmt: skip


def test_a_region_is_set_whatever_was_left_from_before():
    camera = sensor()
    set_up(camera, {**FREE, "width": 1600, "height": 1000, "offset_x": 200, "offset_y": 100})
    assert [getattr(camera, name).value for name in ("Width", "Height", "OffsetX", "OffsetY")] == [1600, 1000, 200, 100]
    binned = sensor()
    binned.OffsetX._value = binned.OffsetY._value = 0
    set_up(binned, {**FREE, "binning": 2, "width": 992, "height": 700})
    assert [getattr(binned, name).value for name in ("BinningHorizontal", "BinningVertical", "Width")] == [2, 2, 992]
    with pytest.raises(SetupError) as caught:
        set_up(sensor(), {**FREE, "width": 1001})
    assert "set source.width (Width) to 1008 (it takes 16 to 2000 in steps of 16)" in caught.value.args[2]


def test_a_value_that_another_one_changed_is_noticed():
    camera = sensor()
    camera.PixelFormat._value = "BayerGR8"
    set_up(camera, {**FREE, "reverse_x": True, "pixel_format": "BayerGR8"})
    assert camera.order[-1] == ("PixelFormat", "BayerGR8")

    class Tied(Camera):
        def takes(self, node: Node, value: Any) -> None:
            super().takes(node, value)
            if node.name == "Gamma":
                self.ExposureTime._value = 77.0

    tied = Tied(
        **plain(ExposureTime=Node(1.0, min=1.0, max=9e9), Gamma=Node(2.0, min=0.1, max=4.0), GammaEnable=Node(False))
    )
    with pytest.raises(SetupError) as caught:
        set_up(tied, {**FREE, "exposure_us": 500.0, "gamma": 1.0})
    assert caught.value.args[0] == "ExposureTime to stay 500.0"
    assert "77.0 once everything else was set" in caught.value.args[1]
    assert tied.GammaEnable.value


def test_levels_have_to_lie_in_the_format_that_the_camera_has() -> None:
    formats = ("Mono8", "Mono10", "Mono12p")
    for now, levels, fits in (
        ("Mono8", [64, 3000], False), ("Mono10", [64, 3000], False), ("Mono10", [64, 1023], True),
        ("Mono12p", [64, 3000], True), ("Mono8", None, True),
    ):  # fmt: skip
        camera = Camera(PixelFormat=Node(now, symbolics=formats))
        if fits:
            set_up(camera, {**FREE, "levels": levels})
            continue
        with pytest.raises(SetupError, match=f"{now}, of levels up to"):
            set_up(camera, {**FREE, "levels": levels})


def test_what_cannot_be_set_and_is_right_already_is_taken() -> None:
    selector, mode = Node("FrameStart", symbolics=("FrameStart",)), Node("On", symbolics=("On", "Off"))
    selector.access = RO
    width = Node(1280, min=1280, max=1280)
    width.access = RO
    camera = Camera(
        **plain(TriggerSelector=selector, TriggerMode=mode, TriggerSource=Node("Software", symbolics=("Software",)),
                Width=width)
    )  # fmt: skip
    set_up(camera, {**FREE, "width": 1280})
    assert mode.value == "Off", "of the one trigger that there is"
    set_up(camera, {"trigger": "software", "trigger_selector": "FrameStart", "trigger_source": ""})
    assert mode.value == "On"
    with pytest.raises(SetupError, match="it is locked"):
        set_up(camera, {**FREE, "width": 640})


def test_a_whole_number_that_the_camera_rounds_is_taken_as_others_are() -> None:
    class InSteps(Camera):
        def takes(self, node: Node, value: Any) -> None:
            super().takes(node, value // 35 * 35 if node.name == "ExposureTimeAbs" else value)

    camera = InSteps(**plain(ExposureTimeAbs=Node(70, min=35, max=10**6)))
    set_up(camera, {**FREE, "exposure_us": 4000.0})
    assert camera.ExposureTimeAbs.value == 3990


def test_what_is_not_there_locked_or_unknown_is_said_by_name():
    camera = Camera(**plain(Gamma=Node(1.0, min=0.1, max=4.0)))
    for asked, words in (
        ({"exposure_us": 5.0}, "no such feature; take source.exposure_us (ExposureTime) out"),
        ({"pixel_format": "BayerRG12p"}, "one of Mono8, Mono12p, BayerRG8, Mono1p"),
        ({"gamma": 9.0}, "set source.gamma (Gamma) to 4 (it takes 0.1 to 4)"),
        ({"pixel_format": "Mono1p"}, "Mono8, Mono12p, BayerRG8"),
    ):
        with pytest.raises(SetupError) as caught:
            set_up(camera, {**FREE, **asked})
        assert words in "; ".join(caught.value.args)
    camera.Gamma.access = RO
    with pytest.raises(SetupError, match="it is locked"):
        set_up(Camera(**plain(Gamma=camera.Gamma)), {**FREE, "gamma": 2.0})


@pytest.mark.parametrize(
    ("limits", "value", "words"),
    [
        ({"min": 0, "max": 10, "inc": 3}, 8, "9 (it takes 0 to 10 in steps of 3)"),
        ({"min": 2, "max": 10, "inc": 3}, 99, "8 (it takes 2 to 10 in steps of 3)"),
        ({"min": 0.5, "max": 8.0}, 0.1, "0.5 (it takes 0.5 to 8)"),
        ({}, 5, "a value that the camera supports"),
        ({"min": 1, "max": 12_345_678, "inc": 1}, 99_999_999, "12345678 (it takes 1 to 12345678)"),
        ({"symbolics": tuple("abcdefghijklmn")}, "x", "one of a, b, c, d, e, f, g, h, i, j, k, l and 2 more"),
    ],
)  # fmt: skip
def test_the_nearest_value_is_named(limits, value, words):
    assert nearest(limits, value) == words


def test_which_camera_is_meant():
    three = [Seen(("S1", "left", "10.0.0.1"), "A"), Seen(("S2", "right", "10.0.0.2"), "A"), Seen(("10.0.0.1",), "B")]
    assert chosen(three, "S2") == 1
    assert chosen(three, "left") == 0
    assert chosen(three, "10.0.0.1") == 2, "a serial number counts before any other name"
    assert chosen(three[:1], "") == 0
    assert chosen([Seen(("",)), Seen(("",))], "", 1) == 1, "cameras without names are told apart by their place"
    for found, name, position, words in (
        (three, "", None, "source.serial, with more than one camera in sight"),
        (three, "", 1, "source.serial, with more than one camera in sight"),
        (three, "S9", None, "A S1, A S2, B 10.0.0.1"),
        ([Seen(("S", "x")), Seen(("T", "x"))], "x", None, "2 of that name"),
        ([Seen(("",)), Seen(("",))], "", None, "number 0, number 1"),
        ([], "", None, "none found"),
        ([], "S1", None, "none at all"),
        (three[:1], "", 5, "source.device below 1"),
    ):
        with pytest.raises(SetupError) as caught:
            chosen(found, name, position)
        assert words in "; ".join(caught.value.args)
    assert in_use(three[0]).args[:2] == ("A S1 to be free", "another program holds it")


def test_limits_without_end_are_none():
    """Aravis has the largest double for a float without limits, and the smallest one for its step."""
    endless = Node(1.0, min=float("-inf"), max=1.7976931348623157e308, inc=2.2250738585072014e-308)
    assert limits_of(endless) == {}
    assert nearest(limits_of(endless), 5.0) == "a value that the camera supports"
    check_limits({"min": 10.0, "max": 1e7}, 1e7)
    check_limits({"min": 10, "max": 100}, True)
    check_limits({"min": 0, "max": -4096}, 0)
    assert nearest({"min": 0, "max": -4096}, 0) == "a value that the camera supports"
    with pytest.raises(ValueError, match="20000000 is beyond 10 to 10000000"):
        check_limits({"min": 10.0, "max": 1e7}, 2e7)
