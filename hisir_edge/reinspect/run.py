"""Boards of archives under another bundle, from list to report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hisir_edge.bundle.load import manifest_from_folder
from hisir_edge.bundle.lock import sole_writer
from hisir_edge.errors import InputError
from hisir_edge.images import check_apart
from hisir_edge.reinspect.boards import BoardRef, boards_in, is_remote
from hisir_edge.reinspect.decided import confirmed_defects
from hisir_edge.reinspect.report import Figures, figures_of, write_report
from hisir_edge.reinspect.row import Row
from hisir_edge.reinspect.workers import Workers

Advance = Callable[[int, int], None]
MOST_ON_RAY = 1024


class Inspecting(Protocol):
    """Workers, wherever they are."""

    def rows(self, boards: Iterator[BoardRef]) -> Iterator[Row]:
        """The rows of boards, as they are ready; no more boards are taken than there are workers."""
        ...


@dataclass(frozen=True, slots=True)
class Reinspected:
    """``figures``: what has changed; ``page``: the report."""

    figures: Figures
    page: Path


def reinspect(
    archives: Sequence[str], bundle: Path, out: Path, camera: str, workers: int, journals: Sequence[Path],
    on: Advance, ray: str = "",
) -> Reinspected:  # fmt: skip
    """Inspect all boards of archives with a bundle; tables and report into ``out``, from where it was broken off.

    ``ray``: a cluster's address, or auto; empty: ``workers`` processes of this machine. InputError for archives,
    bundle, folder or cluster that cannot be.
    """
    try:
        from hisir_edge.reinspect.table import Table
    except ModuleNotFoundError as error:
        raise InputError(
            expected="the package pyarrow", received="none", fix="pip install 'hisir-edge[reinspect]'"
        ) from error
    check_apart("--out", out, {bundle, *(Path(one) for one in archives if not is_remote(one))})
    manifest = manifest_from_folder(bundle)
    confirmed = confirmed_defects(journals)
    boards = boards_in(archives)
    with sole_writer(out, "re-inspection"):
        table = Table(out, manifest.seal_sha256, camera)
        todo = [board for board in boards if board.key not in table.done]
        on(len(boards) - len(todo), len(boards))
        if todo:
            with _workers(bundle, camera, min(workers, len(todo)), ray, manifest.seal_sha256) as inspecting:
                try:
                    for n, row in enumerate(inspecting.rows(iter(todo)), len(boards) - len(todo) + 1):
                        table.add(row)
                        on(n, len(boards))
                finally:
                    table.flush()
        whole = table.finish()
        figures = figures_of(whole, confirmed)
        by_key = {board.key: board for board in boards}

        def pictures(keys: Sequence[str]) -> dict[str, bytes]:
            wanted = [by_key[key] for key in keys if key in by_key]
            if not wanted:
                return {}
            with Workers(bundle, camera, 1, manifest.seal_sha256) as one:  # what ends it ends no report
                drawn = {board.key: one.picture(board) for board in wanted}
            return {key: data for key, data in drawn.items() if data}

        return Reinspected(figures, write_report(whole, figures, _title(manifest), out, pictures))


def _workers(bundle: Path, camera: str, count: int, ray: str, seal: str) -> AbstractContextManager[Inspecting]:
    if not ray:
        return Workers(bundle, camera, count, seal)
    try:
        from hisir_edge.reinspect.on_ray import RayWorkers
    except ModuleNotFoundError as error:
        raise InputError(
            expected="the package ray", received="none", fix="pip install 'hisir-edge[ray]', on every machine"
        ) from error
    return RayWorkers(bundle, camera, ray, min(count, MOST_ON_RAY), seal)


def _title(manifest: Any) -> str:
    return f"{manifest.product}: boards inspected again with {manifest.backbone} {manifest.precision}"
