"""``hisir-edge boards``: boards that a line passed, to look at, and then to count among the good ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hisir_edge.cli.control import Config, Endpoint, Key, ServerKey, line_from_options
from hisir_edge.errors import InputError

if TYPE_CHECKING:
    from hisir_edge.archive.board_file import ArchivedBoard, View
    from hisir_edge.archive.judge_again import JudgeAgain
    from hisir_edge.arrays import U8
    from hisir_edge.transport.control_client import Asker
    from hisir_edge.view.boards import Boards
    from hisir_edge.view.shift.listed import Listed, ListedBoard
    from hisir_edge.view.shift.passed import Wanted

LIST = "boards.json"
ON_A_SHEET = 60
MOST_DIGITS = 18
UNKNOWN = float("inf")
Fetched = TypeVar("Fetched")


def boards(
    endpoint: Endpoint = "",
    config: Config = None,
    look: Annotated[
        Path | None, typer.Option(help="NAME.jpg: write sheets of boards that passed, and NAME.json.")
    ] = None,
    good: Annotated[Path | None, typer.Option(help="NAME.json, once somebody has looked: the boards are good.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --good: folder for the pictures.")] = None,
    who: Annotated[str, typer.Option(help="With --good: who has looked, and says so.")] = "",
    without: Annotated[str, typer.Option(help="With --good: numbers of boards to leave out, such as 41,52.")] = "",
    since: Annotated[
        str, typer.Option(help="Grabbed from then on: 2026-11-28T06:00, in local time or with +01:00.")
    ] = "",
    until: Annotated[str, typer.Option(help="Grabbed before then.")] = "",
    after: Annotated[int, typer.Option(min=0, help="Boards with higher numbers.")] = 0,
    most: Annotated[int, typer.Option(min=1, max=2000, help="So many boards, evenly over all of them.")] = 200,
    product: Annotated[str, typer.Option(help="The product; default: that of the first board.")] = "",
    camera: Annotated[str, typer.Option(help="The camera; default: the first.")] = "",
    server_key: ServerKey = "",
    key: Key = "",
) -> None:
    """Fetch boards that a line passed from its archive: --look at them, then --good writes them as good boards.

    They then count with teach --recursive, or with build-engine --thresholds-only --good. Boards of which somebody
    confirmed a defect are left out, and taken out where that comes later.
    """
    from hisir_edge.transport.control_client import PatientAsker
    from hisir_edge.view.boards import Boards
    from hisir_edge.view.shift.passed import Wanted

    if (look is None) == (good is None) or (good is None) != (out is None):
        raise InputError(
            expected="--look NAME.jpg, and then --good NAME.json --out FOLDER --who YOU",
            received="another choice of these",
            fix="look first",
        )
    if good is not None and not who.strip():
        raise InputError(expected="--who has looked at these boards", received="nobody", fix="look, and name yourself")
    wanted = Wanted(
        after=after, since=_time_from_text(since, "--since"), until=_time_from_text(until, "--until"), product=product,
        camera=camera,
    )  # fmt: skip
    left_out = _numbers_from_text(without)
    line = line_from_options(endpoint, config, server_key, key)
    with PatientAsker(*line) as asker, TemporaryDirectory() as scratch:
        fetching = Boards(lambda: PatientAsker(*line), Path(scratch))
        if look is not None:
            _look(asker, fetching, wanted, most, look)
        elif good is not None and out is not None:
            _keep(asker, fetching, good, out, who.strip(), left_out)


def _look(asker: Asker, fetching: Boards, wanted: Wanted, most: int, look: Path) -> None:
    from hisir_edge.images import jpeg_bytes, write_atomic
    from hisir_edge.view.shift.listed import Listed, listed_board, load_list, save_list
    from hisir_edge.view.shift.passed import passed_boards
    from hisir_edge.view.shift.sheet import sheet_of

    if look.suffix.lower() not in (".jpg", ".jpeg"):
        raise InputError(expected="--look NAME.jpg", received=str(look), fix="name a JPEG to be written")
    listing = look.with_suffix(".json")
    if listing.exists():
        load_list(listing)  # one of ours, which is replaced; else it is somebody's
    elif look.exists():
        raise InputError(expected="a new --look", received=f"{look}, which is there", fix="choose another name")
    passed = passed_boards(asker, wanted)
    count = min(most, len(passed.boards))
    chosen = [passed.boards[at * len(passed.boards) // count] for at in range(count)]
    line = chosen[0].line if chosen else ""
    listed = Listed(line=line, product=passed.product, camera=passed.camera, boards=())
    offered = [listed_board(facts, passed.camera) for facts in chosen]
    seen = [(_or_not_there(partial(_shown, fetching, board, listed)), board) for board in offered]
    shown = [(picture, board) for picture, board in seen if picture is not None]
    if not shown:
        raise InputError(
            expected='archived boards that passed ([archive] keep = "all")',
            received="none of these" + (f"; {passed.unknown} older than the journal" if passed.unknown else ""),
            fix="see hisir-edge status, and --since, --product and --camera",
        )
    shown.sort(key=lambda one: -one[0][1])
    sheets = [shown[at : at + ON_A_SHEET] for at in range(0, len(shown), ON_A_SHEET)]
    names = [look.with_name(f"{look.stem}-{n + 1}{look.suffix}") if n else look for n in range(len(sheets))]
    for name, sheet in zip(names, sheets, strict=True):
        write_atomic(name, jpeg_bytes(sheet_of([picture for (picture, _), _ in sheet])))
    every = tuple(sorted((board for _, board in shown), key=lambda one: one.seq))
    save_list(listing, listed.with_boards(every))
    print(f"{len(every)} of {len(passed.boards)} boards of {passed.product} that passed, camera {passed.camera}")
    if missing := passed.gone + len(offered) - len(shown):
        print(f"{missing} left out: not archived any more, or damaged")
    if passed.unknown:
        print(f"{passed.unknown} left out: older than the journal, what people said of them is not known any more")
    print(
        f"look at {', '.join(map(str, names))}: what stands out most comes first; where they are good: --good {listing}"
    )


def _shown(fetching: Boards, board: ListedBoard, looked: Listed) -> tuple[U8, float]:
    """A board's picture on the sheet, and how far it stands out."""
    from hisir_edge.view.shift.sheet import highest_of, shown_board

    opened = _opened(fetching, board, looked)
    with opened:
        view = _view_of(opened, looked.camera)
        evidence, judge = opened.evidence(view), _judge_of(fetching, opened, view)
        highest = None if evidence is None or judge is None else highest_of(judge, evidence)
        picture = shown_board(opened.frame(view).rgb, highest, f"{board.seq}  {board.unit}")
    # of one without evidence, or whose bundle is gone, nobody can say: it is looked at first
    unknown = evidence is None or judge is None
    return picture, UNKNOWN if unknown else 0.0 if highest is None else highest.reached


