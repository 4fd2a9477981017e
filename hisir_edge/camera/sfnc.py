"""A camera's features by their standard names (GenICam SFNC 2.7), in the standard's order, each read back.

Works on any node map of genapi. A feature that is asked for and that the camera does not have is an error.
"""

from __future__ import annotations

from typing import Any

from hisir_edge.images.pixels import CONVERSIONS

RW, READABLE = 4, (3, 4)
"""EAccessMode of GenApi: readable and writable; readable."""
CHUNKS = ("FrameID", "Timestamp", "ExposureTime")
EXPOSURE_TOLERANCE = 0.05
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


class SetupError(Exception):
    """The camera cannot be used; carries (expected, received, fix)."""


def set_up(node_map: Any, settings: dict[str, Any]) -> None:
    """Set what the configuration asks for; SetupError for what the camera does not take."""
    # pixel format first: changing it may change the size limits (SFNC 2.7, ImageFormatControl)
    wanted = (
        ("PixelFormat", "pixel_format"),
        ("Width", "width"),
        ("Height", "height"),
        ("AcquisitionFrameRate", "frame_rate_hz"),
    )
    for feature, key in wanted:
        if settings.get(key) is not None:
            set_feature(node_map, feature, settings[key])
    _set_exposure(node_map, settings)
    _set_trigger(node_map, settings)
    _set_chunks(node_map, settings)
    if node_map.PixelFormat.value not in CONVERSIONS:
        raise SetupError(
            f"a pixel format out of {', '.join(CONVERSIONS)}",
            str(node_map.PixelFormat.value),
            "set source.pixel_format",
        )


def _set_exposure(node_map: Any, settings: dict[str, Any]) -> None:
    """Exposure in us and gain in dB, each with its automatic off (SFNC 2.7, AnalogControl and AcquisitionControl)."""
    for feature, auto, key in (("ExposureTime", "ExposureAuto", "exposure_us"), ("Gain", "GainAuto", "gain_db")):
        if settings.get(key) is not None:
            _set_if_there(node_map, auto, "Off")
            set_feature(node_map, feature, float(settings[key]))
            _set_if_there(node_map, "BalanceWhiteAuto", "Off")
    if settings.get("packet_bytes") is not None:
        set_feature(node_map, "GevSCPSPacketSize", settings["packet_bytes"])


def _set_trigger(node_map: Any, settings: dict[str, Any]) -> None:
    """The selector first: mode, source, activation and delay are its own (SFNC 2.7, AcquisitionControl).

    Without a trigger every selector's mode is switched off: the program before may have left one on.
    """
    _set_if_there(node_map, "AcquisitionMode", "Continuous")
    trigger = settings.get("trigger", "free-run")
    if trigger == "free-run":
        if _writable(node_map, "TriggerMode"):
            for selector in _symbolics(node_map, "TriggerSelector") or ("",):
                if selector:
                    set_feature(node_map, "TriggerSelector", selector)
                _set_if_there(node_map, "TriggerMode", "Off")
        return
    _set_if_there(node_map, "TriggerSelector", settings["trigger_selector"])
    set_feature(node_map, "TriggerMode", "On")
    set_feature(node_map, "TriggerSource", settings["trigger_source"] or "Software")
    if settings.get("trigger_activation"):
        set_feature(node_map, "TriggerActivation", settings["trigger_activation"])
    if settings.get("trigger_delay_us") is not None:
        set_feature(node_map, "TriggerDelay", float(settings["trigger_delay_us"]))


def _writable(node_map: Any, feature: str) -> bool:
    try:
        node = getattr(node_map, feature)
        return bool(node.get_access_mode() == RW)
    except Exception:  # a camera without it
        return False


def _symbolics(node_map: Any, feature: str) -> tuple[str, ...]:
    """The values that an enumeration can take now."""
    try:
        return tuple(getattr(node_map, feature).symbolics)
    except Exception:  # a camera without it
        return ()


def _set_if_there(node_map: Any, feature: str, value: Any) -> None:
    if _writable(node_map, feature):
        set_feature(node_map, feature, value)


def set_feature(node_map: Any, feature: str, value: Any) -> None:
    """Set and read back; SetupError where the camera refuses, or has another value afterwards (2 % for numbers)."""
    try:
        node = getattr(node_map, feature)
        node.value = value
        back = node.value
    except Exception as error:
        raise SetupError(
            f"the camera to take {feature} = {value}", str(error).splitlines()[0], "choose a value that it supports"
        ) from error
    same = abs(back - value) <= 0.02 * abs(value) if isinstance(value, float) else back == value
    if not same:
        raise SetupError(f"{feature} = {value}", f"{back} after setting it", "choose a value that the camera supports")


def _set_chunks(node_map: Any, settings: dict[str, Any]) -> None:
    """Have each frame carry its own id, time and exposure, as far as the camera can."""
    if not settings.get("chunk_data"):
        return
    set_feature(node_map, "ChunkModeActive", True)
    there = [name for name in CHUNKS if name in _symbolics(node_map, "ChunkSelector")]
    for name in there:
        set_feature(node_map, "ChunkSelector", name)
        _set_if_there(node_map, "ChunkEnable", True)
    if not there:
        raise SetupError(
            f"a camera with chunk data out of {', '.join(CHUNKS)}", "none of them", "take source.chunk_data out"
        )


class ExposureCheck:
    """Whether a frame was exposed as long as was set, by its own word (ChunkExposureTime, us)."""

    def __init__(self, node_map: Any, settings: dict[str, Any]) -> None:
        self._wanted_us: float | None = settings.get("exposure_us") if settings.get("chunk_data") else None
        self._node: Any = None
        if self._wanted_us is not None and "ExposureTime" in _symbolics(node_map, "ChunkSelector"):
            self._node = getattr(node_map, "ChunkExposureTime", None)

    def wrong(self) -> str:
        """The fault of the frame in hand; empty: none that is known."""
        if self._node is None or self._wanted_us is None:
            return ""
        try:
            exposed_us = float(self._node.value)
        except Exception as error:
            return f"incomplete frame: no exposure time in its chunk data ({type(error).__name__})"
        if abs(exposed_us - self._wanted_us) > EXPOSURE_TOLERANCE * self._wanted_us:
            return f"exposed {exposed_us:g} us instead of {self._wanted_us:g} us"
        return ""


def text_of(node_map: Any, name: str) -> str | None:
    """A feature's value as text; None where it is not there or cannot be read now."""
    try:
        node = getattr(node_map, name)
        return str(node.to_string()) if node.get_access_mode() in READABLE else None
    except Exception:  # a camera without it
        return None


def profile_of(node_map: Any) -> dict[str, str]:
    """Every setting that lasts, as text by name; of selected ones, such as each trigger's, ``Name[Selector=Value]``."""
    found = {name: text for name in _lasting(node_map) if (text := text_of(node_map, name)) is not None}
    for selector in SELECTORS:
        before = text_of(node_map, selector)
        if before is None or not _writable(node_map, selector):
            continue
        selected = [name for name in found if selector in _selectors_of(node_map, name)]
        for name in selected:
            del found[name]
        found.pop(selector, None)
        for value in _symbolics(node_map, selector):
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
