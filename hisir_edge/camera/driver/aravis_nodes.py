"""A camera's features as Aravis has them, with the names that genapi gives their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OF_THE_CONNECTION = (
    "GevCCP", "GevSCPHostPort", "GevSCDA", "GevMCPHostPort", "GevMCDA", "GevSCSP", "TLParamsLocked",
)  # fmt: skip
"""Features that can be written and are other ones at each connection (GigE Vision's bootstrap registers)."""
RO, WO, RW, NONE = 3, 2, 4, 1
"""Access modes as genapi numbers them."""


class Node:
    """A feature with the names that genapi gives its parts."""

    def __init__(self, aravis: Any, feature: Any) -> None:
        self._aravis, self._feature = aravis, feature

    @property
    def value(self) -> Any:
        """The value as text, number or bool."""
        if isinstance(self._feature, self._aravis.GcEnumeration):
            return str(self._feature.get_string_value())
        return self._feature.get_value()

    @value.setter
    def value(self, value: Any) -> None:
        if isinstance(self._feature, self._aravis.GcEnumeration):
            self._feature.set_string_value(value)
        else:
            self._feature.set_value(value)

    @property
    def symbolics(self) -> tuple[str, ...]:
        """The values that it can take."""
        return tuple(self._feature.dup_available_string_values())

    @property
    def min(self) -> Any:
        """The lowest value of a number."""
        return self._feature.get_min()

    @property
    def max(self) -> Any:
        """The highest value of a number."""
        return self._feature.get_max()

    @property
    def inc(self) -> Any:
        """The step of a number."""
        return self._feature.get_inc()

    def get_access_mode(self) -> int:
        """The access that is possible now."""
        feature = self._feature
        if not (feature.is_implemented() and feature.is_available()):
            return NONE
        mode = feature.get_actual_access_mode()
        if mode == self._aravis.GcAccessMode.RO or feature.is_locked():
            return RO
        return WO if mode == self._aravis.GcAccessMode.WO else RW

    @property
    def lasts(self) -> bool:
        """Whether it can be written, if not just now, then while nothing is acquired."""
        return bool(self._feature.is_implemented()) and (
            self._feature.get_imposed_access_mode() != self._aravis.GcAccessMode.RO
            and self._feature.get_actual_access_mode() != self._aravis.GcAccessMode.RO
        )

    def to_string(self) -> str:
        """Its value as text."""
        return str(self._feature.get_value_as_string())


class Nodes:
    """A camera's features by name; AttributeError for one that it does not have."""

    def __init__(self, aravis: Any, device: Any) -> None:
        self._aravis, self._device = aravis, device

    def __getattr__(self, name: str) -> Node:
        feature = self._device.get_feature(name)
        if feature is None or not isinstance(feature, self._aravis.GcFeatureNode):
            raise AttributeError(f"the camera has no {name}")
        return Node(self._aravis, feature)

    @property
    def nodes(self) -> list[Feature]:
        """Every feature below the root of the camera's tree, whatever its maker called it."""
        found: dict[str, Feature] = {}
        waiting = ["Root"]
        while waiting:
            node = self._device.get_feature(waiting.pop())
            if isinstance(node, self._aravis.GcCategory):
                waiting += [name for name in node.get_features() if name not in found]
            elif isinstance(node, self._aravis.GcFeatureNode):
                name = str(node.get_name())
                found[name] = Feature(name, self._lasts(name, node))
        return list(found.values())

    def _lasts(self, name: str, node: Any) -> bool:
        kinds = (self._aravis.GcCommand, self._aravis.GcRegisterNode)
        try:
            return name not in OF_THE_CONNECTION and not isinstance(node, kinds) and Node(self._aravis, node).lasts
        except Exception:  # what cannot be read is no setting
            return False


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of the tree, with the questions that genapi's have."""

    name: str
    lasts: bool

    def is_feature(self) -> bool:
        """Always."""
        return True

    def is_streamable(self) -> bool:
        """Whether it is a setting that lasts: one that can be written, and is not of the connection."""
        return self.lasts