def _judge_of(fetching: Boards, opened: ArchivedBoard, view: View) -> JudgeAgain | None:
    """What judges a board again; None where the line has not the bundle any more that inspected it."""
    try:
        return fetching.judge(fetching.bundle_of(opened, view))
    except InputError as error:
        if error.code != "unknown":
            raise
        return None


def _or_not_there(fetch: Callable[[], Fetched]) -> Fetched | None:
    """What is fetched of a board; None where the line has it not any more, or it is damaged."""
    from hisir_edge.view.shift.passed import NOT_THERE

    try:
        return fetch()
    except InputError as error:
        if error.code not in NOT_THERE:
            raise
        return None


def _opened(fetching: Boards, board: ListedBoard, looked: Listed) -> ArchivedBoard:
    """A board's file; InputError for a file that is another board's."""
    from hisir_edge.view.shift.passed import is_what_it_says

    opened = fetching.opened(board.epoch, board.seq)
    if not is_what_it_says(opened.facts, board.epoch, board.seq) or opened.facts.product != looked.product:
        opened.__exit__()
        raise InputError(
            expected=f"board {board.seq} of {looked.product} that passed, as its file's name says",
            received=f"{opened.facts.seq} of {opened.facts.product}: {opened.facts.result}",
            fix="leave this board out (--without), and look who renamed files of the archive",
        )
    return opened


def _view_of(opened: ArchivedBoard, camera: str) -> View:
    for view in opened.facts.views:
        if view.camera == camera:
            return view
    raise InputError(
        expected=f"camera {camera} in board {opened.facts.seq}",
        received=", ".join(view.camera for view in opened.facts.views),
        fix="leave this board out (--without)",
    )


