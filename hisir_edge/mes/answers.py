"""Answers to another machine's calls, counted: looks saved, and what would have been let through.

Needs the standard library alone.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hisir_edge.errors import InputError

NEAR = "near what is called, and not called"
"""Why a call is unsure whose place was judged: under a higher ``false_below`` it may be false."""
LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
TRUTHS = ("real", "false")
BOARD = ("delivery", "unit", "result")
Answered = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counted:
    """Of ``calls``, by answer; ``real`` and ``false``: those of which a person has said so.

    ``by_answer``: (truth, answer) -> calls, the truth ``""`` where nobody has said. ``let_through``: answered false,
    real: (delivery, id, class) each. ``boards``: deliveries, ``boards_without_look``: those that passed,
    ``boards_error``: those that were not judged. ``at``: false_below -> (answered false, of them real).
    """

    calls: int
    by_answer: dict[tuple[str, str], int]
    let_through: tuple[tuple[str, str, str], ...]
    boards: int
    boards_without_look: int
    boards_error: int
    at: dict[float, tuple[int, int]] = field(repr=False)

    def answered(self, answer: str) -> int:
        """Calls with an answer."""
        return sum(count for (_, one), count in self.by_answer.items() if one == answer)

    def known(self, truth: str) -> int:
        """Calls of which a person has said this."""
        return sum(count for (one, _), count in self.by_answer.items() if one == truth)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "calls": self.calls, "confirmed": self.answered("confirmed"), "false": self.answered("false"),
            "unsure": self.answered("unsure"), "known_real": self.known("real"), "known_false": self.known("false"),
            "let_through": [{"delivery": d, "id": i, "class": c} for d, i, c in self.let_through],
            "confirmed_of_known_false": self.by_answer.get(("false", "confirmed"), 0),
            "boards": self.boards, "boards_without_look": self.boards_without_look,
            "boards_error": self.boards_error,
            "at_false_below": {str(level): {"false": f, "real": r} for level, (f, r) in self.at.items()},
        }  # fmt: skip


def count_answers(deliveries: Iterable[Answered]) -> Counted:
    """Count the answers of deliveries, as their files have them."""
    boards = without = errors = 0
    by_answer: Counter[tuple[str, str]] = Counter()
    let_through: list[tuple[str, str, str]] = []
    at = {level: [0, 0] for level in LEVELS}
    for one in deliveries:
        boards += 1
        answers = one["answers"]
        without += one["result"] == "Passed"
        errors += one["result"] == "Error"
        for call in answers:
            truth = call["truth"] or ""
            by_answer[(truth, call["answer"])] += 1
            if truth == "real" and call["answer"] == "false":
                let_through.append((one["delivery"], call["id"], call["class"]))
            judged = call["answer"] == "false" or (call["answer"] == "unsure" and call["reason"] == NEAR)
            for level, counts in at.items():
                if judged and call["score"] is not None and call["score"] < level:
                    counts[0] += 1
                    counts[1] += truth == "real"
    levels = {level: (counts[0], counts[1]) for level, counts in at.items()}
    return Counted(sum(by_answer.values()), dict(by_answer), tuple(let_through), boards, without, errors, levels)


def answers_in(folder: Path) -> list[Answered]:
    """The answers of a folder, by name; InputError where there are none, or one cannot be read."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            one = json.loads(path.read_bytes())
            if not str(one["schema"]).startswith("hisir-edge/answers/1"):
                raise ValueError("another schema")
            found.append({**{key: str(one[key]) for key in BOARD}, "answers": [_call(call) for call in one["answers"]]})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                expected="answers as the line writes them", received=f"{path}: {error}", fix="name a folder of answers"
            ) from error
    if not found:
        raise InputError(expected="a folder of answers", received=f"{folder} without any", fix="name another")
    return found


def _call(call: Any) -> Answered:
    """What is counted of a call; ValueError, KeyError or TypeError for what is none."""
    score = call["score"]
    if call["answer"] not in ("confirmed", "false", "unsure") or not (score is None or isinstance(score, (int, float))):
        raise ValueError("a call without its answer and score")
    texts = {key: str(call[key] or "") for key in ("id", "class", "reason", "truth")}
    return {**texts, "answer": call["answer"], "score": score}


def with_truth(deliveries: list[Answered], path: Path) -> tuple[list[Answered], int]:
    """The answers with what persons have said, and of how many calls they spoke that are not there.

    ``path``: a table with delivery (or unit), id and truth: real, false, or empty where nobody has looked yet; commas,
    semicolons or tabs. InputError for another table, and for a call that is real and false.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.splitlines()[0] if text.strip() else ""
        rows = list(csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=first.count), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            expected="a table of truths (CSV, UTF-8)", received=f"{path}: {error}", fix="correct it"
        ) from error
    names = {str(name).strip().lower(): name for name in (rows[0] if rows else ()) if name}
    key = next((one for one in ("delivery", "unit") if one in names), "")
    if not key or not {"id", "truth"} <= set(names):
        raise InputError(
            expected="columns delivery (or unit), id and truth", received=f"{path}: {first[:120] or 'nothing'}",
            fix="correct the table",
        )  # fmt: skip
    said: dict[tuple[str, str], str] = {}
    for row in rows:
        board, call, truth = (str(row[names[name]] or "").strip() for name in (key, "id", "truth"))
        if not truth:
            continue
        if truth.lower() not in TRUTHS or said.setdefault((board, call), truth.lower()) != truth.lower():
            raise InputError(
                expected=f"one truth for {board}, {call}: real or false", received=truth, fix=f"correct {path}"
            )
    there = {(one[key], call["id"]) for one in deliveries for call in one["answers"]}
    found = [
        one | {"answers": [c | {"truth": said.get((one[key], c["id"]), c["truth"])} for c in one["answers"]]}
        for one in deliveries
    ]
    return found, len(set(said) - there)
