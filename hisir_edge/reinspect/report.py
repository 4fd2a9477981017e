"""The report of a re-inspection: what the new bundle calls otherwise, by line and part, the worst as pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic

WORST = 10
Changes = dict[tuple[str, str], int]
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 74rem; padding: 0 1rem; color: #1c2024 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse }
td, th { padding: .25rem .8rem; border-bottom: 1px solid #d8dce0; text-align: right }
th:first-child, td:first-child { text-align: left }
figure { margin: 0 0 1.2rem } figcaption { color: #50575e; margin-top: .2rem } img { max-width: 100% }
.bad { color: #b42318; font-weight: 600 } .fine { color: #1a7f37; font-weight: 600 }
</style>
<h1>{{ title }}</h1>
{% if figures.confirmed_known %}<p class="{{ 'bad' if lost else 'fine' }}">{{ lost | length }} of
{{ figures.confirmed_known }} confirmed defects are not called any more{{ ': do not activate it' if lost }}.</p>
{% else %}<p>No decisions were given (<code>--journal</code>): confirmed defects may be lost.</p>{% endif %}
<table><tr><th>old, new<th>boards</tr>
{% for row in changes %}<tr><td>{{ row[0] }}<td>{{ row[1] }}</tr>{% endfor %}</table>
<p>{{ figures.boards }} boards: {{ figures.new_calls }} were passed and are called now, {{ figures.calls_gone }} were
called and pass now, {{ figures.errors }} were not inspected.</p>
{% for heading, rows in tables %}<h2>{{ heading }}</h2>
<table><tr><th>{{ heading }}<th>boards<th>called before<th>called now<th>new calls<th>calls gone</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}</tr>{% endfor %}</table>{% endfor %}
{% for heading, rows in lists %}<h2>{{ heading }}</h2>
{% for row in rows %}<figure>{% if row[0] %}<img loading="lazy" src="{{ row[0] }}">{% endif %}
<figcaption>{{ row[1] }}</figcaption></figure>
{% else %}<p>None.</p>{% endfor %}{% endfor %}
</html>
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """``confirmed_lost``: (board's key, defect) that somebody confirmed and the new bundle does not call.

    ``confirmed_known``: confirmed defects of boards that were inspected. ``worst_new``, ``worst_gone``: keys.
    """

    boards: int
    changes: dict[str, int]
    new_calls: int
    calls_gone: int
    errors: int
    confirmed_known: int
    confirmed_lost: tuple[tuple[str, int], ...]
    worst_new: tuple[str, ...]
    worst_gone: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def figures_of(whole: Any, confirmed: set[tuple[str, int, int]]) -> Figures:
    """What has changed; ``whole``: the table, an Arrow one."""
    rows = whole.select(
        ["archive", "name", "epoch", "seq", "old_result", "old_score", "new_result", "new_score", "lost", "priorities"]
    ).to_pylist()
    changes = Counter((row["old_result"], row["new_result"]) for row in rows)
    new = [row for row in rows if row["old_result"] == "PASS" and row["new_result"] == "FAIL"]
    gone = [row for row in rows if row["old_result"] == "FAIL" and row["new_result"] == "PASS"]
    decided: dict[tuple[str, int], list[int]] = {}
    for epoch, seq, number in sorted(confirmed):
        decided.setdefault((epoch, seq), []).append(number)
    known, lost = 0, []
    for row in rows:
        for number in decided.get((row["epoch"], row["seq"]), ()):
            is_judged = row["new_result"] != "ERROR"
            if number and is_judged and number not in row["priorities"]:
                continue  # of another camera
            known += 1
            if row["new_result"] != "FAIL" or number in row["lost"]:  # what was not judged was not seen
                lost.append((_key(row), number))
    return Figures(
        boards=len(rows), changes={f"{old} -> {now}": n for (old, now), n in sorted(changes.items())},
        new_calls=len(new), calls_gone=len(gone), errors=sum(row["new_result"] == "ERROR" for row in rows),
        confirmed_known=known, confirmed_lost=tuple(lost),
        worst_new=tuple(_key(row) for row in sorted(new, key=lambda row: -(row["new_score"] or 0))[:WORST]),
        worst_gone=tuple(_key(row) for row in sorted(gone, key=lambda row: -(row["old_score"] or 0))[:WORST]),
    )  # fmt: skip


def write_report(
    whole: Any, figures: Figures, title: str, out: Path, pictures: Callable[[Sequence[str]], dict[str, bytes]]
) -> Path:
    """``out/index.html`` with its pictures; returns the page's path. ``pictures``: by key, drawn."""
    import jinja2

    lost = tuple(dict.fromkeys(key for key, _ in figures.confirmed_lost))[:WORST]
    keys = tuple(dict.fromkeys([*lost, *figures.worst_new, *figures.worst_gone]))
    images = {}
    for number, (key, data) in enumerate(pictures(keys).items(), 1):
        images[key] = f"pictures/{number:02d}.jpg"
        path = out / images[key]
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(
                expected="to write the report", received=f"{path}: {error.strerror}", fix="free it"
            ) from error
        write_atomic(path, data)
    rows = whole.select(["line", "old_result", "new_result", "old_parts", "new_parts"]).to_pylist()
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    html = page.render(
        title=title, figures=figures, lost=figures.confirmed_lost, changes=figures.changes.items(),
        tables=(
            ("by line", by_line(rows)), ("by part", by_part(rows)),
        ),
        lists=[
            (heading, [(images.get(key, ""), key) for key in some])
            for heading, some in (("Confirmed defects lost", lost), ("New calls, the strongest", figures.worst_new),
                                  ("Calls gone, the strongest", figures.worst_gone))
        ],
    )  # fmt: skip
    write_atomic(out / "index.html", html.encode())
    return out / "index.html"


def by_line(rows: Iterable[dict[str, Any]]) -> list[tuple[str, int, int, int, int, int]]:
    """(line, boards, called before, called now, new calls, calls gone), by line."""
    found: dict[str, list[int]] = {}
    for row in rows:
        _count(
            found.setdefault(row["line"] or "unknown", [0] * 5),
            row["old_result"] == "FAIL",
            row["new_result"] == "FAIL",
        )
    return [(name, *_five(counts)) for name, counts in sorted(found.items())]


def by_part(rows: Iterable[dict[str, Any]]) -> list[tuple[str, int, int, int, int, int]]:
    """The same by component, where bundles name them, the most changed first; boards: those with a call on it."""
    found: dict[str, list[int]] = {}
    for row in rows:
        old, now = (set(row[name].split(",")) - {""} for name in ("old_parts", "new_parts"))
        for part in old | now:
            _count(found.setdefault(part, [0] * 5), part in old, part in now)
    ordered = sorted(found.items(), key=lambda one: (-(one[1][3] + one[1][4]), one[0]))
    return [(name, *_five(counts)) for name, counts in ordered[:50]]


def _count(counts: list[int], before: bool, now: bool) -> None:
    for place, is_so in enumerate((True, before, now, now and not before, before and not now)):
        counts[place] += is_so


def _five(counts: list[int]) -> tuple[int, int, int, int, int]:
    boards, before, now, new, gone = counts
    return boards, before, now, new, gone


def _key(row: dict[str, Any]) -> str:
    return f"{row['archive']}/{row['name']}"
