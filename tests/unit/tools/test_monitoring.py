"""Alerts and dashboard: of metrics that are there, taken by promtool, on what a line really serves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from hisir_edge.config.sockets import MetricsTable
from hisir_edge.line.reporting.prometheus import Metrics

FOLDER = Path(__file__).parents[3] / "examples" / "monitoring"
OF_PROMETHEUS = {"up"}
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian: prometheus)")


def served() -> dict[str, set[str]]:
    """Every metric that a line serves, and its labels."""
    found: dict[str, set[str]] = {}
    for family in Metrics(MetricsTable()).registry.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        for end in ends:
            found[family.name + end] = set()
    return found


def expressions() -> list[str]:
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    rules = (FOLDER / "hisir-edge.rules.yml").read_text()
    return [
        *(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]),
        *re.findall(r"expr: (?:>-\n)?(.*?)\n        (?:for|labels):", rules, re.DOTALL),
    ]


def test_every_metric_that_is_asked_for_is_served():
    known, asked = set(served()) | OF_PROMETHEUS, set()
    for text in expressions():
        asked |= set(re.findall(r"\b(?:hisir_[a-z_]+|up)\b(?=[{\[\s=]|$)", text))
    assert len(expressions()) > 30 and asked <= known, asked - known
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    every = {re.sub("_(bucket|sum|count)$", "", name) for name in served()}
    assert shown >= every, f"a metric that nobody sees: {every - shown}"
    assert b"# TYPE hisir_inspections_total counter" in generate_latest(Metrics(MetricsTable()).registry)


def test_labels_that_are_used_are_there():
    page = (FOLDER.parents[1] / "docs" / "reference" / "metrics.md").read_text()
    labels = {
        name: set(re.findall(r"`(\w+)`", cells)) | {"instance", "job", "le"}
        for name, cells in re.findall(r"^\| `(hisir_\w+)` \| (.*?) \|", page, re.MULTILINE)
    }
    for text in expressions():
        for name, inside in re.findall(r"(hisir_[a-z_]+)\{(.*?)\}", text):
            base = next(one for one in labels if name.startswith(one.removesuffix("_total")))
            assert set(re.findall(r"(\w+)\s*[=!]~?", inside)) <= labels[base], (name, inside)


def test_panels_lie_beside_each_other():
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@needs_promtool
@pytest.mark.parametrize(
    "command", [("check", "rules", "hisir-edge.rules.yml"), ("test", "rules", "hisir-edge.test.yml"),
                ("check", "config", "prometheus.yml")],
)  # fmt: skip
def test_promtool_takes_them(command):
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
