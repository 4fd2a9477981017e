"""Shifts: what changes on a line between training and today, applied to labelled test pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import U8, Bool, u8
from hisir_edge.errors import InputError


@dataclass(frozen=True, slots=True)
class Shift:
    """One kind of change and its strength, as written on the command line: ``fixture=8``."""

    name: str
    amount: float

    def __str__(self) -> str:
        return f"{self.name}={self.amount:g}"


LEAST_NOISE_LEVELS = 0.5
"""Noise of a picture that shows none (smooth or made by a program): rounding alone makes 0.3 grey levels."""

Change = Callable[[np.random.Generator, U8, Bool, float], tuple[U8, Bool]]


def _fixture(rng: np.random.Generator, frame: U8, truth: Bool, amount: float) -> tuple[U8, Bool]:
    """The board lies ``amount`` px further off, in any direction."""
    way = rng.uniform(0, 2 * np.pi)
    m = np.array([[1.0, 0, amount * np.cos(way)], [0, 1.0, amount * np.sin(way)]])
    size = (frame.shape[1], frame.shape[0])
    moved = cv2.warpAffine(frame, m, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(truth.astype(np.uint8), m, size, flags=cv2.INTER_NEAREST)
    return u8(moved), np.asarray(mask > 0)


def _turn(rng: np.random.Generator, frame: U8, truth: Bool, amount: float) -> tuple[U8, Bool]:
    """The board lies turned by ``amount`` degrees, either way, about the frame's middle."""
    size = (frame.shape[1], frame.shape[0])
    m = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), amount * float(rng.choice([-1, 1])), 1.0)
    moved = cv2.warpAffine(frame, m, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(truth.astype(np.uint8), m, size, flags=cv2.INTER_NEAREST)
    return u8(moved), np.asarray(mask > 0)


def _brightness(rng: np.random.Generator, frame: U8, truth: Bool, amount: float) -> tuple[U8, Bool]:
    """Light changes by ``amount`` per cent."""
    return u8(np.clip(np.round(frame * np.float32(1 + amount / 100)), 0, 255).astype(np.uint8)), truth


def _defocus(rng: np.random.Generator, frame: U8, truth: Bool, amount: float) -> tuple[U8, Bool]:
    """A Gaussian of ``amount`` px on top of the lens's own."""
    return u8(cv2.GaussianBlur(frame, (0, 0), amount)) if amount > 0 else frame, truth


def _jpeg(rng: np.random.Generator, frame: U8, truth: Bool, amount: float) -> tuple[U8, Bool]:
    """Compressed as JPEG of quality ``amount`` on the way."""
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(amount)])
    return u8(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]), truth


def _noise(rng: np.random.Generator, frame: U8, truth: Bool, amount: float) -> tuple[U8, Bool]:
    """Sensor noise ``amount`` times what the frame has, measured after Immerkaer 1996."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(grey, -1, kernel))
    # the median stands for flat places; 0.6745 * 6 makes it the noise's deviation, 0.66 is what grey averages
    sigma = max(float(np.median(response)) / (0.6745 * 6) / 0.66, LEAST_NOISE_LEVELS)
    added = rng.standard_normal(frame.shape, dtype=np.float32) * np.float32(sigma * np.sqrt(max(amount**2 - 1, 0)))
    return u8(np.clip(np.round(frame + added), 0, 255).astype(np.uint8)), truth


CHANGES: dict[str, tuple[Change, float, float]] = {
    "fixture": (_fixture, 0, 1000),
    "turn": (_turn, 0, 180),
    "brightness": (_brightness, -90, 400),
    "defocus": (_defocus, 0, 50),
    "jpeg": (_jpeg, 1, 100),
    "noise": (_noise, 1, 100),
}
"""Name -> (change, least and greatest amount that means something)."""
STANDARD = tuple(
    Shift(name, amount)
    for name, amounts in (
        ("fixture", (0, 2, 4, 8, 12)),
        ("turn", (0.5, 1)),
        ("brightness", (-20, -10, 10, 20)),
        ("defocus", (0.5, 1)),
        ("jpeg", (90, 70)),
        ("noise", (2, 3)),
    )
    for amount in amounts
)


def shift_from_text(text: str) -> Shift:
    """``NAME=AMOUNT`` as a Shift; InputError names the known ones."""
    name, _, amount = text.partition("=")
    try:
        value = float(amount)
    except ValueError:
        value = float("nan")
    if name not in CHANGES or not np.isfinite(value):
        raise InputError(
            expected=f"a shift NAME=AMOUNT with a name out of {', '.join(CHANGES)}",
            received=repr(text),
            fix="write, for example, --shift fixture=8",
        )
    _, least, greatest = CHANGES[name]
    if not least <= value <= greatest:
        raise InputError(
            expected=f"--shift {name}= from {least:g} to {greatest:g}", received=text, fix="correct the amount"
        )
    return Shift(name, value)


def shifted(shift: Shift, frame: U8, truth: Bool, number: int) -> tuple[U8, Bool]:
    """Frame (h, w, 3) and its truth (h, w) under a shift; ``number`` fixes what is random."""
    return CHANGES[shift.name][0](np.random.default_rng([number, 12]), frame, truth, shift.amount)
