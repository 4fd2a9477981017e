"""The camera, or several as one, that a configuration names."""

from __future__ import annotations

from hisir_edge.by_name import part
from hisir_edge.camera.paired import Views
from hisir_edge.camera.source import Source
from hisir_edge.config.sources import AnySource
from hisir_edge.config.tables import Settings
from hisir_edge.registry import CAMERAS


def source_from_settings(settings: Settings) -> Source:
    """The source that the configuration names, or several as one; nothing is opened yet."""
    first = _source(settings.source)
    if not settings.also:
        return first
    return Views([first, *(_source(view.source) for view in settings.also)], settings.line.pair_ms / 1e3)


def _source(settings: AnySource) -> Source:
    made: Source = part(CAMERAS[settings.type].source)(settings)
    return made
