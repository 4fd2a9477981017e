"""What the configuration asks of a camera, by standard names (GenICam SFNC 2.7) and older ones, in an order that works.

Each value is read back when it is set, and all of them again at the end: a later one may have changed an earlier one.
A feature that is asked for and that the camera does not have is an error.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hisir_edge.camera.driver.nodes import (
    SetupError,
    node_of,
    same_value,
    set_feature,
    set_if_there,
    symbolics,
    value_of,
)
from hisir_edge.images.wire import WIRE_FORMATS

CHUNKS = ("FrameID", "Timestamp", "ExposureTime")
EXPOSURE_TOLERANCE = 0.05
ALIASES = {
    "ExposureTime": ("ExposureTimeAbs",),
    "AcquisitionFrameRate": ("AcquisitionFrameRateAbs",),
    "TriggerDelay": ("TriggerDelayAbs",),
    "Gain": ("GainAbs",),
    "BinningHorizontal": ("Binning",),
}
"""Names before SFNC 2 of the same quantity in the same unit; raw ones, such as GainRaw, have no unit and are not."""
RAW = {"Gain": ("GainRaw", "gain_raw")}
"""Where a camera has its maker's own steps alone: (feature, key of line.toml that sets it)."""
ENABLES = {
    "AcquisitionFrameRate": ("AcquisitionFrameRateEnable", "AcquisitionFrameRateEnabled"),
    "AcquisitionFrameRateAbs": ("AcquisitionFrameRateEnable",),
    "Gamma": ("GammaEnable", "GammaEnabled"),
}
"""What has to be on before a value has any effect."""
AUTOMATICS = {
    "ExposureTime": "ExposureAuto",
    "ExposureTimeAbs": "ExposureAuto",
    "Gain": "GainAuto",
    "GainAbs": "GainAuto",
    "GainRaw": "GainAuto",
    "AcquisitionFrameRate": "AcquisitionFrameRateAuto",
}
"""What would go on changing a value."""


class _Applied:
    """Sets features and remembers them, to compare all at the end."""

    def __init__(self, node_map: Any) -> None:
        self.node_map = node_map
        self.set: dict[str, tuple[Any, str]] = {}

    def put(self, feature: str, value: Any, key: str) -> None:
        """Set a feature by the name that this camera has for it, with what has to be on or off for it."""
        name = self._name(feature, key)
        if (automatic := AUTOMATICS.get(name)) is not None:
            set_if_there(self.node_map, automatic, "Off")
        for enable in ENABLES.get(name, ()):
            set_if_there(self.node_map, enable, True)
        set_feature(self.node_map, name, self._as_it_takes(name, value), key, wanted=value)
        self.set[name] = (value, key)

    def _name(self, feature: str, key: str) -> str:
        for name in (feature, *ALIASES.get(feature, ())):
            if node_of(self.node_map, name) is not None:
                return str(name)
        raw, its_key = RAW.get(feature, ("", ""))
        if raw and node_of(self.node_map, raw) is not None:
            raise SetupError(
                f"a camera with {feature} for source.{key}",
                f"one that has {raw}, its maker's own steps, alone",
                f"set source.{its_key} instead of source.{key}",
            )
        return feature

    def _as_it_takes(self, name: str, value: Any) -> Any:
        """A whole number for a feature that is one, such as ExposureTimeAbs of some cameras."""
        whole = isinstance(value, float) and type(value_of(self.node_map, name)) is int
        return round(value) if whole else value

    def compare(self) -> None:
        """SetupError where a feature is no longer as it was set."""
        for name, (value, key) in self.set.items():
            now = value_of(self.node_map, name)
            if now is not None and not same_value(value, now):
                raise SetupError(
                    f"{name} to stay {value}",
                    f"{now} once everything else was set",
                    f"the camera ties it to another setting: change source.{key} or that one",
                )


def set_up(node_map: Any, settings: dict[str, Any]) -> None:
    """Set what the configuration asks for; SetupError for what the camera does not take."""
    applied = _Applied(node_map)
    _set_image(applied, settings)
    _set_exposure(applied, settings)
    _set_trigger(node_map, settings)
    _set_chunks(node_map, settings)
    applied.compare()
    now, levels = str(node_map.PixelFormat.value), settings.get("levels")
    if (
        levels is not None
        and now in WIRE_FORMATS
        and not (WIRE_FORMATS[now].bits > 8 and levels[1] <= WIRE_FORMATS[now].most)
    ):
        raise SetupError(
            f"a pixel format that source.levels {list(levels)} lie in",
            f"{now}, of levels up to {WIRE_FORMATS[now].most}",
            "set source.pixel_format to one of more bits, or correct source.levels",
        )
    if now not in WIRE_FORMATS:
        can = [name for name in symbolics(node_map, "PixelFormat") if name in WIRE_FORMATS]
        raise SetupError(
            f"a pixel format out of {', '.join(can) or ', '.join(WIRE_FORMATS)}", now, "set source.pixel_format"
        )


