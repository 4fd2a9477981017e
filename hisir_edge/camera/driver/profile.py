"""A camera's profile: every setting that lasts, read at one time and compared at another."""

from __future__ import annotations

from typing import Any

from hisir_edge.camera.driver.nodes import SetupError, is_writable, set_feature, symbolics, text_of

PROFILE_ALWAYS = (
    "Width", "Height", "OffsetX", "OffsetY", "PixelFormat", "AcquisitionMode", "AcquisitionFrameRate", "ExposureMode",
    "ExposureTime", "ExposureAuto", "Gain", "GainAuto", "BlackLevel", "Gamma", "BalanceWhiteAuto", "ReverseX",
    "ReverseY", "BinningHorizontal", "BinningVertical", "DecimationHorizontal", "DecimationVertical", "TriggerMode",
    "TriggerSource", "TriggerActivation", "TriggerDelay", "ExposureTimeAbs", "ExposureTimeRaw", "GainAbs", "GainRaw",
    "BlackLevelRaw", "AcquisitionFrameRateAbs", "TriggerDelayAbs", "GevSCPSPacketSize", "GevSCPD",
    "DeviceLinkThroughputLimit",
)  # fmt: skip
"""In every profile, also of cameras that do not say which of their features last (GenApi, Streamable)."""
EXPOSURES = ("ExposureTime", "Shutter")
"""What exposures are called in whole or in part: ExposureTimeAbs and ExposureTimeRaw before SFNC 2."""
SELECTORS = ("TriggerSelector", "GainSelector", "BlackLevelSelector", "BalanceRatioSelector", "LineSelector")
"""Selectors whose features are read once for each of their values."""


def profile_of(node_map: Any) -> dict[str, str]:
    """Every setting that lasts, as text by name; of selected ones, such as each trigger's, ``Name[Selector=Value]``."""
    found = {name: text for name in _lasting(node_map) if (text := text_of(node_map, name)) is not None}
    for selector in SELECTORS:
        before = text_of(node_map, selector)
        if before is None or not is_writable(node_map, selector):
            continue
        selected = [name for name in found if selector in _selectors_of(node_map, name)]
        for name in selected:
            del found[name]
        found.pop(selector, None)
        for value in symbolics(node_map, selector):
            set_feature(node_map, selector, value)
            for name in selected:
                if (text := text_of(node_map, name)) is not None:
                    found[f"{name}[{selector}={value}]"] = text
        set_feature(node_map, selector, before)
    if reason := _without_exposure(node_map, found):
        raise SetupError(
            "a profile with the camera's exposure", reason, "report this camera's features (hisir-edge camera)"
        )
    return dict(sorted(found.items()))


def has_exposure(features: dict[str, str]) -> bool:
    """Whether the exposure is among a camera's features, by whatever name."""
    return any(word in name for name in features for word in EXPOSURES)


def _without_exposure(node_map: Any, found: dict[str, str]) -> str:
    """Why a profile does not hold the exposure, without which it would let a camera pass that sees otherwise.

    Empty: it does (SFNC's ExposureTime, or an older name), or the camera has none, as its tree shows.
    """
    if has_exposure(found):
        return ""
    try:
        names = [str(getattr(node, "node", node).name) for node in node_map.nodes]
    except Exception:  # a producer without the list of its nodes
        return f"no feature out of {', '.join(EXPOSURES)}, and no list of the camera's own"
    there = [name for name in names if any(word in name for word in EXPOSURES)]
    return f"{', '.join(there[:4])}, none of which can be read" if there else ""


def drift(saved: dict[str, str], now: dict[str, str]) -> list[str]:
    """Features that are not as they were saved, one phrase each; numbers may differ in their last digits."""
    found = [
        f"{name} is {now[name]}, saved as {value}" if name in now else f"{name} is not there, saved as {value}"
        for name, value in saved.items()
        if name not in now or not _same(value, now[name])
    ]
    return found + [f"{name} is {value}, not in the profile" for name, value in now.items() if name not in saved]


def _same(one: str, other: str) -> bool:
    try:
        a, b = float(one), float(other)
    except ValueError:
        return one == other
    return abs(a - b) <= 1e-3 * max(abs(a), abs(b))


def _lasting(node_map: Any) -> list[str]:
    names = dict.fromkeys(PROFILE_ALWAYS)
    try:
        for node in node_map.nodes:
            of = getattr(node, "node", node)
            if of.is_feature() and of.is_streamable():
                names[str(of.name)] = None
    except Exception:  # a producer without the list of its nodes
        return list(names)
    return list(names)


def _selectors_of(node_map: Any, name: str) -> set[str]:
    try:
        return {str(one.node.name) for one in getattr(node_map, name).node.selecting_features}
    except Exception:  # a camera without it
        return set()
