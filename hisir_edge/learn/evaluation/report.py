"""A page about an evaluation, to look at: curves, histograms, the worst false calls and the worst misses."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from hisir_edge.arrays import F32, U8, Bool, u8
from hisir_edge.errors import InputError
from hisir_edge.images import Rules, jpeg_bytes, read_rgb, write_atomic
from hisir_edge.learn.data.layouts import GOOD
from hisir_edge.learn.evaluation.evaluate import Evaluation, ScoredBoard, shifted_frame_and_truth
from hisir_edge.learn.evaluation.figures import AUPRO_FPR, figures
from hisir_edge.records import Result

mpl.use("Agg")

WORST = 8
STRIP_PX = 300
CROP_PX = 220

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 74rem; padding: 0 1rem }
body { color: #1c2024 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse }
td, th { padding: .25rem .8rem; border-bottom: 1px solid #d8dce0; text-align: right }
th:first-child, td:first-child { text-align: left }
figure { margin: 0 0 1.2rem } figcaption { color: #50575e; margin-top: .2rem } img { max-width: 100% }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(21rem, 1fr)); gap: 1rem }
</style>
<h1>{{ title }}</h1>
<p>{{ summary }}</p>
<table><tr><th>figure<th>value</tr>
{% for name, value in rows %}<tr><td>{{ name }}<td>{{ value }}</tr>{% endfor %}</table>
<h2>By class</h2>
<table><tr><th>class<th>defects<th>recall<th>pixel AUROC<th>AUPRO<th>image AUROC</tr>
{% for row in classes %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}</tr>{% endfor %}</table>
<h2>Curves and scores</h2>
<div class="charts">{% for chart in charts %}<img alt="{{ chart[0] }}" src="data:image/svg+xml;base64,{{ chart[1] }}">
{% endfor %}</div>
<h2>Worst false calls</h2>
<p>Good boards with the highest scores, at their highest place: picture, anomaly map. A region is called from a score
of {{ limit }} on.</p>
{% for strip in false_calls %}<figure><img src="{{ strip[0] }}"><figcaption>{{ strip[1] }}</figcaption></figure>
{% else %}<p>There is no good board.</p>{% endfor %}
<h2>Worst misses</h2>
<p>Defects with the lowest peaks: picture, truth (outlined), anomaly map.</p>
{% for strip in misses %}<figure><img src="{{ strip[0] }}"><figcaption>{{ strip[1] }}</figcaption></figure>
{% else %}<p>There is no defective board.</p>{% endfor %}
</html>
"""


def write_report(
    evaluation: Evaluation,
    out: Path,
    on_done: Callable[[int, int], None] = lambda d, t: None,
) -> Path:
    """Write ``out/index.html`` with its pictures, seen as they were evaluated; returns the page's path."""
    bundle = evaluation.inspector.bundle
    out.mkdir(parents=True, exist_ok=True)
    false_calls, misses = _worst_false_calls(evaluation), _worst_misses(evaluation)
    total = len(false_calls) + len(misses)
    strips: list[tuple[str, str]] = []
    for number, seen in enumerate([*false_calls, *misses]):
        name = f"{'false_call' if number < len(false_calls) else 'miss'}_{number}.jpg"
        picture, caption = _strip(evaluation, seen)
        write_atomic(out / name, jpeg_bytes(picture, 88))
        strips.append((name, caption))
        on_done(number + 1, total)
    numbers = figures(evaluation)
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    manifest = bundle.manifest
    html = page.render(
        title=f"{manifest.product}: {manifest.backbone}, {manifest.precision}",
        summary=f"{len(evaluation.seen)} pictures, {numbers['good_boards']} of them good{_changed(evaluation)}.",
        rows=[(k, _text(v)) for k, v in numbers.items() if isinstance(v, int | float) or v is None],
        classes=_class_rows(numbers),
        charts=_charts(evaluation),
        limit=_text(evaluation.thresholds.region_peak),
        false_calls=strips[: len(false_calls)],
        misses=strips[len(false_calls) :],
    )
    write_atomic(out / "index.html", html.encode())
    return out / "index.html"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _class_rows(numbers: dict[str, Any]) -> list[list[str]]:
    rows = []
    for kind, values in numbers["by_class"].items():
        counts = [str(numbers["defects_by_class"][kind]), _text(numbers["recall_by_class"][kind])]
        rows.append([kind, *counts, *(_text(values[k]) for k in ("pixel_auroc", "aupro", "image_auroc"))])
    return rows


def _worst_false_calls(evaluation: Evaluation) -> list[ScoredBoard]:
    good = [one for one in evaluation.seen if one.item.kind == GOOD]
    return sorted(good, key=lambda one: -np.inf if one.score is None else -one.score)[:WORST]


def _worst_misses(evaluation: Evaluation) -> list[ScoredBoard]:
    bad = [one for one in evaluation.seen if one.item.kind != GOOD and one.defects]
    return sorted(bad, key=lambda one: min(d.peak for d in one.defects))[:WORST]


def _changed(evaluation: Evaluation) -> str:
    return f", changed by {', '.join(map(str, evaluation.shifts))}" if evaluation.shifts else ""


