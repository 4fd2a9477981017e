"""Revisions of a line's bundle: made, activated, taken back while it inspects; killed at any instant."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.daemon import JOURNAL, DaemonProcess, WatchedDaemon

from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.write import write_manifest
from hisir_edge.errors import InputError

SAID: dict[str, Any] = {"who": "eva", "why": "label of a new maker"}
EVERYWHERE = {"name": "all", "polygon": [[-99, -99], [5000, -99], [5000, 5000], [-99, 5000]], "sensitivity": 0}


@pytest.fixture
def photos(small_boards: Path, tmp_path: Path) -> Path:
    """A folder of one board with a missing part."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "0.png").symlink_to(min((small_boards / "test" / "missing").iterdir()))
    return folder


def idle(line: DaemonProcess) -> dict[str, Any]:
    """What the revisions are once nothing is being done."""
    return line.until(lambda found: found["busy"] is None, "revisions")


def inspected(line: WatchedDaemon) -> dict[str, Any]:
    """The verdict on one more board."""
    before = len(line.bodies)
    line.ask("trigger")
    return line.wait(before + 1)[before]


def around(body: dict[str, Any], margin: float = 20) -> list[dict[str, Any]]:
    """Zones that ignore all that a verdict calls."""
    zones = []
    for defect in body["defects"]:
        left, top = defect.x - margin, defect.y - margin
        right, bottom = defect.x + defect.w + margin, defect.y + defect.h + margin
        polygon = [[left, top], [right, top], [right, bottom], [left, bottom]]
        zones.append({"name": f"z{defect.priority}", "polygon": polygon, "sensitivity": 0})
    return zones


def test_a_zone_is_made_activated_kept_over_a_kill_and_taken_back(photos, small_bundle, tmp_path):
    built = load_bundle(small_bundle).manifest_sha256
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", JOURNAL) as line:
        line.up()
        called = inspected(line)
        assert called["result"] == "FAIL" and called["bundle_sha256"] == built
        of: dict[str, Any] = {
            "of_sha256": built,
            "zones": around(called),
            **SAID,
            "comparison": {"boards": 200, "false_calls_gone": 3},
        }
        assert line.ask("revise", **of) == {"number": 1}
        made = idle(line)
        (revision,) = made["revisions"]
        assert made["last"] == {
            "do": "revise", "number": 1, "product": called["product"], "camera": "replay", "refused": ""
        }  # fmt: skip
        assert (revision["who"], revision["comparison"]) == ("eva", {"boards": 200, "false_calls_gone": 3})
        assert not revision["in_use"] and line.ask("status")["revision"] == 0
        assert inspected(line)["result"] == "FAIL", "made is not activated"
        line.ask("activate", number=1, **SAID)
        assert idle(line)["last"]["refused"] == "" and line.ask("status")["revision"] == 1
        passed = inspected(line)
        assert passed["result"] == "PASS" and passed["bundle_sha256"] == revision["sha256"]
        with pytest.raises(InputError, match="nothing is to be done"):
            line.ask("activate", number=1, **SAID)
        with pytest.raises(InputError, match="look at the change again"):
            line.ask("revise", **of)
        line.process.send_signal(signal.SIGKILL)
        line.process.wait()
        line.start()
        line.up()
        assert line.ask("status")["revision"] == 1 and inspected(line)["result"] == "PASS"
        with pytest.raises(InputError, match="revision 2 in use, to be taken back; got revision 1"):
            line.ask("take_back", number=2, **SAID)
        assert line.ask("take_back", number=1, **SAID) == {"number": 0}
        found = idle(line)
        assert line.ask("status")["revision"] == 0
        back = inspected(line)
        assert back["result"] == "FAIL" and back["bundle_sha256"] == built
        assert [(one["what"], one["number"], one["who"]) for one in reversed(found["events"])] == [
            ("made", 1, "eva"), ("activated", 1, "eva"), ("taken back", 0, "eva")
        ]  # fmt: skip
        with pytest.raises(InputError, match="nothing is to be taken back"):
            line.ask("take_back", **SAID)


