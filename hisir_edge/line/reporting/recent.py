"""How the last boards of each camera were taken: what drifts shows here before boards are called for it."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from threading import Lock
from typing import Any

import numpy as np

from hisir_edge.records import Frame, GrabFault, Judgement, Optics, by_camera

LAST_FRAMES = 50


class RecentOptics:
    """The optics of the last frames by camera; written by one thread, read by others."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: dict[str, deque[tuple[Optics | None, bool]]] = {}

    def add(self, item: Frame | GrabFault, judgement: Judgement) -> None:
        """One board: the optics of each of its frames; those without push older ones out, too."""
        for source, part in by_camera(item, judgement):
            with self._lock:
                seen = self._seen.setdefault(source, deque(maxlen=LAST_FRAMES))
                seen.append((part.optics, bool(part.warnings)))

    def as_dict(self) -> dict[str, Any]:
        """By camera: the last frame, medians of the last ones, how many these are, and how many of them had a warning.

        Cameras of whose last frames nothing is known are left out.
        """
        with self._lock:
            seen = {source: list(frames) for source, frames in self._seen.items()}
        known = {source: frames for source, frames in seen.items() if any(one is not None for one, _ in frames)}
        return {source: _summary(frames) for source, frames in sorted(known.items())}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _summary(frames: list[tuple[Optics | None, bool]]) -> dict[str, Any]:
    def median(name: str) -> float | None:
        values = [value for one, _ in frames if one is not None and (value := getattr(one, name)) is not None]
        return _rounded(float(np.median(values))) if values else None

    last = frames[-1][0]
    return {
        "last": None if last is None else {name: _rounded(value) for name, value in asdict(last).items()},
        "frames": len(frames), "with_warnings": sum(warned for _, warned in frames), "blur_px": median("blur_px"),
        "brightness": median("brightness"), "white_share": median("white_share"),
    }  # fmt: skip
