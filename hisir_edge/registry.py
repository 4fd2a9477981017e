"""Extension points. A new part is one file, and one line here (docs/how-to/extend.md).

Parts are named as ``package.module:attribute`` and loaded when they are asked for, so a line PC needs only the
packages of the parts it uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class CameraType:
    """``settings``: the pydantic model of its ``[source]`` table, a ``config.sources.SourceTable``.

    ``source``: what makes a ``camera.source.Source`` of them.
    """

    settings: str
    source: str


@dataclass(frozen=True, slots=True)
class Backbone:
    """``maker``: ``(in_channels, width) -> net.blocks.UShape``; ``default_width``: its channels on the first level."""

    maker: str
    default_width: int


@dataclass(frozen=True, slots=True)
class BundleTarget:
    """A way to run a bundle's network.

    ``inspector``: ``(bundle, threads) -> inspection.board.BoardInspector``. ``graph``: the kernels that its int8 graph
    is made for. ``compiler``: ``(target) -> engine.compiler.Compiler``; empty where the ONNX file itself is run.
    ``for_other_gpus``: whether it compiles for GPUs that are not in this machine (``--gpu-arch``).
    """

    inspector: str
    graph: Literal["cpu", "gpu"]
    compiler: str = ""
    for_other_gpus: bool = False


CAMERAS = {
    "replay": CameraType("hisir_edge.config.from_files:ReplaySource", "hisir_edge.camera.replay:ReplayCamera"),
    "calls": CameraType("hisir_edge.config.from_files:CallsSource", "hisir_edge.camera.calls.source:CallsCamera"),
    "genicam": CameraType("hisir_edge.config.sources:GenicamSource", "hisir_edge.camera.process_host:GenicamCamera"),
    "aravis": CameraType("hisir_edge.config.sources:AravisSource", "hisir_edge.camera.process_host:GenicamCamera"),
    "viva": CameraType("hisir_edge.config.sources:VivaSource", "hisir_edge.camera.process_host:GenicamCamera"),
}
"""By ``source.type`` of line.toml."""

BACKBONES = {
    "unet": Backbone("hisir_edge.net.backbones.unet:unet", 24),
    "nafnet": Backbone("hisir_edge.net.backbones.nafnet:nafnet", 48),
    "rep": Backbone("hisir_edge.net.backbones.rep:rep", 48),
}
"""By ``train --backbone``."""

SINKS = {
    "jsonl": "hisir_edge.mes.sinks.jsonl:JsonlSink",
    "sqlite": "hisir_edge.mes.sinks.sqlite:SqliteSink",
    "postgres": "hisir_edge.mes.sinks.postgres:PostgresSink",
    "mqtt": "hisir_edge.mes.sinks.mqtt:MqttSink",
    "webhook": "hisir_edge.mes.sinks.webhook:WebhookSink",
    "cfx": "hisir_edge.mes.sinks.cfx:CfxSink",
}
"""By ``forward --to``: ``(target, on_retry) -> mes.sinks.base.Sink``."""

TENSORRT = "hisir_edge.engine.tensorrt.compiler:TensorRtCompiler"
TARGETS = {
    "onnxruntime": BundleTarget("hisir_edge.backends:onnxruntime_inspector", "cpu"),
    "tensorrt": BundleTarget("hisir_edge.backends:tensorrt_inspector", "gpu", TENSORRT),
    "tensorrt-rtx": BundleTarget("hisir_edge.backends:tensorrt_inspector", "gpu", TENSORRT, for_other_gpus=True),
}
"""By ``build-engine --target``."""
