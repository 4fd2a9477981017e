"""Publishes verdicts over ZeroMQ: frames ``topic | JSON | mask PNG``, numbered per publisher."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

import zmq

from hisir_edge.addresses import ipc_in_use
from hisir_edge.config import PublishTable
from hisir_edge.errors import PublishError
from hisir_edge.images import mask_png_bytes
from hisir_edge.records import Frame, GrabFault, Judgement, Region

SCHEMA = "hisir-edge/verdict/1.1"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the verdicts are made with, repeated in each of them."""

    line: str
    epoch: str
    product: str
    bundle_sha256: str


@dataclass(frozen=True, slots=True)
class Message:
    """One verdict as it goes over the wire."""

    topic: str
    body: dict[str, Any]
    mask_png: bytes

    def frames(self) -> list[bytes]:
        """The three ZeroMQ frames."""
        return [
            self.topic.encode(),
            json.dumps(self.body, allow_nan=False, separators=(",", ":")).encode(),
            self.mask_png,
        ]


def _utc(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, timezone.utc).isoformat(timespec="microseconds")


def _region(region: Region) -> dict[str, Any]:
    x, y, w, h = region.box_xywh
    return {
        "x": x, "y": y, "w": w, "h": h, "area_px": region.area_px,
        "peak": round(region.peak, 4), "contour": [list(point) for point in region.contour_xy],
        **({"view": region.view} if region.view else {}),
    }  # fmt: skip


def _views(judgement: Judgement) -> dict[str, Any]:
    """``{"views": [...]}`` where several cameras look at a board, else nothing."""
    out, top = [], 0
    for view in judgement.views:
        part, (h, w) = view.judgement, view.frame_hw
        out.append(
            {
                "source": view.source, "frame_id": view.frame_id, "result": part.result.value, "reason": part.reason,
                "score": _rounded(part.score), "frame": {"width": w, "height": h}, "mask_y": top,
                "bundle_sha256": view.bundle_sha256,
                "registration_residual_px": _rounded(part.registration_residual_px),
            }
        )  # fmt: skip
        top += h
    return {"views": out} if out else {}


def message_from_judgement(recipe: Recipe, seq: int, item: Frame | GrabFault, judgement: Judgement) -> Message:
    """The message of one verdict; its JSON follows ``mes/verdict.schema.json``."""
    times = judgement.times
    size = {"width": item.rgb.shape[1], "height": item.rgb.shape[0]} if isinstance(item, Frame) else None
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "line": recipe.line,
        "epoch": recipe.epoch,
        "seq": seq,
        "time": _utc(time.time_ns()),
        "grabbed_at": _utc(item.grabbed_at_ns),
        "source": item.source,
        "frame_id": item.frame_id,
        "unit": item.unit,
        "product": recipe.product,
        "bundle_sha256": recipe.bundle_sha256,
        "result": judgement.result.value,
        "reason": judgement.reason,
        "score": None if judgement.score is None else round(judgement.score, 4),
        "regions": [_region(r) for r in judgement.regions],
        "regions_total": judgement.regions_total,
        "frame": size,
        "registration_residual_px": _rounded(judgement.registration_residual_px),
        "times_s": {
            "register": round(times.register_s, 5), "tile": round(times.tile_s, 5), "infer": round(times.infer_s, 5),
            "merge": round(times.merge_s, 5), "judge": round(times.judge_s, 5), "total": round(times.total_s, 5),
        },
        **_views(judgement),
    }  # fmt: skip
    mask = b"" if judgement.mask is None else mask_png_bytes(judgement.mask)
    return Message(f"verdict/{recipe.line}/{judgement.result.value}", body, mask)


def stamped(message: Message) -> Message:
    """The same verdict with the time of now, at which it is published."""
    return replace(message, body={**message.body, "time": _utc(time.time_ns())})


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


class Publisher:
    """The PUB side (an XPUB socket, so that subscriptions can be seen); bound on entry."""

    def __init__(self, settings: PublishTable) -> None:
        self.settings = settings
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.XPUB)
        self.subscribers = 0

    def __enter__(self) -> Publisher:
        """Bind; PublishError when the address is taken or not an address."""
        self.socket.setsockopt(zmq.SNDHWM, self.settings.send_high_water_mark)
        self.socket.setsockopt(zmq.LINGER, 2000)
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        if ipc_in_use(self.settings.endpoint):
            self._close()
            raise PublishError(
                expected=f"to bind publish.endpoint {self.settings.endpoint}",
                received="Address already in use",
                fix="stop the other daemon on this address, or choose another one",
            )
        try:
            self.socket.bind(self.settings.endpoint)
        except zmq.ZMQError as error:
            self._close()
            raise PublishError(
                expected=f"to bind publish.endpoint {self.settings.endpoint}",
                received=error.strerror or str(error),
                fix="stop the other program on this port, or choose another one"
                if error.errno == zmq.EADDRINUSE
                else "name an address of this machine: tcp://*:5556 for all networks, tcp://127.0.0.1:5556 for itself",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; what is queued is still sent for up to 2 s."""
        self._close()

    def _close(self) -> None:
        self.socket.close()
        self.context.term()

    def count_subscribers(self, timeout_ms: int) -> int:
        """Take in (un)subscriptions that have come, waiting for one at most this long."""
        while self.socket.poll(timeout_ms, zmq.POLLIN):
            event = self.socket.recv()
            self.subscribers += 1 if event[:1] == b"\x01" else -1 if event[:1] == b"\x00" else 0
            timeout_ms = 0
        return self.subscribers

    def send(self, frames: list[bytes]) -> None:
        """Publish one verdict; never blocks (a subscriber beyond its high-water mark misses it)."""
        self.count_subscribers(0)
        self.socket.send_multipart(frames)
