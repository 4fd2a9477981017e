"""How the last boards of each camera were taken: what drifts shows here before boards are called for it."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Any

import numpy as np

from hisir_edge.records import Frame, GrabFault, Judgement, Optics, by_camera

LAST_FRAMES = 50


class RecentOptics:
    """The optics of the last frames by camera; written by one thread, read by others."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: dict[str, deque[tuple[Optics, bool]]] = {}

    def add(self, item: Frame | GrabFault, judgement: Judgement) -> None:
        """One board: the optics of each of its frames that has some."""
        for source, part in by_camera(item, judgement):
            if part.optics is not None:
                with self._lock:
                    seen = self._seen.setdefault(source, deque(maxlen=LAST_FRAMES))
                    seen.append((part.optics, bool(part.warnings)))

    def as_dict(self) -> dict[str, Any]:
        """By camera: medians of the last frames, how many these are, and how many of them had a warning."""
        with self._lock:
            seen = {source: list(frames) for source, frames in self._seen.items()}
        return {source: _summary(frames) for source, frames in sorted(seen.items())}


def _summary(frames: list[tuple[Optics, bool]]) -> dict[str, Any]:
    def median(name: str) -> float | None:
        values = [value for one, _ in frames if (value := getattr(one, name)) is not None]
        return round(float(np.median(values)), 4) if values else None

    return {
        "frames": len(frames), "with_warnings": sum(warned for _, warned in frames), "blur_px": median("blur_px"),
        "brightness": median("brightness"), "white_share": median("white_share"),
    }  # fmt: skip