def _strip(evaluation: Evaluation, seen: ScoredBoard) -> tuple[U8, str]:
    """Picture, truth and map side by side around the place that matters, and a caption."""
    where = seen.item.image.name
    if seen.score is None:
        return _fitted(_as_it_came(seen, evaluation)), f"{where} ({seen.item.kind}): ERROR, {seen.reason}"
    rules = evaluation.inspector.bundle.recipe.rules
    frame, truth = shifted_frame_and_truth(seen.item, seen.number, evaluation.shifts, rules)
    judgement, scores = evaluation.inspector.inspect_with_map(frame)
    if scores is None:
        return _fitted(frame), f"{where} ({seen.item.kind}): ERROR, {judgement.reason}"
    y, x = _place(scores, seen)
    half = max(min(CROP_PX, *frame.shape[:2]) // 2, 1)
    y, x = min(max(y, half), frame.shape[0] - half), min(max(x, half), frame.shape[1] - half)
    window = (slice(y - half, y + half), slice(x - half, x + half))
    crop, inside, score = frame[window], truth[window], scores[window]
    panels = [_fitted(crop)]
    if truth.any():
        panels.append(_outlined(crop, inside))
    panels.append(_heat(score, evaluation.thresholds.region_peak))
    peaks = ", ".join(f"{d.peak:.2f}" for d in seen.defects)
    told = f"peaks of its defects {peaks}" if seen.defects else f"highest score {seen.score:.2f}"
    return u8(np.hstack(panels)), f"{where} ({seen.item.kind}), {seen.result.value}: {told}; around x {x}, y {y}"


def _as_it_came(seen: ScoredBoard, evaluation: Evaluation) -> U8:
    """A picture that could not be judged; grey where it cannot even be read."""
    with suppress(InputError):
        rules = evaluation.inspector.bundle.recipe.rules
        return shifted_frame_and_truth(seen.item, seen.number, evaluation.shifts, rules)[0]
    with suppress(InputError):  # of another size than its mask
        return read_rgb(seen.item.image, rules=Rules(grey=None))
    return np.full((CROP_PX, CROP_PX, 3), 128, np.uint8)


def _place(scores: F32, seen: ScoredBoard) -> tuple[int, int]:
    """The defect that was found worst, or the highest score of a good board."""
    if seen.defects:
        return min(seen.defects, key=lambda d: d.peak).centre_yx
    y, x = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(y), int(x)


def _fitted(picture: U8) -> U8:
    how = cv2.INTER_AREA if picture.shape[0] > STRIP_PX else cv2.INTER_CUBIC
    return u8(cv2.resize(picture, (STRIP_PX, STRIP_PX), interpolation=how))


def _outlined(crop: U8, inside: Bool) -> U8:
    picture = _fitted(crop)
    mask = cv2.resize(inside.astype(np.uint8), (STRIP_PX, STRIP_PX), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (255, 40, 40), 1, cv2.LINE_AA)
    return picture


def _heat(score: F32, limit: float) -> U8:
    """Scores on a logarithmic colour scale from a hundredth to twice the region threshold."""
    level = np.log(np.maximum(score, 1e-6) / (0.01 * limit)) / np.log(200)
    grey = u8(np.clip(level * 255, 0, 255).astype(np.uint8))
    return u8(cv2.applyColorMap(_fitted(grey), cv2.COLORMAP_INFERNO)[..., ::-1])


def _charts(evaluation: Evaluation) -> list[tuple[str, str]]:
    pixels = evaluation.pixels()
    charts = []
    roc, pro = pixels.roc(), pixels.pro()
    if roc is not None:
        charts.append(("pixel ROC curve", _curve(roc, "false-positive rate", "true-positive rate", 1.0)))
    if pro is not None:
        charts.append(("PRO curve", _curve(pro, "false-positive rate", "mean overlap of regions", AUPRO_FPR)))
    charts.append(("board scores", _histogram(evaluation)))
    return charts


def _svg(figure: Figure) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()


def _curve(points: tuple[Any, Any], across: str, up: str, limit: float) -> str:
    figure = Figure(figsize=(4.2, 3.2))
    axes = figure.subplots()
    axes.plot(*points, color="#1f6feb")
    axes.set(xlabel=across, ylabel=up, xlim=(0, limit), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
    return _svg(figure)


def _histogram(evaluation: Evaluation) -> str:
    figure = Figure(figsize=(4.2, 3.2))
    axes = figure.subplots()
    judged = [one for one in evaluation.seen if one.score is not None and one.result is not Result.ERROR]
    scores = np.array([max(one.score or 0.0, 1e-3) for one in judged])
    bad = np.array([one.item.kind != GOOD for one in judged], np.bool_)
    if len(scores):
        edges = np.geomspace(scores.min() * 0.9, scores.max() * 1.1, 30).tolist()
        axes.hist(
            [scores[~bad], scores[bad]], edges, stacked=True, color=["#2da44e", "#cf222e"], label=[GOOD, "defective"]
        )
        axes.set_xscale("log")
        axes.axvline(evaluation.thresholds.region_peak, color="#50575e", linestyle="--", label="region threshold")
        axes.legend(fontsize=8)
    axes.set(xlabel="highest score of the board", ylabel="boards")
    return _svg(figure)
