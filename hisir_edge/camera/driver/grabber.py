"""A camera's own process, whatever library reaches it: frames go into the shared ring, everything else is said.

A process, because a vendor's library may hold the GIL (harvesters does while it fetches:
https://github.com/genicam/harvesters/issues/508), hang, or crash. Talks over a SOCK_SEQPACKET socket in JSON, and
passes the ring's descriptor with the first message. Lost frames show only as gaps in the frame id, so every id is
followed.

Started by ``process_host.py`` as ``python -m hisir_edge.camera.driver.KIND FD PARENT_PID JSON``.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hisir_edge.arrays import U8
from hisir_edge.camera.driver.features import ExposureCheck
from hisir_edge.camera.driver.frame_clock import FrameClock
from hisir_edge.camera.driver.leader import Leader, leader_of_camera, unlike
from hisir_edge.camera.ring import FrameRing
from hisir_edge.images.wire import WIRE_FORMATS, Unpacker

POLL_S = 0.25
TRIGGERED_POLL_S = 0.02
"""Between two frames that were asked for the camera's process listens so often."""
SETTLE_S = 0.2
FILLING_BYTES = 4096
"""Some producers round a buffer up to so many bytes."""
MOST_DRIFT = 3
LAST_16_BIT_ID = 65535
"""GigE Vision 1.x counts frames in 16 bits and leaves out 0 (GVSP block id)."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One buffer: its flat bytes until ``done`` is called; None for ``data`` where it is incomplete.

    ``frame_id`` is None where not even that is known: it is taken for the next one. ``x_padding``: bytes behind each
    line. ``may_be_longer``: something else may follow the picture, such as chunk data.
    """

    frame_id: int | None
    data: U8 | None
    device_ns: int | None
    done: Callable[[], None]
    problem: str = ""
    leader: Leader | None = None
    x_padding: int = 0
    may_be_longer: bool = False


