"""``hisir-edge boards``: boards that a line passed, to look at, and then to count among the good ones."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hisir_edge.cli.control import Config, Endpoint, Key, ServerKey, line_from_options
from hisir_edge.errors import InputError

if TYPE_CHECKING:
    from hisir_edge.archive.fetch import PassedBoard
    from hisir_edge.transport.control_client import Asker

LIST = "boards.json"
KEYS = ("picture", "line", "epoch", "seq", "unit", "grabbed_at", "good_says")
MOST_SHOWN = 60
UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def boards(
    endpoint: Endpoint = "",
    config: Config = None,
    look: Annotated[Path | None, typer.Option(help="Write a sheet (JPEG) of what stands out most, to look at.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures, once somebody has looked.")] = None,
    who: Annotated[str, typer.Option(help="With --out: who has looked, and says that these boards are good.")] = "",
    without: Annotated[str, typer.Option(help="Numbers of boards to leave out, such as 41,52.")] = "",
    since: Annotated[str, typer.Option(help="Grabbed from then on: 2026-11-28T06:00, or with a zone.")] = "",
    until: Annotated[str, typer.Option(help="Grabbed before then.")] = "",
    after: Annotated[int, typer.Option(min=0, help="Boards with higher numbers.")] = 0,
    upto: Annotated[int | None, typer.Option(min=1, help="Boards with numbers up to this one.")] = None,
    most: Annotated[int, typer.Option(min=1, help="So many boards, evenly over all of them.")] = 200,
    product: Annotated[str, typer.Option(help="The product; default: that of the first board.")] = "",
    camera: Annotated[str, typer.Option(help="The camera; default: the first.")] = "",
    epoch: Annotated[str, typer.Option(help="Of an earlier journal; default: the present one.")] = "",
    server_key: ServerKey = "",
    key: Key = "",
) -> None:
    """Fetch boards that a line passed from its archive: --look at them, then --out writes them as good boards.

    They then count with teach --recursive, or with build-engine --thresholds-only --good. Boards of which somebody
    confirmed a defect are left out.
    """
    from hisir_edge.archive.fetch import Wanted, passed_boards
    from hisir_edge.transport.control_client import Asker

    if (look is None) == (out is None):
        raise InputError(
            expected="--look SHEET.jpg, and then --out FOLDER",
            received="neither" if look is None else "both",
            fix="look first",
        )
    if out is not None and not who:
        raise InputError(
            expected="--who has looked at these boards (--look)", received="nobody", fix="look, and name yourself"
        )
    times = (_time_from_text(since, "--since"), _time_from_text(until, "--until"))
    left_out = _numbers_from_text(without)
    wanted = Wanted(
        after=after, upto=2**62 if upto is None else upto, since=times[0], until=times[1], epoch=epoch, product=product,
        camera=camera,
    )  # fmt: skip
    with Asker(*line_from_options(endpoint, config, server_key, key)) as asker:
        found = [one for one in passed_boards(asker, wanted) if one.facts.seq not in left_out]
        if not found:
            raise InputError(
                expected='archived boards that passed ([archive] keep = "all")',
                received="none of these",
                fix="see hisir-edge status, --since, --product and --camera",
            )
        count = min(most, len(found))
        chosen = [found[at * len(found) // count] for at in range(count)]
        if look is not None:
            _show(asker, chosen, look)
            first, last = found[0].facts.seq, found[-1].facts.seq
            print(
                f"{len(found)} board(s) passed, {first} to {last}; of {len(chosen)} the {min(MOST_SHOWN, len(chosen))} "
                f"that stand out most are in {look}. Where they are good: the same with --out FOLDER --who NAME "
                f"--upto {last} instead of --look, and --without those that are not"
            )
        elif out is not None:
            before = _listed(out)
            written = _write(asker, chosen, out, who)
            kept, gone = _still_good(asker, out, before)
            _written(
                out / LIST, json.dumps([*(one for one in kept if one not in written), *written], indent=1).encode()
            )
            print(f"{len(written)} good board(s) in {out}, on the word of {who}")
            if gone:
                print(f"{gone} of earlier ones taken out: a defect on them was confirmed since")


def _show(asker: Asker, chosen: list[PassedBoard], look: Path) -> None:
    from hisir_edge.archive.fetch import evidence_of, frame_of
    from hisir_edge.archive.sheet import sheet_of, shown_board
    from hisir_edge.images import jpeg_bytes

    judged = [(one, evidence_of(asker, one)) for one in chosen]
    judged.sort(key=lambda one: -max(one[1].highest.tolist(), default=0.0) if one[1] is not None else 0.0)
    shown = []
    for one, evidence in judged[:MOST_SHOWN]:
        frame = frame_of(asker, one)
        if frame is not None:
            shown.append(shown_board(frame.rgb, evidence, f"{one.facts.seq}  {one.facts.unit}"))
    if not shown:
        raise InputError(expected="boards that are archived still", received="none", fix="ask again")
    _written(look, jpeg_bytes(sheet_of(shown)))


def _listed(out: Path) -> list[dict[str, Any]]:
    """The boards that are in a folder from before."""
    if not out.exists():
        return []
    if not (out / LIST).is_file():
        if any(out.iterdir()):
            raise InputError(
                expected="a new folder, or one of earlier boards",
                received=f"{out} with other files",
                fix="choose another",
            )
        return []
    try:
        found = json.loads((out / LIST).read_text())
        return [{name: one[name] for name in KEYS} for one in found]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            expected=f"{out / LIST} as it was written",
            received=f"{type(error).__name__}: {error}"[:200],
            fix="choose another folder",
        ) from error


def _write(asker: Asker, chosen: list[PassedBoard], out: Path, who: str) -> list[dict[str, Any]]:
    """Write the pictures; what the list says of them."""
    from hisir_edge.archive.fetch import frame_of
    from hisir_edge.images import png_bytes

    written = []
    for one in chosen:
        frame = frame_of(asker, one)
        if frame is None:
            continue
        facts = one.facts
        name = f"{facts.epoch[:8]}-{facts.seq:010d}-{UNSAFE.sub('_', facts.unit)[:40]}.png"
        grey = frame.data.ndim == 2 and frame.pixel_format == "Mono8"
        _written(out / name, png_bytes(frame.data if grey else frame.rgb))
        values = name, facts.line, facts.epoch, facts.seq, facts.unit, facts.grabbed_at, who
        written.append(dict(zip(KEYS, values, strict=True)))
    return written


def _still_good(asker: Asker, out: Path, before: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Of earlier boards those that nobody found bad since; the pictures of the others, how many, are deleted."""
    from hisir_edge.archive.fetch import not_good

    bad = not_good(asker)
    kept = [one for one in before if (one["epoch"], one["seq"]) not in bad]
    for one in before:
        if one not in kept:
            (out / Path(one["picture"]).name).unlink(missing_ok=True)
    return kept, len(before) - len(kept)


def _written(path: Path, data: bytes) -> None:
    from hisir_edge.images import write_atomic

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            expected="a place to write to", received=f"{path} ({error.strerror})", fix="choose another"
        ) from error
    write_atomic(path, data)


def _time_from_text(text: str, option: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise InputError(
            expected=f"{option} as a time, such as 2026-11-28T06:00", received=text[:80], fix="correct it"
        ) from error


def _numbers_from_text(text: str) -> set[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [part for part in parts if not (part.isascii() and part.isdigit())]
    if wrong:
        raise InputError(expected="--without as numbers, such as 41,52", received=wrong[0][:80], fix="correct it")
    return {int(part) for part in parts}
