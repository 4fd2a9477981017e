"""The camera, or several as one, that a configuration names."""

from __future__ import annotations

from hisir_edge.camera.source import Source
from hisir_edge.config.tables import AravisSource, GenicamSource, ReplaySource, Settings


def source_from_settings(settings: Settings) -> Source:
    """The source that the configuration names, or several as one; nothing is opened yet."""
    first = _source(settings.source)
    if not settings.also:
        return first
    from hisir_edge.camera.paired import Views

    return Views([first, *(_source(view.source) for view in settings.also)], settings.line.pair_ms / 1e3)


def _source(settings: ReplaySource | GenicamSource | AravisSource) -> Source:
    if isinstance(settings, ReplaySource):
        from hisir_edge.camera.replay import ReplayCamera

        return ReplayCamera(settings)
    from hisir_edge.camera.process_host import GenicamCamera

    return GenicamCamera(settings)
