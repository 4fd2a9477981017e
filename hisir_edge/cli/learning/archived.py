"""What ``hisir-edge train --data`` may name beside folders of pictures: the archives of lines."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hisir_edge.errors import InputError

if TYPE_CHECKING:
    from hisir_edge.learn.training.train import Before

NONE = "none"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Options of boards of archives."""

    journals: list[str]
    most: int
    product: str
    camera: str


def folders_to_learn(data: list[str], wanted: Wanted, out: Path) -> tuple[tuple[str, ...], Before | None]:
    """Folders of pictures, and what fills the one beside the run, OUT.boards, where some of ``data`` are archives.

    InputError for archives without a word of what people said about their boards.
    """
    from hisir_edge.learn.training.train import Before

    archives = tuple(dict.fromkeys(one if "://" in one else os.path.abspath(one) for one in data if is_archive(one)))  # noqa: PTH100
    folders = tuple(dict.fromkeys(str(Path(one).absolute()) for one in data if not is_archive(one)))
    if not archives:
        # of several machines that train together, one alone may see what --data names: it says what is wrong
        if (wanted.journals or wanted.product) and all(Path(one).exists() for one in data):
            raise InputError(
                expected="an archive as --data, with --journal or --product",
                received=f"{', '.join(data)}, none of which holds boards as a line keeps them (EPOCH/NUMBER-...zip)",
                fix="name the folder of a line's [archive], or leave them out",
            )  # fmt: skip
        return folders, None
    if not wanted.journals:
        raise InputError(
            expected="--journal, the journal folder of each archive's line: no board is to be learnt of which somebody "
            "confirmed a defect", received="none",
            fix="name them, or --journal none where what people said is not known",
        )  # fmt: skip
    if NONE in wanted.journals and len(wanted.journals) > 1:
        raise InputError(
            expected="--journal of each line, or --journal none alone", received="both",
            fix="leave archives out whose journal is not there, or learn from them by themselves",
        )  # fmt: skip
    from hisir_edge.reinspect.passed import Wanted as Boards
    from hisir_edge.reinspect.passed import passed_pictures

    journals = None if NONE in wanted.journals else tuple(os.path.abspath(one) for one in wanted.journals)  # noqa: PTH100
    boards = Boards(
        archives=archives, journals=journals, most=wanted.most, product=wanted.product, camera=wanted.camera
    )  # fmt: skip
    filled = out.absolute().with_name(f"{out.absolute().name}.boards")

    def fill() -> None:
        for words in passed_pictures(boards, filled, out):
            print(f"note: {words}", file=sys.stderr)

    return (*folders, str(filled)), Before(archives, fill)


def is_archive(text: str) -> bool:
    """Whether ``--data`` names an archive: object storage, or a folder with boards as a line keeps them."""
    from hisir_edge.archive.folder import EPOCH, OURS

    if "://" in text:
        return True
    try:
        epochs = [one for one in Path(text).iterdir() if EPOCH.fullmatch(one.name) and one.is_dir()]
        return any(OURS.fullmatch(board.name) for epoch in epochs for board in epoch.iterdir())
    except OSError:
        return False
