"""What a camera's process says before it ends is heard, whatever it left unread."""

from __future__ import annotations

import json
import socket

from hisir_edge.camera.process_host import GenicamCamera
from hisir_edge.camera.ring import FrameRing
from hisir_edge.config.sources import VivaSource
from hisir_edge.records import Frame, GrabFault


def test_frames_and_the_reason_are_not_lost_where_the_process_leaves_a_message_unread():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source = GenicamCamera(VivaSource.model_validate({"type": "viva"}))
    ring = FrameRing.create(2, 12)
    opened = {"kind": "opened", "width": 4, "height": 3, "pixel_format": "Mono8", "slots": 2, "slot_bytes": 12}
    said = [
        {"kind": "frame", "slot": 0, "id": 1, "time_ns": 5, "device_ns": None, "white": 0.0},
        {"kind": "failed", "expected": "the camera to deliver frames", "received": "control lost", "fix": "check it"},
    ]
    socket.send_fds(theirs, [json.dumps(opened).encode()], [ring.fd])
    source.channel = ours
    source._opened()
    for message in said:
        theirs.send(json.dumps(message).encode())
    source.trigger()
    theirs.close()  # the trigger is unread: the kernel answers the next read with ECONNRESET
    frame, fault = source.next(1.0), source.next(1.0)
    ring.close()
    assert isinstance(frame, Frame) and frame.frame_id == 1
    assert isinstance(fault, GrabFault) and fault.frame_id == 2
    assert "control lost" in fault.reason