def _set_image(applied: _Applied, settings: dict[str, Any]) -> None:
    """Format and binning first, for they change how large an image may be; then size, and at last where it lies.

    An offset that was left from before would limit the size (SFNC 2.7, ImageFormatControl).
    """
    for feature, key in (("ReverseX", "reverse_x"), ("ReverseY", "reverse_y"), ("PixelFormat", "pixel_format")):
        if settings.get(key) is not None:
            applied.put(feature, settings[key], key)
    if (binning := settings.get("binning")) is not None:
        applied.put("BinningHorizontal", binning, "binning")
        if "Binning" not in applied.set:
            applied.put("BinningVertical", binning, "binning")
    for feature, size, key in (("OffsetX", "width", "offset_x"), ("OffsetY", "height", "offset_y")):
        if settings.get(size) is not None or settings.get(key) is not None:
            set_if_there(applied.node_map, feature, 0)
    for feature, key in (("Width", "width"), ("Height", "height"), ("OffsetX", "offset_x"), ("OffsetY", "offset_y")):
        if settings.get(key) is not None:
            applied.put(feature, settings[key], key)


def _set_exposure(applied: _Applied, settings: dict[str, Any]) -> None:
    """Exposure in us and gain in dB, automatics off (SFNC 2.7, AnalogControl and AcquisitionControl); then the rate.

    A rate that is set before a long exposure is shortened would be refused.
    """
    exposure = settings.get("exposure_us")
    if exposure is not None:
        applied.put("ExposureTime", float(exposure), "exposure_us")
    if settings.get("gain_db") is not None:
        applied.put("Gain", float(settings["gain_db"]), "gain_db")
    if settings.get("gain_raw") is not None:
        applied.put("GainRaw", settings["gain_raw"], "gain_raw")
    if any(settings.get(key) is not None for key in ("exposure_us", "gain_db", "gain_raw")):
        set_if_there(applied.node_map, "BalanceWhiteAuto", "Off")
    if settings.get("gamma") is not None:
        applied.put("Gamma", float(settings["gamma"]), "gamma")
    if settings.get("frame_rate_hz") is not None:
        applied.put("AcquisitionFrameRate", settings["frame_rate_hz"], "frame_rate_hz")
    if settings.get("packet_bytes") is not None:
        applied.put("GevSCPSPacketSize", settings["packet_bytes"], "packet_bytes")


def _set_trigger(node_map: Any, settings: dict[str, Any]) -> None:
    """The selector first: mode, source, activation and delay are its own (SFNC 2.7, AcquisitionControl).

    Every other selector's mode is switched off: one that the program before left on means that no frame ever comes.
    """
    set_if_there(node_map, "AcquisitionMode", "Continuous")
    trigger = settings.get("trigger", "free-run")
    ours = "" if trigger == "free-run" else settings["trigger_selector"]
    _switch_others_off(node_map, ours)
    if trigger == "free-run":
        return
    applied = _Applied(node_map)
    if node_of(node_map, "TriggerSelector") is not None:
        set_feature(node_map, "TriggerSelector", ours, "trigger_selector")
    applied.put("TriggerMode", "On", "trigger")
    applied.put("TriggerSource", settings["trigger_source"] or "Software", "trigger_source")
    if settings.get("trigger_activation"):
        applied.put("TriggerActivation", settings["trigger_activation"], "trigger_activation")
    if settings.get("trigger_delay_us") is not None:
        applied.put("TriggerDelay", float(settings["trigger_delay_us"]), "trigger_delay_us")
    applied.compare()


def _switch_others_off(node_map: Any, ours: str) -> None:
    selectors = symbolics(node_map, "TriggerSelector")
    if not selectors:
        if not ours:
            set_if_there(node_map, "TriggerMode", "Off")
        return
    for selector in selectors:
        if selector == ours:
            continue
        try:
            set_feature(node_map, "TriggerSelector", selector)
        except SetupError:  # listed, and not of this model: it cannot be on
            continue
        if value_of(node_map, "TriggerMode") != "Off":
            with suppress(SetupError):  # said below, with its selector
                set_if_there(node_map, "TriggerMode", "Off")
        if (mode := value_of(node_map, "TriggerMode")) not in ("Off", None):
            raise SetupError(
                f"TriggerMode[TriggerSelector={selector}] = Off",
                f"{mode}, which the camera does not let go of: no frame would ever come",
                "switch it off in the camera's own tool",
            )


def _set_chunks(node_map: Any, settings: dict[str, Any]) -> None:
    """Have each frame carry its own id, time and exposure, as far as the camera can."""
    if not settings.get("chunk_data"):
        return
    set_feature(node_map, "ChunkModeActive", True)
    there = [name for name in CHUNKS if name in symbolics(node_map, "ChunkSelector")]
    for name in there:
        set_feature(node_map, "ChunkSelector", name)
        set_if_there(node_map, "ChunkEnable", True)
    if not there:
        raise SetupError(
            f"a camera with chunk data out of {', '.join(CHUNKS)}", "none of them", "take source.chunk_data out"
        )


class ExposureCheck:
    """Whether a frame was exposed as long as was set, by its own word (ChunkExposureTime, us)."""

    def __init__(self, node_map: Any, settings: dict[str, Any]) -> None:
        self._wanted_us: float | None = settings.get("exposure_us") if settings.get("chunk_data") else None
        self._node: Any = None
        if self._wanted_us is not None and "ExposureTime" in symbolics(node_map, "ChunkSelector"):
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