class GrabbingDevice(Protocol):
    """An opened camera, set up as configured."""

    nodes: Any
    """Its features, as genapi shows them."""

    def notes(self) -> list[str]:
        """What a technician should know though frames come, a sentence each."""
        ...

    def start(self) -> None:
        """Begin the acquisition; nothing from before is fetched any more."""
        ...

    def stop(self) -> None:
        """End it."""
        ...

    def trigger(self) -> None:
        """Execute TriggerSoftware."""
        ...

    def fetch(self, timeout_s: float) -> Fetched | None:
        """The next buffer, complete or not; None when none came in time. Raises when the camera is gone."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Grabber:
    """One camera's loop; everything it says goes through ``outbox`` in the camera's order."""

    leader, seen_one = Leader(), False
    """What each frame has to say of itself; whether one has been taken."""

    def __init__(self, channel: socket.socket, device: GrabbingDevice, settings: dict[str, Any]) -> None:
        self.channel, self.device = channel, device
        slots, triggered = settings["ring_slots"], settings["trigger"] == "software"
        self.clock = FrameClock(settings.get("late_ms", 0.0))
        node_map = device.nodes
        self.width, self.height = int(node_map.Width.value), int(node_map.Height.value)
        levels = settings.get("levels")
        self.unpacker = Unpacker(
            WIRE_FORMATS[str(node_map.PixelFormat.value)],
            self.width,
            self.height,
            None if levels is None else (levels[0], levels[1]),
            settings.get("unpack_threads", 2),
        )
        self.exposure = ExposureCheck(node_map, settings)
        self.leader = leader_of_camera(node_map)
        self.ring = FrameRing.create(slots, self.unpacker.out_bytes)
        self.free = deque(range(slots))
        self.outbox: deque[dict[str, Any]] = deque()
        self.last_id: int | None = None
        self.guessed = 0
        self.stopped = False
        self.poll_s = TRIGGERED_POLL_S if triggered else POLL_S
        self.told_at = 0.0

    def run(self) -> None:
        """Announce the ring, then fetch until told to stop or the parent is gone."""
        opened = {
            "kind": "opened", "width": self.width, "height": self.height,
            "pixel_format": self.unpacker.wire.line_format,
            "slots": self.ring.slots, "slot_bytes": self.ring.slot_bytes,
        }  # fmt: skip
        socket.send_fds(self.channel, [json.dumps(opened).encode()], [self.ring.fd])
        self.channel.setblocking(False)
        self.outbox.extend({"kind": "note", "text": text} for text in self.device.notes())
        self.device.start()
        try:
            while not self.stopped:
                self._listen()
                self._fetch_one()
                self._talk()
        finally:
            self.device.stop()
            self.unpacker.close()

    def _listen(self) -> None:
        while True:
            try:
                data = self.channel.recv(4096)
            except BlockingIOError:
                return
            except ConnectionResetError:  # the line ended with messages unread
                data = b""
            if not data:
                self.stopped = True
                return
            message = json.loads(data)
            if message["kind"] == "free":
                self.free.append(message["slot"])
            elif message["kind"] == "trigger":
                self.device.trigger()
            elif message["kind"] == "rearm":
                self._rearm()
            else:
                self.stopped = True
                return

    def _rearm(self) -> None:
        """Stop, discard frames that were on their way, start again; the line discards those that wait for it.

        A camera may still execute a request that it held when it was stopped (TLSimu of the genicam wheel does, under
        load): frames of the first ``SETTLE_S`` are discarded, too.
        """
        self.device.stop()
        self.device.start()
        end = time.monotonic() + SETTLE_S
        while (left_s := end - time.monotonic()) > 0:
            if (fetched := self.device.fetch(min(left_s, self.poll_s))) is not None:
                fetched.done()
        self.last_id = None
        self.clock.forget()
        self.outbox.append({"kind": "rearmed"})

    def _fetch_one(self) -> None:
        fetched = self.device.fetch(self.poll_s)
        if fetched is None:
            if not self.outbox and time.monotonic() > self.told_at + POLL_S:
                self.told_at = time.monotonic()
                self.outbox.append({"kind": "alive"})
            return
        try:
            self._take(fetched, time.time_ns())
        finally:
            fetched.done()

    def _take(self, fetched: Fetched, now: int) -> None:
        data, frame_id = fetched.data, fetched.frame_id
        if frame_id is None:
            frame_id = 0 if self.last_id is None else self.last_id + 1
            self.last_id = frame_id or None
            self.guessed += 1
        elif not self._follow(frame_id, now):
            return
        other = unlike(self.leader, fetched.leader)
        lengths = self.unpacker.bytes_wanted(fetched.x_padding)
        data = None if data is None else self._picture_of(data, lengths, fetched)
        if data is None or data.nbytes not in lengths:
            got = fetched.problem or f"{0 if data is None else data.nbytes} of {lengths[-1]} bytes"
            self._lost(frame_id, frame_id, f"incomplete frame: {got}" + (f"; {other}" if other else ""), now)
            return
        if other and not self._is_its_way(fetched.leader):
            self._lost(frame_id, frame_id, other, now)
            return
        self.seen_one = True
        if wrong := self.clock.wrong(fetched.device_ns, time.monotonic_ns()) or self.exposure.wrong():
            self._lost(frame_id, frame_id, wrong, now)
            return
        if not self.free:
            self._lost(frame_id, frame_id, "overrun: the line inspects slower than the camera sends", now)
            return
        slot = self.free.popleft()
        white = self.unpacker.into(data, self.ring.slot(slot), fetched.x_padding)
        self.outbox.append(
            {
                "kind": "frame", "slot": slot, "id": frame_id, "time_ns": now, "device_ns": fetched.device_ns,
                "white": round(white, 6),
            }
        )  # fmt: skip

    def _picture_of(self, data: U8, lengths: tuple[int, ...], fetched: Fetched) -> U8:
        """A buffer without what follows its picture: chunk data, or what fills it up.

        Where lines may begin with a byte or within one, nobody knows where such a picture ends: it stays too long.
        """
        more = data.nbytes - lengths[-1]
        known = len(lengths) == 1 or fetched.x_padding > 0
        return data[: lengths[-1]] if known and more > 0 and (fetched.may_be_longer or more < FILLING_BYTES) else data

    def _is_its_way(self, said: Leader | None) -> bool:
        """Whether a producer that does not pass on the camera's word names the format otherwise from the first frame.

        Size and place are as they were set; from now on what it says now is what it has to say.
        """
        if said is None or self.seen_one or not getattr(self.device, "names_formats_its_way", False):
            return False
        adopted = replace(self.leader, pixel_format=said.pixel_format)
        if unlike(adopted, said):
            return False
        text = f"the producer calls frames of {self.leader.pixel_format} {said.pixel_format}"
        self.outbox.append({"kind": "note", "text": text})
        self.leader = adopted
        return True

    def _follow(self, frame_id: int, now: int) -> bool:
        """Compare a frame id with the last one; false when this frame has been seen already."""
        last, self.last_id = self.last_id, frame_id
        guessed, self.guessed = self.guessed, 0
        if last is None or frame_id == last + 1:
            return True
        if last == frame_id:
            self._lost(frame_id, frame_id, f"repeated frame: id {frame_id} after {last}", now, boards=0)
            return False
        if frame_id > last:
            self._lost(last + 1, frame_id - 1, "lost between camera and PC (gap in the frame ids)", now)
            return True
        if last - guessed <= LAST_16_BIT_ID <= last and frame_id - (last - LAST_16_BIT_ID) in (0, 1):
            return True  # ids that were guessed go on counting above the last one
        # smaller for any other reason: the camera began anew, how many were lost is unknown
        self._lost(frame_id, frame_id, f"frame ids went back: id {frame_id} after {last}", now, boards=None)
        return False

    def _lost(self, first: int, last: int, reason: str, now: int, boards: int | None = 1) -> None:
        """Queue a loss; a run of them is one entry, so that the outbox cannot grow without bound."""
        tail = self.outbox[-1] if self.outbox else None
        if tail is not None and tail["kind"] == "lost" and tail["reason"] == reason and tail["last"] + 1 == first:
            tail["last"] = last
            return
        self.outbox.append(
            {"kind": "lost", "first": first, "last": last, "reason": reason, "time_ns": now, "boards": boards}
        )

    def _talk(self) -> None:
        while self.outbox:
            try:
                self.channel.send(json.dumps(self.outbox[0]).encode())
            except BlockingIOError:
                return
            except OSError:
                self.stopped = True
                return
            self.outbox.popleft()
