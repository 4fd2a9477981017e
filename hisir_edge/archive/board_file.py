"""One archived board, one ZIP file: the frames as they were inspected, the verdict, and what the verdict came from.

``board.json`` says what else is in it: ``verdict.json`` and ``mask.png`` as they were published, and of each camera a
picture (PNG: as the camera gave it, to the bit; JPEG: in colours) and, where the board was judged, its ``Evidence`` as
.npz.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from hisir_edge.arrays import u8
from hisir_edge.errors import InputError
from hisir_edge.images.pixels import CONVERSIONS, Pixels
from hisir_edge.inspection.windows import PATCH_PX
from hisir_edge.json_once import loads_once
from hisir_edge.records import Evidence, Frame, Judgement, by_camera

SCHEMA = "hisir-edge/archive/1.0"
FACTS, VERDICT, MASK = "board.json", "verdict.json", "mask.png"
JPEG_QUALITY = 95
QUICK_PNG = (
    cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP,
)  # fmt: skip
"""0.4 of the time of level 1 alone, and fewer bytes: a photo's noise has no repetitions to be looked for."""
Format = Literal["jpeg", "png"]
DAMAGED = "damaged"
"""The code of the error for a board's file that is none."""
LEAST_DETERMINANT = 1e-9
DAMAGE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile, cv2.error, EOFError, RuntimeError,
    zlib.error,
)  # fmt: skip
"""What reading a file raises that is damaged, or none of ours."""
MOST_BYTES = 1 << 30
"""Of a member: what claims to be larger is no board of ours."""


@dataclass(frozen=True, slots=True)
class View:
    """One camera's part of an archived board; ``evidence``: name of its member, empty where it was not judged."""

    camera: str
    frame_id: int
    picture: str
    pixel_format: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What ``board.json`` says."""

    line: str
    epoch: str
    seq: int
    unit: str
    product: str
    bundle_sha256: str
    result: str
    grabbed_at: str
    views: tuple[View, ...] = field(default=())


def board_bytes(verdict: bytes, mask_png: bytes, frame: Frame, judgement: Judgement, kind: Format) -> bytes:
    """The file of one board. ``verdict``: its JSON as published."""
    body = json.loads(verdict)
    views, members = [], []
    frames = (frame, *frame.more)
    for number, (one, (camera, judged)) in enumerate(zip(frames, _parts(frame, judgement), strict=True)):
        name, pixel_format, data = _picture(one.image, kind)
        picture, evidence = f"{number}.{name}", f"{number}.npz" if judged.evidence is not None else ""
        members.append((picture, data))
        if judged.evidence is not None:
            members.append((evidence, _npz(judged.evidence)))
        views.append(
            {
                "camera": camera, "frame_id": one.frame_id, "picture": picture, "pixel_format": pixel_format,
                "evidence": evidence,
            }
        )  # fmt: skip
    unit = body["InspectedUnits"][0]
    facts = {
        "schema": SCHEMA, "line": body["line"], "epoch": body["epoch"], "seq": body["seq"],
        "unit": unit["UnitIdentifier"], "product": body["RecipeName"], "bundle_sha256": body["RecipeRevision"],
        "result": judgement.result.value,
        "grabbed_at": datetime.fromtimestamp(frame.grabbed_at_ns / 1e9, timezone.utc).isoformat(),
        "views": views,
    }  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        # what is small comes first, so that it is read without the pictures
        archive.writestr(FACTS, json.dumps(facts, separators=(",", ":")))
        archive.writestr(VERDICT, verdict)
        archive.writestr(MASK, mask_png)
        for name, data in sorted(members, key=lambda member: len(member[1])):
            archive.writestr(name, data)
    return out.getvalue()


def _parts(frame: Frame, judgement: Judgement) -> list[tuple[str, Judgement]]:
    """Of each camera, with its judgement; of a board that was not judged as a whole, the ERROR for each."""
    found = by_camera(frame, judgement)
    frames = (frame, *frame.more)
    return found if len(found) == len(frames) else [(one.source, judgement) for one in frames]


def _picture(image: Pixels, kind: Format) -> tuple[str, str, bytes]:
    """File type, pixel format and bytes of a picture."""
    as_it_is = image.data.ndim == 2 and (kind == "png" or image.pixel_format == "Mono8")
    pixel_format = image.pixel_format if as_it_is else "RGB8"
    data = image.data if as_it_is else cv2.cvtColor(image.rgb, cv2.COLOR_RGB2BGR)
    name, how = ("png", QUICK_PNG) if kind == "png" else ("jpg", (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    ok, encoded = cv2.imencode(f".{name}", data, how)
    if not ok:
        raise InputError(expected="an encodable frame", received=f"{image.hw}", fix="report this as a fault")
    return name, pixel_format, encoded.tobytes()


def _npz(evidence: Evidence) -> bytes:
    out = io.BytesIO()
    arrays: dict[str, Any] = {
        "cells_yx": evidence.cells_yx, "scores": evidence.scores, "highest": evidence.highest
    }  # fmt: skip
    if evidence.matrix is not None:
        arrays["matrix"] = evidence.matrix
    if evidence.bend is not None:
        arrays["bend"] = evidence.bend
    np.savez(out, **arrays)  # compressed it is a quarter smaller, and read ten times as slowly
    return out.getvalue()


def evidence_from_npz(data: bytes) -> Evidence:
    """Evidence of its member's bytes; ValueError, or what NumPy and zipfile raise, for what is none."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        cells, scores, highest = stored["cells_yx"], stored["scores"], stored["highest"]
        known = cells.shape == (len(scores), 2) and scores.shape[1:] == (PATCH_PX, PATCH_PX)
        known = known and highest.shape == (len(scores),)
        if not known or not np.isfinite(scores).all() or not np.isfinite(highest).all():
            raise ValueError("other scores than expected")
        matrix = stored["matrix"] if "matrix" in stored.files else None
        bend = stored["bend"] if "bend" in stored.files else None
        whole = matrix is None or (matrix.shape == (3, 3) and np.isfinite(matrix).all())
        if not whole or (matrix is not None and not abs(np.linalg.det(matrix)) > LEAST_DETERMINANT):
            raise ValueError("no pose")
    return Evidence(
        cells_yx=cells.astype(np.int32), scores=scores.astype(np.float32), highest=highest.astype(np.float32),
        matrix=matrix, bend=bend,
    )  # fmt: skip


