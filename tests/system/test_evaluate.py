"""A trained network built and measured through the command line."""

from __future__ import annotations

import json

import pytest
from support.commands import here

from hisir_edge.learn.data.run import load_record


def test_build_and_evaluate_through_the_command_line(small_run, small_boards, tmp_path):
    bundle = tmp_path / "bundle"
    options = ["--target", "onnxruntime", "--precision", "fp32", "--false-calls-per-board", 0.2, "--out", bundle]
    options += ["--least-planted-recall", 0.5]
    done = here("build-engine", small_run, *options)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["precision"] == "fp32"
    assert manifest["thresholds"]["held_out_boards"] == len(load_record(small_run).held_out)
    report, page_folder = tmp_path / "figures.json", tmp_path / "page"
    done = here("evaluate", "--bundle", bundle, "--data", small_boards, "--json", report, "--report", page_folder)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())
    keys = {"pixel_auroc", "aupro", "image_auroc", "f1", "false_calls_per_board", "recall_by_class"}
    assert keys <= set(figures)
    assert set(figures["recall_by_class"]) == {"missing", "foreign_object", "shifted"}
    assert figures["pixel_auroc"] > 0.8, "even a minute of training must beat chance by far"
    assert figures["errors"] == []
    assert json.loads(done.stdout) == figures, "the figures alone"
    total = sum(figures["defects_by_class"].values())
    assert f"{figures['images']} pictures, {figures['good_boards']} of them good" in done.stderr
    assert f"{round(figures['recall'] * total)} of {total} defects found" in done.stderr
    assert f"pixel AUROC {figures['pixel_auroc']:.3f}" in done.stderr
    assert set(figures["by_class"]) == {"missing", "foreign_object", "shifted"}
    page = (page_folder / "index.html").read_text()
    pictures = {p.name for p in page_folder.glob("*.jpg")}
    assert len(pictures) == 4 + 6, "a strip for each good board and each defective one"
    assert all(name in page for name in pictures)
    assert page.count("data:image/svg+xml") == 3


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "20"])
def test_a_rate_that_is_none_is_one_line(small_run, tmp_path, rate):
    done = here("build-engine", small_run, "--false-calls-per-board", rate, "--out", tmp_path / "b")
    assert done.returncode == 2
    assert "false-call rate above 0" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_a_shift_that_hides_the_board_counts_against_it_and_is_reported(small_bundle, small_boards, tmp_path):
    figures, page = tmp_path / "figures.json", tmp_path / "page"
    options = ["--bundle", small_bundle, "--data", small_boards, "--shift", "fixture=60", "--json", figures]
    done = here("evaluate", *options, "--report", page)
    assert done.returncode == 0, done.stderr
    seen = json.loads(figures.read_text())
    assert len(seen["errors"]) == seen["images"]
    assert seen["false_calls_per_board"] == 1.0
    assert seen["recall"] == 0.0
    assert f"{seen['images']} of {seen['images']} pictures could not be judged" in done.stderr
    assert "fixture=60" in (page / "index.html").read_text()
    refused = here("evaluate", *options[:4], "--first-look")
    assert refused.returncode == 2
    assert "expected a bundle with a first look" in refused.stderr
    refused = here("evaluate", *options[:4], "--shift", "standard", "--report", page)
    assert refused.returncode == 2
    assert "standard" in refused.stderr


def test_int8_judges_as_fp32_does(small_run, small_bundle, small_boards, tmp_path):
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions
    from hisir_edge.learn.evaluation.evaluate import evaluate
    from hisir_edge.learn.evaluation.figures import figures

    build_bundle(small_run, tmp_path / "fp32", BuildOptions(least_planted_recall=0.5, precision="fp32"))
    exact, quantised = (figures(evaluate(b, small_boards)) for b in (tmp_path / "fp32", small_bundle))
    assert quantised["pixel_auroc"] == pytest.approx(exact["pixel_auroc"], abs=0.01)
    assert quantised["aupro"] == pytest.approx(exact["aupro"], abs=0.03)


def test_an_unbuilt_run_is_refused(tmp_path):
    done = here("build-engine", tmp_path, "--out", tmp_path / "b")
    assert done.returncode == 2
    assert "hisir-edge train" in done.stderr
    assert not (tmp_path / "b").exists()