def test_what_may_not_be_is_refused_and_the_line_goes_on(photos, small_bundle, tmp_path):
    bundle = load_bundle(small_bundle)
    of: dict[str, Any] = {"of_sha256": bundle.manifest_sha256, **SAID}
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", JOURNAL) as line:
        line.up()
        for request, words in (
            ({}, "change one of them"),
            ({"strength": 0.2}, "strength"),
            ({"strength": 30}, "strength"),
            ({"strength": 10**400}, "strength"),
            ({"zones": "none"}, "zones"),
            ({"zones": [{"name": "z", "polygon": [[0, 0], [1, 1]], "sensitivity": 1}]}, "polygon"),
            ({"zones": [EVERYWHERE, EVERYWHERE]}, "different names"),
            ({"strength": 1.1, "comparison": {"boards": "many"}}, "as a number"),
            ({"strength": 1.1, "camera": "none"}, "a camera of the line"),
            ({"strength": 1.1, "why": ""}, "why"),
        ):
            with pytest.raises(InputError, match=words):
                line.ask("revise", **{**of, **request})
        line.ask("revise", **of, zones=[EVERYWHERE])
        refused = idle(line)
        assert "planted defects" in refused["last"]["refused"] and not refused["revisions"]
        with pytest.raises(InputError, match="the number of a revision"):
            line.ask("activate", number=9, **SAID)
        with pytest.raises(InputError, match="the number of a revision"):
            line.ask("activate", **SAID)
        line.ask("revise", **of, strength=1.1)
        number = idle(line)["revisions"][0]["number"]
        folder = tmp_path / "journal.revisions" / f"{number:06d}"
        assert load_bundle(folder).thresholds.region_peak == pytest.approx(1.1 * bundle.thresholds.region_peak)
        (folder / "golden.jpg").write_bytes(b"no picture")
        line.ask("activate", number=number, **SAID)
        assert "golden.jpg" in idle(line)["last"]["refused"]
        assert line.ask("status")["revision"] == 0 and inspected(line)["result"] == "FAIL"
        assert not [path for path in folder.parent.iterdir() if path.name.startswith(".new.")]
        shutil.rmtree(folder.parent)
        with pytest.raises(InputError, match="check the folder and its disk"):
            line.ask("revisions")
        assert inspected(line)["result"] == "FAIL", "the line goes on"


