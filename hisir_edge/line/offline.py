"""Inspects picture files without a line: the verdicts and pictures the daemon would give."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bundle.load import Recipe, load_bundle
from hisir_edge.camera.calls.sheet import answer_name
from hisir_edge.camera.calls.source import CallsCamera
from hisir_edge.config.from_files import CallsSource
from hisir_edge.errors import InputError, NotJudgedError
from hisir_edge.images import check_apart, mask_png_bytes, pictures_in, read_pixels, write_atomic
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.inspection.calls.answer import CallRules, answered, unanswered
from hisir_edge.inspection.calls.crops import with_crops_laid
from hisir_edge.inspection.overlay import overlay_jpeg
from hisir_edge.inspection.selftest import self_test
from hisir_edge.inspection.verdict import error_judgement, fail_closed, frame_of
from hisir_edge.line.reporting.answers import answers_of, csv_of_answers, json_of_answers
from hisir_edge.line.sockets.message import message_from_judgement, provenance_from_manifest
from hisir_edge.records import CallSheet, Frame, GrabFault, Judgement


def files_to_inspect(images: list[Path], recursive: bool = False) -> tuple[list[Path], list[str]]:
    """(picture files of files and folders in order, in plain words what was left out of the folders)."""
    files: list[Path] = []
    left_out = []
    for path in images:
        if path.is_dir():
            found = pictures_in(path, recursive)
            files += found.paths
            left_out += [found.left_out] if found.left_out else []
        else:
            files.append(path)
    return files, left_out


def _names(files: list[Path]) -> list[str]:
    """Output names, no two alike: the stem, or with the file's place in the list where others share it."""
    count = Counter(file.stem for file in files)
    used = {stem for stem, times in count.items() if times == 1}
    names = []
    for number, file in enumerate(files, 1):
        name = file.stem
        if count[name] > 1:
            name = f"{number:04d}_{file.stem}"
            while name in used:  # a file may be called so itself
                name = f"{number:04d}_{name}"
            used.add(name)
        names.append(name)
    return names


def inspect_files(
    bundle_folder: Path, files: list[Path], out: Path, threads: int = 0
) -> Iterator[tuple[str, Judgement]]:
    """Inspect files in order; writes NAME.json, NAME_mask.png, NAME_overlay.jpg; yields (path, judgement).

    A file that cannot be read or judged is an ERROR verdict with its reason.
    """
    check_apart("--out", out, {path.parent for path in files})
    bundle = load_bundle(bundle_folder)
    inspector = inspector_from_bundle(bundle, threads)
    inspector.look_first(guarded=False)
    self_test(inspector)
    inspector.look_first()
    inspector.watch_optics()
    provenance = provenance_from_manifest("inspect", uuid.uuid4().hex, bundle.manifest, bundle.manifest_sha256)
    _make_folder(out)
    for seq, (file, name) in enumerate(zip(files, _names(files), strict=True), 1):
        item = _read(file, seq, bundle.recipe)
        judgement = fail_closed(partial(_inspected, inspector, item), error_judgement)
        message = message_from_judgement(provenance, seq, item, judgement)
        write_atomic(out / f"{name}.json", json.dumps(message.body, indent=1).encode())
        if judgement.mask is not None:
            write_atomic(out / f"{name}_mask.png", message.mask_png or mask_png_bytes(judgement.mask))
        if isinstance(item, Frame):
            write_atomic(out / f"{name}_overlay.jpg", overlay_jpeg(item.rgb, judgement, file.name))
        yield str(file), judgement


def answer_deliveries(
    bundle_folder: Path, source: CallsSource, out: Path, threads: int = 0
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Answer another machine's calls that lie in a folder, which stays as it is; writes NAME.json; yields (NAME, that).

    A board that cannot be read or judged is one whose calls are unsure, with the reason.
    """
    check_apart("--out", out, {Path(source.folder)})
    if any(out.glob("*.json")):
        raise InputError(expected="an --out folder without answers", received=f"{out}", fix="name a new one")
    bundle = load_bundle(bundle_folder)
    source = source.model_copy(update={"levels": bundle.recipe.levels})
    inspector = inspector_from_bundle(bundle, threads)
    self_test(inspector)
    inspector.watch_optics()
    inspector.keep_evidence()
    rules = CallRules(source.false_below, source.margin_px, source.elsewhere == "fail")
    provenance = provenance_from_manifest("calls", uuid.uuid4().hex, bundle.manifest, bundle.manifest_sha256)
    _make_folder(out)
    with CallsCamera(source) as camera:
        while (item := camera.next(0.0)) is not None:
            judged = fail_closed(partial(_answered, inspector, item, rules), partial(_not_answered, item))
            body = message_from_judgement(provenance, camera.frame_id, *judged).body
            name = body["vision"]["calls"]["delivery"]
            if name.lower().endswith(".csv"):
                write_atomic(out / name, csv_of_answers(body))
            write_atomic(out / answer_name(name), json_of_answers(body))
            yield name, answers_of(body)


def _answered(
    inspector: BoardInspector, item: Frame | GrabFault, rules: CallRules
) -> tuple[Frame | GrabFault, Judgement]:
    frame = frame_of(with_crops_laid(inspector.bundle, frame_of(item)))
    sheet, manifest = frame.sheet or CallSheet(delivery="", sha256=""), inspector.bundle.manifest
    if sheet.product not in ("", manifest.product):
        raise NotJudgedError(f"unknown product {sheet.product}; the bundle is {manifest.product}")
    layers = [inspector.inspect(image) for image in (frame.image, *frame.layers)]
    return frame, answered(layers, sheet, rules, inspector.gain, manifest)


def _not_answered(item: Frame | GrabFault, reason: str) -> tuple[Frame | GrabFault, Judgement]:
    sheet = item.sheet or CallSheet(delivery="", sha256="")
    return item, unanswered(error_judgement(reason), sheet, reason)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            expected="a writable --out folder", received=f"{out} ({error.strerror})", fix="choose another"
        ) from error


def _inspected(inspector: BoardInspector, item: Frame | GrabFault) -> Judgement:
    return inspector.inspect(frame_of(item).image)


def _read(file: Path, number: int, recipe: Recipe) -> Frame | GrabFault:
    try:
        return Frame(
            image=read_pixels(file, recipe.frame_hw, recipe.rules),
            source="file",
            frame_id=number,
            unit=file.stem,
            grabbed_at_ns=time.time_ns(),
        )
    except InputError as error:
        return GrabFault(
            source="file", frame_id=number, unit=file.stem, reason=str(error), grabbed_at_ns=time.time_ns()
        )
