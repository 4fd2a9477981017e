"""The GPU check tells what it saw after each step, ends what takes too long, and has no number that is not measured."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import check
import psutil
import pytest
import rehearse
from onnxruntime_cuda import measured, tiles_of
from running import Place, Skipped, TimeIsUp
from steps import STEPS, Step

from hisir_edge.engine.bundle import load_bundle


def place(folder: Path, seconds: float = 60) -> Place:
    return Place(folder, folder, folder, None, "64x64", 1, time.monotonic() + seconds)


def run(monkeypatch, folder: Path, *steps: Step, options: tuple[str, ...] = ()) -> tuple[int, dict]:
    monkeypatch.setattr(check, "STEPS", steps)
    monkeypatch.setattr(check, "machine", lambda: {"gpus": [{"name": "a GPU"}], "emulated": False})
    command = ["check.py", "--work", str(folder / "work"), "--out", str(folder), *options]
    monkeypatch.setattr(sys, "argv", command)
    code = check.main()
    return code, json.loads((folder / "gpu-check.json").read_text())


def test_without_a_gpu_nothing_is_measured_and_nothing_failed(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["check.py", "--work", str(tmp_path / "work"), "--out", str(tmp_path)])
    code = check.main()
    found = json.loads((tmp_path / "gpu-check.json").read_text())
    if not found["machine"]["gpus"]:
        assert (code, found["not_measured"]) == (0, "no GPU here")
        assert not {step.name for step in STEPS} & set(found)
        assert set(found["reached"].values()) == {"not measured"}


def test_each_step_is_told_before_the_next_begins(monkeypatch, tmp_path):
    seen = []

    def step(name):
        def work(at):
            seen.append(json.loads((at.out / "gpu-check.json").read_text()))
            return {"figure": len(seen)}

        return Step(name, work, 10)

    code, found = run(monkeypatch, tmp_path, step("one"), step("two"))
    assert code == 0
    assert [one["unfinished"] for one in seen] == ["one", "two"]
    assert "one" not in seen[0] and seen[1]["one"]["figure"] == 1
    assert found["two"]["figure"] == 2 and "unfinished" not in found


def test_a_failure_is_told_and_the_others_go_on(monkeypatch, tmp_path):
    def fails(at):
        at.said(sys.executable, "-c", "print('first'); raise SystemExit('no such kernel')")

    def cannot(at):
        raise Skipped("not installed")

    code, found = run(
        monkeypatch, tmp_path, Step("bad", fails, 10), Step("after", cannot, 10, ("bad",)), Step("not", cannot, 10),
        Step("part", lambda at: {"fp16": {"failed": "no"}, "fp32": {"tiles_per_s": 1.0}}, 10),
        Step("good", lambda at: {}, 10),
    )  # fmt: skip
    assert code == 1
    assert found["bad"] == {"failed": "RuntimeError: first | no such kernel"}
    assert found["after"] == {"not_measured": "bad did not go well"}
    assert found["not"] == {"not_measured": "not installed"}
    assert "took_s" in found["good"] and found["part"]["fp32"] == {"tiles_per_s": 1.0}


def test_a_step_that_hangs_is_ended_with_all_that_it_started(monkeypatch, tmp_path):
    child = "import time, pathlib, sys, os; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    parent = (
        "import subprocess, sys; print('began', flush=True); "
        f"subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]])"
    )

    def hangs(at):
        at.said(sys.executable, "-c", parent, at.work / "pid")

    start = time.monotonic()
    code, found = run(monkeypatch, tmp_path, Step("hangs", hangs, 3), Step("good", lambda at: {}, 10))
    assert code == 1 and found["hangs"]["failed"].startswith("not done within 3 s: began")
    assert time.monotonic() - start < 30 and "took_s" in found["good"]
    pid = int((tmp_path / "work" / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_no_step_is_begun_without_time(monkeypatch, tmp_path):
    code, found = run(monkeypatch, tmp_path, Step("late", lambda at: {}, 10), options=("--minutes", "0.01"))
    assert (code, found["late"]) == (0, {"not_measured": "no time was left"})
    with pytest.raises(TimeIsUp):
        place(tmp_path, 0.2).said(sys.executable, "-c", "import time; time.sleep(60)")


def test_what_was_reached_is_of_what_was_measured():
    line = {"pipeline_efficiency": 0.95, "frames_per_s": 250.0}
    found = {
        "machine": {"emulated": False},
        "kernels": {"tiles": {"bytes": 1e8, "of_copy": 0.8}, "small": {"bytes": 1e3, "of_copy": 0.1}, "took_s": 3.0},
        "torch_slots_1": {"not_measured": "no"}, "torch_slots_2": {**line, "took_s": 1},
        "torch_slots_4": {"pipeline_efficiency": 0.85, "frames_per_s": 150.0},
        "tensorrt": {"failed": "no"},
    }  # fmt: skip
    assert check.reached(found) == {
        "kernels_of_copy": "0.8 of 0.7: yes", "pipeline_efficiency": "0.95 of 0.9: yes",
        "frames_per_s": "250 of 200: yes",
    }  # fmt: skip
    found["tensorrt-rtx"] = {"slots_1": {"pipeline_efficiency": 0.5, "frames_per_s": 20.0}, "took_s": 1}
    assert check.reached(found)["frames_per_s"] == "20 of 200: NO"


def test_the_steps_that_tell_most_come_first_and_fit_into_ten_minutes_where_they_go_well():
    names = [step.name for step in STEPS]
    assert names[:5] == ["pycuda", "kernels", "torch_slots_2", "tests", "frames"]
    assert sum(step.limit_s for step in STEPS[:4]) <= 600
    assert set(rehearse.RAN) | set(rehearse.EXPECTED) == set(names)


def test_the_rehearsal_knows_wrong_from_right():
    right = {name: {"took_s": 1.0} for name in rehearse.RAN}
    right |= {name: {"not_measured": f"because {reason}"} for name, reason in rehearse.EXPECTED.items()}
    assert rehearse.wrong(right) == []
    assert rehearse.wrong(right | {"sanitizer": {"took_s": 1.0, "memcheck_errors": 0}}) == []
    assert rehearse.wrong(right | {"kernels": {"failed": "no"}}) == ["kernels: {'failed': 'no'}"]
    assert len(rehearse.wrong(right | {"tensorrt": {"failed": "another"}})) == 1
    assert len(rehearse.wrong({})) == len(STEPS)


def test_another_provider_is_measured_against_the_cpu(small_bundle):
    bundle = load_bundle(small_bundle)
    given = tiles_of(bundle, 64)
    assert given["tile"].shape == (64, 3, 128, 128) and given["cue"].shape == (64, 4, 128, 128)
    found = measured(small_bundle / "model.onnx", given, "CPUExecutionProvider")
    assert found["most_off"] == 0 and found["tiles_per_s"] > 0 and found["scores_to"] > 0
    assert measured(small_bundle / "none.onnx", given, "CPUExecutionProvider") == {
        "not_measured": "this network was not prepared"
    }
