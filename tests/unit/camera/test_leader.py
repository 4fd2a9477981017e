"""Each frame's own word against what the camera was set to."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hisir_edge.camera.driver.leader import Leader, leader_of_camera, unlike
from hisir_edge.images.wire import name_of_code

SET = Leader("Mono8", 640, 480, 16, 0)


@pytest.mark.parametrize(
    ("said", "words"),
    [(SET, ""), (None, ""), (Leader(), ""), (Leader("Mono8", 640, 480, None, None), ""),
     (Leader("BayerRG8", 640, 480, 16, 0), "PixelFormat BayerRG8 instead of Mono8"),
     (Leader("Mono8", 480, 640, 16, 0), "Width 480 instead of 640, Height 640 instead of 480"),
     (Leader("Mono8", 640, 480, 24, 8), "OffsetX 24 instead of 16, OffsetY 8 instead of 0")],
)  # fmt: skip
def test_what_differs_is_named_with_both(said, words):
    assert unlike(SET, said) == (f"frame of another kind: {words}" if words else "")


def test_what_a_camera_does_not_have_is_not_compared():
    nodes = SimpleNamespace(
        PixelFormat=SimpleNamespace(value="Mono8"), Width=SimpleNamespace(value=640), Height=SimpleNamespace(value=480)
    )
    wanted = leader_of_camera(nodes)
    assert wanted == Leader("Mono8", 640, 480, None, None)
    assert unlike(wanted, Leader("Mono8", 640, 480, 99, 99)) == ""
    assert (name_of_code(0x01080009), name_of_code(0x7)) == ("BayerRG8", "0x00000007")
