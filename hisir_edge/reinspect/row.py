"""One archived board under another bundle: the old verdict and the new one as a row of a table."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hisir_edge.archive.board_file import ArchivedBoard, View
from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.errors import BundleError, HisirEdgeError, NotJudgedError
from hisir_edge.geometry.box import BoxXYWH, meet
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.inspection.overlay import overlay_jpeg
from hisir_edge.inspection.selftest import self_test
from hisir_edge.inspection.verdict import error_judgement
from hisir_edge.mes.verdict import Defect, Verdict
from hisir_edge.records import Region, Result
from hisir_edge.reinspect.boards import BoardRef, Unreadable, content_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a table has of a board; the same whoever inspects it, but for ``seconds``.

    ``priorities``: of the old verdict's defects on this camera, by which people name them; ``lost``: of these, no new
    region meets them; ``fresh``: numbers of new regions, the strongest is 1, that no old defect meets. ``old_parts``,
    ``new_parts``: the components named, sorted, with commas. ``again``: the board was out of reach, and is tried by the
    next run.
    """

    archive: str
    name: str
    epoch: str
    seq: int
    line: str = ""
    unit: str = ""
    product: str = ""
    camera: str = ""
    grabbed_at: str = ""
    old_bundle: str = ""
    old_result: str = ""
    old_score: float | None = None
    old_defects: int = 0
    old_parts: str = ""
    new_result: str = "ERROR"
    new_score: float | None = None
    new_defects: int = 0
    new_parts: str = ""
    new_boxes: str = "[]"
    reason: str = ""
    lost: list[int] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)
    priorities: list[int] = field(default_factory=list)
    seconds: float = 0.0
    again: bool = False
    """Not inspected for a reason that may pass: the next run tries it again."""

    def as_dict(self) -> dict[str, Any]:
        """By column, as every table takes it."""
        return {name: _text(value) if isinstance(value, str) else value for name, value in asdict(self).items()}


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def error_row(board: BoardRef, reason: str, again: bool = False) -> Row:
    """The row of a board that was not inspected; ``again``: see ``Row``."""
    return Row(archive=board.archive, name=board.name, epoch=board.epoch, seq=board.seq, old_result=board.result,
               reason=reason[:400], again=again)  # fmt: skip


class Inspection:
    """A bundle on one thread, for board after board. ``camera``: which of several; empty: the first."""

    def __init__(self, bundle: Path, camera: str = "", threads: int = 1, seal: str = "") -> None:
        """``seal``: of the manifest that it is to be; BundleError where another bundle lies there meanwhile."""
        self.camera = camera
        loaded = load_bundle(bundle)
        if seal and loaded.manifest.seal_sha256 != seal:
            raise BundleError(
                expected=f"the bundle that {bundle} was at the beginning", received="another one", fix="put it back"
            )
        self.inspector: BoardInspector = inspector_from_bundle(loaded, threads)
        self.inspector.look_first(guarded=False)
        self_test(self.inspector)
        self.inspector.look_first()
        self.inspector.watch_optics()

    def close(self) -> None:
        """End its threads."""
        self.inspector.close()

    def row(self, board: BoardRef) -> Row:
        """A board's row; whatever its file does, it is this board's ERROR alone."""
        try:
            with ArchivedBoard(content_of(board), board.key) as archived:
                return self._row(board, archived)
        except Unreadable as error:
            return error_row(board, str(error), again=True)
        except (HisirEdgeError, NotJudgedError) as error:
            return error_row(board, str(error))
        except Exception as error:  # a codec, memory: the others go on
            return error_row(board, f"{type(error).__name__}: {error}")

    def drawn(self, board: BoardRef) -> bytes:
        """A board as it is judged now, a JPEG; empty where it cannot be inspected."""
        try:
            with ArchivedBoard(content_of(board), board.key) as archived:
                frame = archived.frame(self._view(archived))
                return overlay_jpeg(frame.rgb, self.inspector.inspect(frame), archived.facts.unit)
        except Exception:  # its row has the reason
            return b""

    def _view(self, archived: ArchivedBoard) -> View:
        for view in archived.facts.views:
            if self.camera in ("", view.camera):
                return view
        names = ", ".join(view.camera for view in archived.facts.views) or "none"
        raise NotJudgedError(f"expected a frame of the camera {self.camera}; got {names}")

    def _row(self, board: BoardRef, archived: ArchivedBoard) -> Row:
        facts, start = archived.facts, time.perf_counter()
        old = verdict_of(archived.verdict)
        view = self._view(archived)
        manifest = self.inspector.bundle.manifest
        if facts.product != manifest.product:
            judged = error_judgement(f"a board of the product {facts.product}; the bundle is {manifest.product}")
        else:
            judged = self.inspector.inspect(archived.frame(view))
        before = [defect for defect in old.defects if defect.camera == view.camera]
        lost, fresh = compared(before, judged.regions)
        is_called = judged.result is not Result.ERROR
        return Row(
            archive=board.archive, name=board.name, epoch=facts.epoch, seq=facts.seq, line=facts.line, unit=facts.unit,
            product=facts.product, camera=view.camera, grabbed_at=facts.grabbed_at, old_bundle=facts.bundle_sha256,
            old_result=facts.result, old_score=old.score, old_defects=len(before),
            priorities=[defect.priority for defect in before],
            old_parts=",".join(sorted({defect.component for defect in before} - {""})),
            new_result=judged.result.value, new_score=None if judged.score is None else round(judged.score, 4),
            new_defects=judged.regions_total, new_parts=",".join(sorted({r.component for r in judged.regions} - {""})),
            new_boxes=json.dumps([[*region.box_xywh, round(region.peak, 4)] for region in judged.regions]),
            reason=judged.reason[:400], lost=lost if is_called else [], fresh=fresh,
            seconds=round(time.perf_counter() - start, 4),
        )  # fmt: skip


def verdict_of(text: bytes) -> Verdict:
    """A verdict as it was published; ValueError for what is none."""
    body = json.loads(text)
    if not isinstance(body, dict):
        raise ValueError("a verdict that is no object")  # noqa: TRY004  # told as such
    return Verdict(topic="", text=text, mask=b"", body=body)


def compared(before: Sequence[Defect], now: Sequence[Region]) -> tuple[list[int], list[int]]:
    """(priorities of defects that no region meets, numbers of regions that no defect meets)."""
    old: list[tuple[int, BoxXYWH]] = [(one.priority, (one.x, one.y, one.w, one.h)) for one in before]
    lost = [number for number, box in old if not any(meet(box, region.box_xywh) for region in now)]
    fresh = [n for n, region in enumerate(now, 1) if not any(meet(box, region.box_xywh) for _, box in old)]
    return sorted(lost), fresh
