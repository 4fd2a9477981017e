"""``hisir-edge calls``: another inspection machine's calls, answered without a line, and answers counted."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.errors import InputError
from hisir_edge.labels import shown
from hisir_edge.mes.answers import Counted, answers_in, count_answers, with_truth

calls_app = typer.Typer(help="Another inspection machine's calls: try the second gate, count what it saves.")


class Elsewhere(str, Enum):
    """See source.elsewhere."""

    fail = "fail"
    leave = "leave"


AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


@calls_app.command("try")
def try_calls(
    folder: Annotated[Path, typer.Argument(help="Folder of calls (JSON or CSV) and pictures; it stays as it is.")],
    bundle: Annotated[Path, typer.Option(help="Bundle to answer with.")],
    out: Annotated[Path, typer.Option(help="Folder for the answers.")],
    false_below: Annotated[float, typer.Option(min=0.3, max=1.0, help="See source.false_below.")] = 0.4,
    margin_px: Annotated[int, typer.Option(min=0, max=1000, help="See source.margin_px.")] = 16,
    elsewhere: Annotated[Elsewhere, typer.Option(help="See source.elsewhere.")] = Elsewhere.fail,
    as_json: AsJson = False,
    threads: Annotated[int, typer.Option(min=0, help="Engine threads; 0: every core.")] = 0,
) -> None:
    """Answer the calls of a folder as a line would, and count the looks that it saves. Exit code 2: some are errors."""
    from hisir_edge.config.from_files import CallsSource
    from hisir_edge.line.offline import answer_deliveries

    if not folder.is_dir():
        raise InputError(expected="a folder of calls", received=f"{folder}", fix="name one")
    source = CallsSource(
        type="calls", folder=str(folder), settle_s=0, wait_s=0, false_below=false_below, margin_px=margin_px,
        elsewhere=elsewhere.value,
    )  # fmt: skip
    found = []
    for name, one in answer_deliveries(bundle, source, out, threads):
        found.append(one)
        if not as_json:
            told = ", ".join(f"{call['id']} {call['answer']}" for call in one["answers"]) or "no calls"
            print(shown(f"{one['result']:6s}  {name}  {told}  {one['reason']}".rstrip()))
    if not found:
        raise InputError(expected="files of calls, .json or .csv", received=f"none in {folder}", fix="name another")
    counted = count_answers(found)
    _print(counted, as_json)
    raise typer.Exit(2 if counted.boards_error else 0)


@calls_app.command("count")
def count_calls(
    answers: Annotated[Path, typer.Argument(help="Folder of answers, as the line writes them.")],
    truth: Annotated[
        Path | None, typer.Option(help="CSV with delivery (or unit), id and truth (real or false): what persons said.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count answers: looks saved, and with what persons have said, what would have been let through."""
    found, unknown = answers_in(answers), 0
    if truth is not None:
        found, unknown = with_truth(found, truth)
    if unknown:
        print(f"{unknown} call(s) of {truth} were not answered here: not counted", file=sys.stderr)
    _print(count_answers(found), as_json)


def _print(counted: Counted, as_json: bool) -> None:
    print(json.dumps(counted.as_dict(), indent=2) if as_json else text_of_count(counted))


def text_of_count(counted: Counted) -> str:
    """What was counted, for people."""

    def share(part: int, whole: int) -> str:
        return f"{part} of {whole}" + (f" ({part / whole:.0%})" if whole else "")

    saved, real, false = counted.answered("false"), counted.known("real"), counted.known("false")
    lines = [
        f"calls                {counted.calls} on {counted.boards} boards",
        f"false, no look       {share(saved, counted.calls)}",
        f"confirmed            {share(counted.answered('confirmed'), counted.calls)}",
        f"unsure, look         {share(counted.answered('unsure'), counted.calls)}",
        f"boards without look  {share(counted.boards_without_look, counted.boards)}",
    ]
    if counted.boards_error:
        lines.append(f"boards not judged    {share(counted.boards_error, counted.boards)}")
    if real or false:
        lines += [
            f"known to be false    {share(counted.by_answer.get(('false', 'false'), 0), false)} answered false",
            f"known to be real     {share(len(counted.let_through), real)} let through",
            *(f"  let through        {name}, call {call} {kind}".rstrip() for name, call, kind in counted.let_through),
        ]
    lines.append("with false_below =   " + "  ".join(f"{level:4.1f}" for level in counted.at))
    lines.append("  answered false     " + "  ".join(f"{found:4d}" for found, _ in counted.at.values()))
    if real:
        lines.append("  of them real       " + "  ".join(f"{lost:4d}" for _, lost in counted.at.values()))
    return "\n".join(shown(line) for line in lines)
