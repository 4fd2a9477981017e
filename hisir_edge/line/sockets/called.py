"""Another machine's calls in the messages: ``vision.calls`` of a verdict."""

from __future__ import annotations

from typing import Any

from hisir_edge.records import Answer, CallSheet, Judgement

UNSURE_CODE = "CALL_UNSURE"
"""DefectCode of a call that a person has to look at: the line itself calls nothing there."""


def calls_of_sheet(sheet: CallSheet, judgement: Judgement) -> dict[str, Any]:
    """Another machine's calls and their answers."""
    answers = []
    for one in judgement.calls:
        x, y, w, h = one.call.box_xywh
        answers.append(
            {
                "id": one.call.id, "px": {"x": x, "y": y, "w": w, "h": h}, "class": one.call.kind,
                "part": one.call.component, "truth": one.call.truth or None, "answer": one.answer.value,
                "score": None if one.score is None else round(one.score, 4), "reason": one.reason,
            }
        )  # fmt: skip
    return {
        "delivery": sheet.delivery, "sha256": sheet.sha256, "elsewhere": judgement.elsewhere, "answers": answers,
    }  # fmt: skip


def make_unsure(calls: dict[str, Any] | None, reason: str) -> None:
    """Take the answers of a board back that was not judged after all."""
    for one in (calls or {}).get("answers", ()):
        one |= {"answer": Answer.UNSURE.value, "score": None, "reason": reason}