class ArchivedBoard:
    """One board's file, opened; InputError, which names it, for what is damaged or none of ours."""

    def __init__(self, source: Path | bytes, name: str = "") -> None:
        self._name = name or (str(source) if isinstance(source, Path) else "an archived board")
        with damage_told(self._name):
            self._file = zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source))
            self.facts = facts_from_json(self._read(FACTS))

    def __enter__(self) -> ArchivedBoard:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    @property
    def verdict(self) -> bytes:
        """The verdict's JSON as it was published."""
        with damage_told(self._name):
            return self._read(VERDICT)

    @property
    def mask_png(self) -> bytes:
        """The verdict's mask as it was published, empty where nothing is marked."""
        with damage_told(self._name):
            return self._read(MASK)

    def picture(self, view: View) -> bytes:
        """A camera's picture as stored, PNG or JPEG."""
        with damage_told(self._name):
            return self._read(view.picture)

    def frame(self, view: View) -> Pixels:
        """A camera's frame, as it was inspected (PNG), or nearly so (JPEG)."""
        return frame_from_picture(self.picture(view), view, self._name)

    def evidence(self, view: View) -> Evidence | None:
        """What a camera's judgement came from; None where it was not judged, or its backend does not give it."""
        if not view.evidence:
            return None
        with damage_told(self._name):
            return evidence_from_npz(self._read(view.evidence))

    def member(self, name: str) -> bytes:
        """A member's bytes; InputError where there is none."""
        with damage_told(self._name):
            return self._read(name)

    def _read(self, name: str) -> bytes:
        if self._file.getinfo(name).file_size > MOST_BYTES:
            raise ValueError(f"{name} of more than {MOST_BYTES >> 20} MiB")
        return self._file.read(name)


def frame_from_picture(data: bytes, view: View, name: str) -> Pixels:
    """A camera's frame of its picture's bytes; InputError, which names the board, for what is none."""
    with damage_told(name):
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None or found.dtype != np.uint8 or view.pixel_format not in CONVERSIONS:
            raise ValueError("no picture of 8 bits")
        if (1 if found.ndim == 2 else found.shape[2]) != CONVERSIONS[view.pixel_format][0]:
            raise ValueError(f"no picture in {view.pixel_format}")
        if found.ndim == 3:
            found = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
        return Pixels(u8(np.asarray(found)), view.pixel_format)


@contextmanager
def damage_told(name: str) -> Iterator[None]:
    """InputError, which names the board, for what is damaged or none of ours."""
    try:
        yield
    except DAMAGE as error:
        raise InputError(
            expected=f"{name} as the line wrote it",
            received=f"{type(error).__name__}: {error}"[:200],
            fix="copy it again, or leave it out",
            code=DAMAGED,
        ) from error


def facts_from_json(text: bytes) -> Facts:
    """What ``board.json`` says; ValueError, LookupError or TypeError for what is none."""
    raw = loads_once(text)
    if raw.pop("schema") != SCHEMA:
        raise ValueError(f"another schema than {SCHEMA}")
    views = tuple(View(**view) for view in raw.pop("views"))
    known = {name: raw[name] for name in Facts.__slots__ if name != "views"}
    if not isinstance(known["seq"], int) or not all(isinstance(v, str) for k, v in known.items() if k != "seq"):
        raise ValueError("facts of another kind")
    return Facts(**known, views=views)
