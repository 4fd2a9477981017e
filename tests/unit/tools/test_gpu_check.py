"""The GPU check tells what it saw after each step, ends what takes too long, and has no number that is not measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import check
import psutil
import pytest
import rehearse
from onnxruntime_cuda import measured, tiles_of
from running import Place, Skipped, TimeIsUp
from steps import STEPS, Step, counts_of_tests

from hisir_edge.bundle.load import load_bundle


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
    monkeypatch.setattr(check, "machine", lambda: {"gpus": [], "emulated": False})
    monkeypatch.setattr(sys, "argv", ["check.py", "--work", str(tmp_path / "work"), "--out", str(tmp_path)])
    code = check.main()
    found = json.loads((tmp_path / "gpu-check.json").read_text())
    assert (code, found["not_measured"]) == (0, "no GPU here")
    assert not {step.name for step in STEPS} & set(found)
    assert set(found["reached"].values()) == {"not measured"}


def test_the_machine_is_described():
    seen = check.machine()
    assert seen["packages"]["numpy"] and seen["cores"] >= 1 and isinstance(seen["gpus"], list)


def test_each_step_is_told_before_the_next_begins(monkeypatch, tmp_path):
    seen = []

    def step(name):
        def work(at):
            seen.append(json.loads((at.out / "gpu-check.json").read_text()))
            return {"figure": len(seen)}

        return Step(name, work, 10)

    code, found = run(monkeypatch, tmp_path, step("one"), step("two"), Step("tests", lambda at: {"failed": 0}, 10))
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
    end = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "killed, but still there"
        time.sleep(0.05)


def test_no_step_is_begun_without_time(monkeypatch, tmp_path):
    code, found = run(monkeypatch, tmp_path, Step("late", lambda at: {}, 10), options=("--minutes", "0.01"))
    assert (code, found["late"]) == (0, {"not_measured": "no time was left"})
    cut = Step("cut", lambda at: at.said(sys.executable, "-c", "import time; time.sleep(60)"), 60)  # type: ignore[arg-type, return-value]
    code, found = run(monkeypatch, tmp_path, cut, options=("--minutes", "0.1"))
    assert code == 0 and found["cut"]["not_measured"].startswith("no time was left: ")
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
    right |= {name: {"not_measured": f"because {reason}"} for name, reason in rehearse.EXPECTED.items()}  # type: ignore[dict-item]
    assert rehearse.wrong(right) == []  # type: ignore[arg-type]
    assert rehearse.wrong(right | {"sanitizer": {"took_s": 1.0, "memcheck_errors": 0}}) == []  # type: ignore[arg-type]
    assert rehearse.wrong(right | {"kernels": {"failed": "no"}}) == ["kernels: {'failed': 'no'}"]  # type: ignore[arg-type]
    assert len(rehearse.wrong(right | {"tensorrt": {"failed": "another"}})) == 1  # type: ignore[arg-type]
    assert len(rehearse.wrong({})) == len(STEPS)


def test_another_provider_is_measured_against_the_cpu(small_bundle):
    bundle = load_bundle(small_bundle)
    given = tiles_of(bundle, 64)
    assert given["tile"].shape == (64, 3, 128, 128) and given["cue"].shape == (64, 4, 128, 128)
    found = measured(small_bundle / "model.onnx", given, "CPUExecutionProvider")
    assert found["most_off"] == 0 and found["tiles_per_s"] > 0 and found["scores_to"] > 0
    assert measured(small_bundle / "model.onnx", given, "NoSuchProvider")["failed"]
    assert "failed" in measured(small_bundle / "manifest.json", given, "CPUExecutionProvider")
    assert measured(small_bundle / "none.onnx", given, "CPUExecutionProvider") == {
        "not_measured": "this network was not prepared"
    }


def test_steps_that_are_asked_for_bring_what_they_need_and_keep_the_result_before(monkeypatch, tmp_path):
    steps = (
        Step("base", lambda at: {"n": 1}, 10),
        Step("more", lambda at: {"n": 2}, 10, ("base",)),
        Step("no", dict, 10),  # type: ignore[arg-type]
    )
    run(monkeypatch, tmp_path, *steps[:1])
    code, found = run(monkeypatch, tmp_path, *steps, options=("--only", "more"))
    assert code == 0 and found["base"]["n"] == 1 and found["more"]["n"] == 2 and "no" not in found
    assert "base" in json.loads((tmp_path / "gpu-check-before.json").read_text())


def test_all_that_steps_say_is_kept(monkeypatch, tmp_path):
    def says(text):
        return Step(text, lambda at: {"n": len(at.said(sys.executable, "-c", f"print({text!r})"))}, 10)

    run(monkeypatch, tmp_path, says("one"), says("two"))
    log = (tmp_path / "steps.log").read_text()
    assert log.index("\none\n") < log.index("\ntwo\n")


def test_a_check_that_is_ended_leaves_nothing_running(tmp_path):
    """SIGTERM and SIGKILL: what its step started ends, too."""
    sleeper = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    program = (
        "import sys; import check; from steps import Step\n"
        f"check.STEPS = (Step('s', lambda at: at.said(sys.executable, '-c', {sleeper!r}, at.work / 'pid'), 500),)\n"
        "check.machine = lambda: {'gpus': [1], 'emulated': False}\n"
        "sys.exit(check.main())\n"
    )
    here = Path(check.__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}:{here.parent}"}
    for number in (signal.SIGTERM, signal.SIGKILL):
        work = tmp_path / number.name
        command = [sys.executable, "-c", program, "--work", str(work), "--out", str(work)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (work / "pid").is_file() or not (work / "pid").read_text():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        child = psutil.Process(int((work / "pid").read_text()))
        process.send_signal(number)
        process.wait(30)
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_pytests_own_counts_are_taken(tmp_path):
    report = tmp_path / "tests.xml"
    report.write_text(
        '<testsuites><testsuite><testcase name="a"/>'
        '<testcase name="b"><failure message="assert 1 == 2&#10;more"/></testcase>'
        '<testcase name="c"><error message="no GPU"/></testcase><testcase name="d"><skipped message="why"/></testcase>'
        '<testcase name="e"><skipped message="why"/></testcase></testsuite></testsuites>'
    )
    assert counts_of_tests(report) == (
        {"passed": 1, "failed": 2, "skipped": 2}, {"failed": ["b: assert 1 == 2", "c: no GPU"], "skipped": ["why"]},
    )  # fmt: skip
