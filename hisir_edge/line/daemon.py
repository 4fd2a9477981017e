"""The daemon's spine: start up, one verdict per frame until told to stop, shut down."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import structlog

from hisir_edge.config import GenicamSource, OutputTable, Settings
from hisir_edge.engine.bundle import Bundle, check_private, load_bundle
from hisir_edge.engine.load import inspector_from_bundle
from hisir_edge.errors import InputError, PublishError
from hisir_edge.images import write_atomic
from hisir_edge.line.board import BoardInspector, error_judgement, in_flight
from hisir_edge.line.grab import EndOfFrames, Source, source_from_settings
from hisir_edge.line.heap import return_freed_memory
from hisir_edge.line.overlay import overlay_jpeg
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.line.publish import Message, Publisher, Recipe, message_from_judgement, stamped
from hisir_edge.line.selftest import self_test
from hisir_edge.records import Frame, GrabFault, Judgement, Result

log = structlog.get_logger()

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run of the daemon came to: verdicts by result."""

    verdicts: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Verdict:
    """An item, what was made of it, and how that goes over the wire."""

    seq: int
    item: Frame | GrabFault
    judgement: Judgement
    message: Message = field(repr=False)


def run(settings: Settings) -> Summary:
    """Inspect frames until the source ends or SIGTERM/SIGINT; every frame taken gets one verdict."""
    return_freed_memory()
    folder = Path(settings.bundle.path)
    if "INVOCATION_ID" in os.environ and folder.is_dir():  # set by systemd for its services
        check_private(folder)
    bundle = load_bundle(folder)
    inspector = inspector_from_bundle(bundle, settings.infer.threads)
    _check_source(settings, bundle)
    self_test(inspector)
    recipe = Recipe(settings.line.name, uuid.uuid4().hex, bundle.manifest.product, bundle.manifest_sha256)
    _prepare_output(settings.output)
    with (
        _stop_on_signal() as stop,
        Publisher(settings.publish) as publisher,
        source_from_settings(settings.source) as source,
    ):
        _log_ready(settings, bundle)
        _wait_for_subscribers(publisher, settings, stop)
        verdicts = _inspect_until_stopped(source, inspector, publisher, recipe, settings, stop)
    log.info("stopped", **verdicts)
    return Summary(dict(verdicts))


def _check_source(settings: Settings, bundle: Bundle) -> None:
    """InputError for a camera that is set to another size than the bundle's: each frame would be an ERROR."""
    source = settings.source
    h, w = bundle.recipe.frame_hw
    if isinstance(source, GenicamSource) and (source.width or w, source.height or h) != (w, h):
        raise InputError(
            expected=f"source.width and source.height of {w}x{h}, for which the bundle was built",
            received=f"{source.width or w}x{source.height or h}",
            fix="correct them, or leave them out",
        )


def _inspect_until_stopped(
    source: Source, inspector: BoardInspector, publisher: Publisher, recipe: Recipe, settings: Settings, stop: Event
) -> Counter[str]:
    verdicts: Counter[str] = Counter()

    def inspected(inspector: BoardInspector, taken: tuple[int, Frame | GrabFault]) -> _Verdict:
        seq, item = taken
        judgement = judge(inspector, item)
        return _Verdict(seq, item, judgement, _encoded(recipe, seq, item, judgement))

    def out(verdict: _Verdict) -> None:
        _publish(publisher, verdict)
        verdicts[verdict.message.body["result"]] += 1
        _keep_overlay(settings.output, verdict.item, verdict.judgement, verdict.seq)

    with Pipeline(in_flight(inspector, settings.infer.slots), inspected, out) as pipeline:
        seq = 0
        while not stop.is_set() and not pipeline.failed:
            try:
                item = source.next(POLL_S)
            except EndOfFrames:
                break
            if item is not None:
                seq += 1
                pipeline.put((seq, item))
    return verdicts


def judge(inspector: BoardInspector, item: Frame | GrabFault) -> Judgement:
    """One judgement for whatever the source gave; never raises, never PASS for the unexpected."""
    if isinstance(item, GrabFault):
        return error_judgement(item.reason)
    try:
        return inspector.inspect(item.rgb)
    except Exception as error:
        log.exception("inspection failed", frame_id=item.frame_id, unit=item.unit)
        return error_judgement(f"inspection failed: {type(error).__name__}: {error}")


def _encoded(recipe: Recipe, seq: int, item: Frame | GrabFault, judgement: Judgement) -> Message:
    """A verdict as it goes over the wire; one that cannot be encoded is an ERROR under the same number."""
    try:
        message = message_from_judgement(recipe, seq, item, judgement)
        message.frames()
    except Exception as error:
        log.exception("verdict could not be encoded", seq=seq)
        return message_from_judgement(recipe, seq, item, error_judgement(f"verdict could not be encoded: {error}"))
    return message


def _publish(publisher: Publisher, verdict: _Verdict) -> None:
    publisher.send(stamped(verdict.message).frames())
    body = verdict.message.body
    level = log.info if body["result"] == Result.PASS.value else log.warning
    level(
        "verdict", seq=verdict.seq, result=body["result"], unit=body["unit"], frame_id=body["frame_id"],
        regions=body["regions_total"], total_s=body["times_s"]["total"], reason=body["reason"],
    )  # fmt: skip


def _prepare_output(output: OutputTable) -> None:
    if output.overlay_folder:
        try:
            Path(output.overlay_folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                expected="a writable output.overlay_folder",
                received=f"{output.overlay_folder} ({error.strerror})",
                fix="correct it",
            ) from error


def _keep_overlay(output: OutputTable, item: Frame | GrabFault, judgement: Judgement, seq: int) -> None:
    """Write the picture if asked for; a disk that refuses costs the picture, never the verdict."""
    wanted = output.overlay_of == "all" or judgement.result is not Result.PASS
    if not output.overlay_folder or not wanted or not isinstance(item, Frame):
        return
    name = f"{seq:06d}_{_safe(item.unit)}_{judgement.result.value}.jpg"
    try:
        write_atomic(Path(output.overlay_folder) / name, overlay_jpeg(item.rgb, judgement, item.unit))
    except Exception as error:  # memory, a codec, the disk: whatever it is
        log.error("overlay not written", error=f"{type(error).__name__}: {error}")


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:80]


def _wait_for_subscribers(publisher: Publisher, settings: Settings, stop: Event) -> None:
    """Hold the first frame until the wanted subscribers are there (PUB would lose its verdict)."""
    wanted = settings.publish.wait_for_subscribers
    deadline = time.monotonic() + settings.publish.wait_timeout_s
    while not stop.is_set() and publisher.count_subscribers(100) < wanted:
        if time.monotonic() > deadline:
            raise PublishError(
                expected=f"{wanted} subscriber(s) within {settings.publish.wait_timeout_s:g} s",
                received=str(publisher.subscribers),
                fix="start the subscribers first or lower publish.wait_for_subscribers",
            )


def _log_ready(settings: Settings, bundle: Bundle) -> None:
    manifest = bundle.manifest
    log.info(
        "ready", line=settings.line.name, product=manifest.product, bundle=bundle.manifest_sha256[:12],
        precision=manifest.precision, endpoint=settings.publish.endpoint, source=settings.source.type,
    )  # fmt: skip


@contextmanager
def _stop_on_signal() -> Iterator[Event]:
    """SIGTERM and SIGINT set the event; the frame in hand is still judged and published."""
    stop = Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
