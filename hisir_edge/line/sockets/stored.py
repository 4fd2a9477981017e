"""Requests for archived boards and for the bundle that inspects: files, read piece by piece."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hisir_edge.archive.board_file import ArchivedBoard
from hisir_edge.archive.folder import ArchiveFolder
from hisir_edge.bundle.files import MANIFEST
from hisir_edge.bundle.integrity import sha256_of
from hisir_edge.errors import InputError, TryLater
from hisir_edge.line.assembly import InspectionLine
from hisir_edge.line.products import Product
from hisir_edge.line.sockets.control import FRAMES, Answer
from hisir_edge.line.sockets.requests import count_of, only, text_of
from hisir_edge.revisions.store import RevisionStore
from hisir_edge.transport.curve_keys import Client

MOST_LISTED = 1000
MOST_PIECE = 1 << 20
"""Bytes of a file in one answer."""


def stored_commands(
    line: InspectionLine, archive: ArchiveFolder | None, store: RevisionStore, epoch: str
) -> dict[str, Answer]:
    """``archived``, ``archived_board`` and ``bundle_file`` (docs/reference/control-socket.md)."""

    def archived(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "epoch", "after", "most")
        of = text_of(request, "epoch") or epoch
        after, most = count_of(request, "after", 0, 2**62), count_of(request, "most", MOST_LISTED, MOST_LISTED)
        found = _there(archive).after(of, after, most)
        boards = [{"seq": seq, "result": kept.result, "bytes": kept.bytes} for seq, kept in found]
        return {"epoch": of, "boards": boards}

    def archived_board(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "epoch", "seq", "member", "offset", "most")
        of, seq = text_of(request, "epoch") or epoch, count_of(request, "seq", 0, 2**62)
        kept = _there(archive).find(of, seq)
        if kept is None:
            raise InputError(
                expected="a board that is archived",
                received=f"{seq}, which is not, or not any more",
                fix="ask which are, with archived",
                code="unknown",
            )
        if member := text_of(request, "member"):
            return {"epoch": of, "seq": seq, **_piece_of(_member(kept.path, member), request)}
        return {"epoch": of, "seq": seq, **_piece(kept.path, request)}

    def bundle_file(request: dict[str, Any], client: Client) -> dict[str, Any]:
        only(request, "product", "camera", "bundle_sha256", "file", "offset", "most")
        name = text_of(request, "product") or line.selection.product
        product = _of_camera(line.selection.products.by_name.get(name), text_of(request, "camera"), line)
        wanted = text_of(request, "bundle_sha256") or product.bundle.manifest_sha256
        folder = _folder_of(wanted, product, line, store)
        with _readable(folder):
            manifest = (folder / MANIFEST).read_bytes()
        if hashlib.sha256(manifest).hexdigest() != wanted:
            raise TryLater(
                expected="the bundle that the line has loaded",
                received=f"another one in {folder}, which it has not",
                fix="reload the line",
                code="busy",
            )
        files = {MANIFEST, *json.loads(manifest)["files"]}
        file = text_of(request, "file") or MANIFEST
        if file not in files:
            raise InputError(
                expected=f"one of the bundle's files: {', '.join(sorted(files))}",
                received=file,
                fix="correct it",
                code="unknown",
            )
        return {"product": name, "bundle_sha256": wanted, "file": file, **_piece(folder / file, request)}

    return {"archived": archived, "archived_board": archived_board, "bundle_file": bundle_file}


def _folder_of(sha256: str, product: Product, line: InspectionLine, store: RevisionStore) -> Path:
    """Where a bundle lies: that which inspects, a revision, or a configured one that a revision stands for."""
    if sha256 == product.bundle.manifest_sha256:
        return product.bundle.folder
    revision = next((one.folder for one in store.all() if one.sha256 == sha256), None)
    if revision is not None:
        return revision
    settings = line.selection.products.settings
    for table in (settings.bundle, *(view.bundle for view in settings.also)):
        for path in map(Path, (table.path, *table.others)):
            with suppress(OSError):
                if sha256_of(path / MANIFEST) == sha256:
                    return path
    raise InputError(
        expected="a bundle that the line has: the one that inspects, a revision, or a configured one",
        received=sha256[:12],
        fix="ask without bundle_sha256 for the one that inspects",
        code="unknown",
    )


def _there(archive: ArchiveFolder | None) -> ArchiveFolder:
    if archive is None:
        raise InputError(
            expected="a line that archives its boards",
            received='archive.keep = "none"',
            fix="set it in line.toml",
            code="unknown",
        )
    return archive


def _of_camera(product: Product | None, camera: str, line: InspectionLine) -> Product:
    settings = line.selection.products.settings
    names = [settings.source.name, *(view.source.name for view in settings.also)]
    if product is None or (camera and camera not in names):
        raise InputError(
            expected=f"a product and a camera of the line ({', '.join(names)})",
            received="others",
            fix="ask status for the products",
            code="unknown",
        )
    return (product, *product.more)[names.index(camera) if camera else 0]


def _piece(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """``size`` of a file, and a piece of it behind the answer."""
    offset, most = count_of(request, "offset", 0, 2**62), count_of(request, "most", MOST_PIECE, MOST_PIECE)
    with _readable(path), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(min(offset, size))
        data = file.read(most)
    return {"size": size, "offset": min(offset, size), FRAMES: [data]}


def _piece_of(data: bytes, request: dict[str, Any]) -> dict[str, Any]:
    offset, most = count_of(request, "offset", 0, 2**62), count_of(request, "most", MOST_PIECE, MOST_PIECE)
    return {"size": len(data), "offset": min(offset, len(data)), FRAMES: [data[offset : offset + most]]}


def _member(path: Path, name: str) -> bytes:
    """A member of an archived board; InputError (unknown) where it has none of that name."""
    with _readable(path):
        try:
            with ArchivedBoard(path) as board:
                return board.member(name)
        except InputError as error:
            raise InputError(
                expected=f"a member of board {path.name}", received=name, fix="board.json names them", code="unknown"
            ) from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """InputError for a file that is gone or cannot be read."""
    try:
        yield
    except OSError as error:
        raise InputError(
            expected=f"to read {path.name}",
            received=error.strerror or str(error),
            fix="ask for another",
            code="unknown",
        ) from error