def test_a_bundle_from_elsewhere_is_added_and_another_configured_one_counts(photos, small_bundle, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(small_bundle, other)
    manifest = load_bundle(other).manifest
    limits = manifest.thresholds
    stricter = limits.model_copy(update={"region_peak": limits.region_peak * 1.05})
    write_manifest(other, manifest.model_copy(update={"thresholds": stricter}))
    configured = tmp_path / "configured"
    shutil.copytree(small_bundle, configured)
    with WatchedDaemon(tmp_path, configured, photos, "software", JOURNAL) as line:
        line.up()
        with pytest.raises(InputError, match="bundle"):
            line.ask("add_revision", bundle=str(tmp_path / "none"), **SAID)
            raise InputError(expected="", received=idle(line)["last"]["refused"], fix="")
        number = line.ask("add_revision", bundle=str(other), **SAID)["number"]
        line.until(lambda found: found["busy"] is None and len(found["revisions"]) == 1, "revisions")
        line.ask("activate", number=number, **SAID)
        assert idle(line)["last"]["refused"] == "" and line.ask("status")["revision"] == number
        shutil.rmtree(configured)
        shutil.copytree(other, configured)  # what an engineer puts into its place is what they want
        # in its folder, and not loaded yet: nothing is activated or taken back beside it
        line.ask("activate", number=0, **SAID)
        assert "reload the line" in idle(line)["last"]["refused"] and line.ask("status")["revision"] == number
        line.ask("take_back", **SAID)
        assert "reload the line" in idle(line)["last"]["refused"] and line.ask("status")["revision"] == number
        line.ask("reload")
        line.until(lambda status: status["revision"] == 0 and status["last_reload"] == "reloaded")
        assert line.logged("revision not in use") and line.logged("revision set aside")
        inspected(line)
        assert line.bodies[-1]["bundle_sha256"] == load_bundle(other).manifest_sha256
        # set aside is set aside: it does not come back by itself, and the log says so
        shutil.rmtree(configured)
        shutil.copytree(small_bundle, configured)
        line.ask("reload")
        of = load_bundle(small_bundle).manifest_sha256
        line.until(lambda _: inspected(line)["bundle_sha256"] == of)
        found = idle(line)
        assert [one["what"] for one in found["events"]] == ["set aside", "activated", "added"]
        pipe = tmp_path / "pipe"
        shutil.copytree(other, pipe)
        (pipe / "model.onnx").unlink()
        os.mkfifo(pipe / "model.onnx")
        line.ask("add_revision", bundle=str(pipe), **SAID)
        assert "plain files" in idle(line)["last"]["refused"]


def test_a_damaged_revision_in_use_is_no_start(photos, small_bundle, tmp_path):
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", JOURNAL) as line:
        line.up()
        line.ask("revise", of_sha256=load_bundle(small_bundle).manifest_sha256, strength=1.1, **SAID)
        idle(line)
        line.ask("activate", number=1, **SAID)
        idle(line)
        line.kill()
        folder = tmp_path / "journal.revisions"
        (folder / "000001" / "noise.png").unlink()
        line.start()
        assert line.process.wait(60) == 2 and "noise.png" in line.tail() and "Traceback" not in line.tail()
        (folder / "active.json").write_text("{")
        line.start()
        assert line.process.wait(60) == 2 and "active.json" in line.tail() and "Traceback" not in line.tail()
        (folder / "active.json").unlink()
        line.start()
        line.up()
        assert line.ask("status")["revision"] == 0


def test_killed_at_any_instant_it_is_one_or_the_other_and_whole(photos, small_bundle, tmp_path):
    built = load_bundle(small_bundle).manifest_sha256
    folder = tmp_path / "journal.revisions"
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", JOURNAL) as line:
        for kill in range(6):
            line.up()
            status = line.ask("status")
            revisions = line.ask("revisions")["revisions"]
            assert {one["number"] for one in revisions if one["in_use"]} == ({status["revision"]} - {0})
            assert not [path for path in folder.iterdir() if path.name.startswith(".new.")]
            of = next((one["sha256"] for one in revisions if one["in_use"]), built)
            line.ask("revise", of_sha256=of, strength=1.01, **SAID)
            if kill % 2:
                number = idle(line)["last"]["number"]
                line.ask("activate", number=number, **SAID)
            time.sleep(0.07 * kill)  # the instant, which differs
            line.process.send_signal(signal.SIGKILL)
            line.process.wait()
            line.start()
        line.up()
        numbers = [one["number"] for one in line.ask("revisions")["revisions"]]
        assert len(set(numbers)) == len(numbers) and len(numbers) >= 3
        for path in folder.glob("0*"):
            load_bundle(path)
        lines = [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]
        assert {one["what"] for one in lines} <= {"made", "activated"}


def test_the_oldest_that_nobody_needs_goes_and_the_folder_is_private(photos, small_bundle, tmp_path):
    more = f"{JOURNAL}[revisions]\nmost = 3\n"
    before = os.umask(0o002)
    try:
        line = WatchedDaemon(tmp_path, small_bundle, photos, "software", more)
        with line:
            line.up()
            for _ in range(5):
                status = line.ask("revisions")
                of = load_bundle(small_bundle).manifest_sha256
                if status["in_use"][0]["number"]:
                    of = next(one["sha256"] for one in status["revisions"] if one["in_use"])
                number = line.ask("revise", of_sha256=of, strength=1.01, **SAID)["number"]
                idle(line)
                if number < 3:
                    line.ask("activate", number=number, **SAID)
                    idle(line)
            found = line.ask("revisions")
            assert [one["number"] for one in found["revisions"]] == [5, 2, 1]
            assert [one["number"] for one in found["events"] if one["what"] == "deleted"] == [4, 3]
            modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "journal.revisions").rglob("0*")}
            assert modes == {0}
    finally:
        os.umask(before)


def test_each_camera_has_revisions_of_its_own(photos, small_bundle, tmp_path):
    side = (
        f'[[also]]\n[also.source]\ntype = "replay"\nname = "side"\nfolder = "{photos}"\ntrigger = "software"\n'
        f'loop = true\n[also.bundle]\npath = "{small_bundle}"\n'
    )
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", f"{JOURNAL}{side}") as line:
        line.up()
        called = inspected(line)
        assert {view["source"]: view["result"] for view in called["views"]} == {"replay": "FAIL", "side": "FAIL"}
        mine = [defect for defect in called["defects"] if defect.camera == "side"]
        of = load_bundle(small_bundle).manifest_sha256
        line.ask("revise", camera="side", of_sha256=of, zones=around({"defects": mine}), **SAID)
        assert idle(line)["last"]["refused"] == ""
        line.ask("activate", number=1, **SAID)
        found = idle(line)
        assert {one["camera"]: one["number"] for one in found["in_use"]} == {"replay": 0, "side": 1}
        assert line.ask("status")["revision"] == 0, "of the first camera"
        views = {view["source"]: view["result"] for view in inspected(line)["views"]}
        assert views == {"replay": "FAIL", "side": "PASS"}
        line.ask("take_back", camera="side", **SAID)
        idle(line)
        assert {view["result"] for view in inspected(line)["views"]} == {"FAIL"}