def _keep(asker: Asker, fetching: Boards, good: Path, out: Path, who: str, left_out: set[int]) -> None:
    """Write the pictures of a list, and first what the folder is to hold, so that none is there unlisted."""
    from hisir_edge.view.shift.listed import load_list
    from hisir_edge.view.shift.passed import not_good

    looked = load_list(good)
    if not looked.boards:
        raise InputError(expected=f"boards in {good}", received="none", fix="look again")
    epoch = looked.boards[0].epoch
    if unknown := left_out - {one.seq for one in looked.boards}:
        raise InputError(
            expected=f"--without numbers of boards in {good}", received=str(min(unknown)), fix="look at them again"
        )
    new = tuple(replace(one, good_says=who) for one in looked.boards if one.seq not in left_out)
    names = {one.picture for one in new}
    every = (*(one for one in _before(out, looked) if one.picture not in names), *new)
    left = _without(out, looked, every, epoch, not_good(asker, epoch) | left_out)
    kinds = {one: _or_not_there(partial(_written, fetching, one, looked, out)) for one in new if one in left}
    gone = {one.seq for one, kind in kinds.items() if not kind}
    bad = not_good(asker, epoch)  # what people said while they were fetched counts, too
    left = _without(out, looked, left, epoch, bad | gone)
    print(f"{sum(one in left for one in new)} good board(s) in {out}, on the word of {who}; {len(left)} in all")
    if confirmed := [one.seq for one in every if one.epoch == epoch and one.seq in bad]:
        print(f"not good: {', '.join(map(str, confirmed))}, a defect was confirmed; build anew what counted them")
    if gone:
        print(f"{len(gone)} not archived any more, or damaged")
    if "jpg" in kinds.values():
        print(
            'archived as JPEG, a little smoother than the camera\'s pictures; [archive] format = "png" keeps them whole'
        )
    if not left:
        raise InputError(expected="good boards", received="none of these", fix="look again")


def _written(fetching: Boards, board: ListedBoard, looked: Listed, out: Path) -> str:
    """Write a board's picture; as what it was archived (jpg, png)."""
    from hisir_edge.images import png_bytes, write_atomic

    opened = _opened(fetching, board, looked)
    with opened:
        view = _view_of(opened, looked.camera)
        frame = opened.frame(view)
        grey = frame.data.ndim == 2 and frame.pixel_format == "Mono8"
        write_atomic(out / board.picture, png_bytes(frame.data if grey else frame.rgb))
        return view.picture.rpartition(".")[2]


def _before(out: Path, looked: Listed) -> tuple[ListedBoard, ...]:
    """The boards that are in a folder already; InputError for a folder of anything else. It is there afterwards."""
    from hisir_edge.view.shift.listed import load_list, save_list

    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / LIST).is_file():
            if any(out.iterdir()):
                raise InputError(
                    expected="a new folder, or one of earlier boards",
                    received=f"{out} with other files",
                    fix="choose another",
                )
            save_list(out / LIST, looked.with_boards(()))
    except OSError as error:
        raise InputError(
            expected="a folder to write to", received=f"{out} ({error.strerror})", fix="choose another"
        ) from error
    there = load_list(out / LIST)
    if (there.product, there.camera) != (looked.product, looked.camera):
        raise InputError(
            expected=f"a folder of {looked.product}, camera {looked.camera}",
            received=f"{out} of {there.product}, camera {there.camera}",
            fix="choose another",
        )
    return there.boards


def _without(
    out: Path, looked: Listed, every: tuple[ListedBoard, ...], epoch: str, bad: set[int]
) -> tuple[ListedBoard, ...]:
    """Write the list without these boards of an epoch, and delete their pictures; what is left."""
    from hisir_edge.view.shift.listed import save_list

    gone = {one for one in every if one.epoch == epoch and one.seq in bad}
    left = tuple(one for one in every if one not in gone)
    save_list(out / LIST, looked.with_boards(left))
    for one in gone:
        with suppress(OSError):
            (out / one.picture).unlink(missing_ok=True)
    return left


def _time_from_text(text: str, option: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            expected=f"{option} as a time, such as 2026-11-28T06:00", received=text[:80], fix="correct it"
        ) from error


def _numbers_from_text(text: str) -> set[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [part for part in parts if not (part.isascii() and part.isdigit() and len(part) <= MOST_DIGITS)]
    if wrong:
        raise InputError(expected="--without as numbers, such as 41,52", received=wrong[0][:80], fix="correct it")
    return {int(part) for part in parts}
