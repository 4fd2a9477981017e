"""Teaching a line from the operator's page: zones and strengths are tried, made revisions, activated, taken back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.page import PageProcess, a_line, a_line_on_a_page, asked, board, browser_here, browser_page, good_and_bad

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.images import read_rgb
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.learn.review.boards import load_reviewed, unpack_reviewed


@pytest.fixture(autouse=True)
def browser() -> None:
    browser_here()


@pytest.fixture
def photos(small_boards: Path, tmp_path: Path) -> list[Path]:
    """Two good boards, and two that are called."""
    return good_and_bad(small_boards, tmp_path)


def drawn_around_all(seen: Any) -> None:
    """Open Teach and draw a zone around all of the golden board."""
    seen.click("nav button:text-is('Teach')")
    seen.wait_for_selector(".zones canvas")
    box = seen.locator(".zones .viewer").bounding_box()
    seen.wait_for_timeout(500)
    side = min(box["width"], box["height"] * 4 / 3)
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        seen.mouse.click(middle[0] + x * side * 0.49, middle[1] + y * side * 0.365)
        seen.wait_for_timeout(400)  # two clicks at once are a double click
    seen.wait_for_selector(".zones circle:nth-of-type(4)", state="attached")
    seen.click("button:text-is('Close zone')")
    seen.wait_for_selector(".zones polygon.new", state="attached")


def test_a_zone_is_tried_as_an_inspection_with_it_would_end(photos, small_bundle, tmp_path):
    bundle = load_bundle(small_bundle)
    with a_line_on_a_page(tmp_path, small_bundle) as (line, seen):
        for number in range(4):
            board(line, f"B-{number}")
        seen.wait_for_selector(".facts dd:text-is('B-3')")
        epoch = line.ask("status")["epoch"]
        asked(seen, "/api/name", {"user": "J"})
        said = {"line": "smt-3", "epoch": epoch, "seq": 3, "defect": 0, "verification": "DefectConfirmed"}
        asked(seen, "/api/decide", said)
        asked(seen, "/api/decide", {**said, "seq": 4, "verification": "DefectRejected"})
        h, w = bundle.recipe.frame_hw
        half = [(-1.0, -1.0), (w / 2, -1.0), (w / 2, float(h)), (-1.0, float(h))]
        for polygon, sensitivity in ((half, 0.0), ([(w - x, y) for x, y in half], 0.0), (half, 4.0)):
            zone = {"name": "tried", "polygon": polygon, "sensitivity": sensitivity}
            found = asked(seen, "/api/trial", {"line": "smt-3", "zones": [zone]})
            expected = {"calls": 0, "calls_after": 0, "new_calls": 0, "confirmed_lost": 0, "false_calls_gone": 0}
            zones = (*bundle.zones, Zone("tried", tuple(polygon), sensitivity))
            slow = CpuInspector(replace(bundle, zones=zones), engine_from_bundle(bundle, 2))
            plain = CpuInspector(bundle, engine_from_bundle(bundle, 2))
            for seq, photo in enumerate(photos, 1):
                before, after = (one.inspect(read_rgb(photo)).regions_total > 0 for one in (plain, slow))
                expected["calls"] += before
                expected["calls_after"] += after
                expected["new_calls"] += after and not before
                expected["confirmed_lost"] += before and not after and seq == 3
                expected["false_calls_gone"] += before and not after and seq == 4
            slow.close()
            plain.close()
            assert {name: found[name] for name in expected} == expected
            assert found["boards"] == 4
        # the same by hand: all of the golden board is drawn around, and ignored
        drawn_around_all(seen)
        seen.click("button:text-is('Try on the last boards')")
        seen.wait_for_selector(".zones .result b:has-text('1 false calls would go, 1 confirmed defects would be lost')")


def test_a_revision_is_made_activated_and_taken_back_by_hand(photos, small_bundle, tmp_path):
    with a_line_on_a_page(tmp_path, small_bundle) as (line, seen):
        for number in range(4):
            board(line, f"B-{number}")
        seen.wait_for_selector(".facts dd:text-is('B-3')")
        built = line.ask("status")["revision"], load_bundle(small_bundle).manifest_sha256
        assert built[0] == 0
        epoch = line.ask("status")["epoch"]
        body = asked(seen, f"/api/boards/smt-3/{epoch}/4")["body"]
        region = body["InspectedUnits"][0]["Inspections"][0]["DefectsFound"]
        asked(seen, "/api/name", {"user": "eva"})
        for one in region:
            said = {"line": "smt-3", "epoch": epoch, "seq": 4, "defect": one["Priority"]}
            asked(seen, "/api/decide", {**said, "verification": "DefectRejected"})
        polygons = []
        for one in region:
            px = one["RegionOfInterest"]["px"]
            left, top, right, bottom = px["x"] - 24, px["y"] - 24, px["x"] + px["w"] + 24, px["y"] + px["h"] + 24
            polygons.append([[left, top], [right, top], [right, bottom], [left, bottom]])
        zones = [{"name": f"z{n}", "polygon": p, "sensitivity": 0} for n, p in enumerate(polygons)]
        tried = asked(seen, "/api/trial", {"line": "smt-3", "zones": zones})
        assert tried["false_calls_gone"] == 1 and tried["calls_after"] == tried["calls"] - 1
        sha256 = asked(seen, "/api/zones/smt-3")["bundle_sha256"]
        asked(seen, "/api/revise", {"line": "smt-3", "zones": zones, "bundle_sha256": sha256, "why": "a new label"})
        # what was made by request is activated by hand
        seen.click("nav button:text-is('Teach')")
        seen.wait_for_selector(".revisions .figure:has-text('a new label'):has-text('1 false calls gone')")
        seen.click(".revisions button:text-is('Activate'):not([disabled])")
        seen.wait_for_selector("dialog input[name=user]")
        seen.keyboard.type("eva")
        seen.keyboard.press("Enter")
        seen.wait_for_selector("dialog input[name=reason]")
        seen.keyboard.press("Enter")
        seen.wait_for_selector(".revisions .pill:text-is('in use')")
        assert line.ask("status")["revision"] == 1
        events = line.ask("revisions")["events"]
        assert [(one["what"], one["who"], one["why"]) for one in events] == [
            ("activated", "eva", "a new label"), ("made", "eva", "a new label")
        ]  # fmt: skip
        for number in range(4, 8):
            board(line, f"B-{number}")
        seen.wait_for_selector(".zones")
        results = {row["unit"]: row["result"] for row in asked(seen, "/api/boards?line=smt-3")}
        assert (results["B-3"], results["B-7"]) == ("FAIL", "PASS")
        # an older board is shown with the bundle that inspected it, and tried as the present one would judge it
        tile = f"/api/tiles/smt-3/{epoch}/4/0/golden/0/0/0"
        status, _ = seen.evaluate("async (path) => [(await fetch(path)).status, 0]", tile)
        assert status == 200
        again = asked(seen, "/api/trial", {"line": "smt-3", "zones": zones})
        assert (again["boards"], again["without_evidence"], again["false_calls_gone"]) == (8, 0, 0)
        assert again["calls"] == again["calls_after"] == 2 * (tried["calls"] - 1)
        # where a zone ignores the board nothing is kept: only the boards of before tell what would be without it
        bare = asked(seen, "/api/trial", {"line": "smt-3", "zones": []})
        assert (bare["boards"], bare["without_evidence"], bare["new_calls"]) == (4, 4, 1)
        seen.click(".revisions button:text-is('Take back')")
        seen.wait_for_selector("dialog input[name=reason]")
        seen.keyboard.type("it was no label")
        seen.keyboard.press("Enter")
        seen.wait_for_selector(".revisions .words:has-text('the configured bundles')")
        assert line.ask("status")["revision"] == 0
        log = (tmp_path / "page" / "audit.jsonl").read_text()
        assert all(word in log for word in ("revise", "activate", "take back", "it was no label"))


def test_a_confirmed_defect_is_lost_though_its_board_is_called_still(photos, small_bundle, tmp_path):
    with a_line_on_a_page(tmp_path, small_bundle) as (line, seen):
        for number in range(4):
            board(line, f"B-{number}")
        seen.wait_for_selector(".facts dd:text-is('B-3')")
        epoch = line.ask("status")["epoch"]
        strength = 1 / load_bundle(small_bundle).thresholds.region_peak * 1.01
        sha256 = asked(seen, "/api/zones/smt-3")["bundle_sha256"]
        asked(seen, "/api/name", {"user": "eva"})
        asked(
            seen, "/api/revise", {"line": "smt-3", "strength": strength, "bundle_sha256": sha256, "why": "more calls"}
        )
        line.until(lambda found: found["busy"] is None and len(found["revisions"]) == 1, "revisions")
        line.ask("activate", number=1, who="eva", why="more calls")
        line.until(lambda found: found["busy"] is None, "revisions")
        for number in range(4, 8):
            board(line, f"B-{number}")
        seen.wait_for_selector(".facts dd:text-is('B-7')")
        found = {}
        for seq in range(5, 9):
            body = asked(seen, f"/api/boards/smt-3/{epoch}/{seq}")["body"]
            found[seq] = body["InspectedUnits"][0]["Inspections"][0]["DefectsFound"]
        seq = next(seq for seq, defects in found.items() if len(defects) > 1)
        said = {"line": "smt-3", "epoch": epoch, "seq": seq}
        asked(seen, "/api/decide", {**said, "defect": 1, "verification": "DefectConfirmed"})
        asked(seen, "/api/decide", {**said, "defect": 2, "verification": "DefectRejected"})
        px = found[seq][0]["RegionOfInterest"]["px"]
        left, top, right, bottom = px["x"] - 3, px["y"] - 3, px["x"] + px["w"] + 3, px["y"] + px["h"] + 3
        zone = {"name": "z", "polygon": [[left, top], [right, top], [right, bottom], [left, bottom]], "sensitivity": 0}
        tried = asked(seen, "/api/trial", {"line": "smt-3", "zones": [zone]})
        assert tried["confirmed_lost"] == 1 and tried["calls_after"] >= 1


def test_the_slider_says_what_other_strengths_would_have_called(photos, small_bundle, tmp_path):
    bundle = load_bundle(small_bundle)
    limits = bundle.thresholds
    with a_line_on_a_page(tmp_path, small_bundle) as (line, seen):
        for number in range(4):
            board(line, f"B-{number}")
        seen.wait_for_selector(".facts dd:text-is('B-3')")
        found = asked(seen, "/api/strengths/smt-3")
        points = {one["strength"]: one for one in found["points"]}
        assert found["boards"] == 4 and 1.0 in points and min(points) >= 1 / limits.region_peak - 1e-3
        for strength in (min(points), 1.0, sorted(points)[-7], max(points)):
            other = replace(bundle, thresholds=replace(limits, region_peak=limits.region_peak * strength))
            slow = CpuInspector(other, engine_from_bundle(bundle, 2))
            called = [slow.inspect(read_rgb(photo)).regions_total > 0 for photo in photos]
            slow.close()
            assert points[strength]["called"] == sum(called), strength
            tried = asked(seen, "/api/trial", {"line": "smt-3", "strength": strength})
            assert tried["calls_after"] == sum(called)
        planted = [points[strength]["planted"] for strength in sorted(points)]
        assert planted == sorted(planted, reverse=True) and planted[0] > 0
        assert points[1.0]["expected"] == pytest.approx(bundle.manifest.thresholds.false_calls_per_board)
        seen.click("nav button:text-is('Teach')")
        slider = seen.locator(".strength input")
        seen.wait_for_selector(".strength .words:has-text('1.00 times')")
        seen.wait_for_selector(".strength canvas")
        slider.focus()
        seen.keyboard.press("ArrowRight")
        seen.wait_for_selector(".strength .words:has-text('1.10 times')")
        seen.fill("input[name=why]", "fewer false calls")
        seen.click("button:text-is('Make a revision')")
        seen.wait_for_selector("dialog input[name=user]")
        seen.keyboard.type("eva")
        seen.keyboard.press("Enter")
        seen.wait_for_selector(".revisions .figure:has-text('fewer false calls')")
        folder = line.journal.with_name("journal.revisions") / "000001"
        assert load_bundle(folder).thresholds.region_peak == pytest.approx(1.1 * limits.region_peak)


def test_who_may_not_teach_sees_revisions_and_changes_nothing(photos, small_bundle, tmp_path):
    users = tmp_path / "users.json"
    command = [sys.executable, "-m", "hisir_edge", "view-user", "re", "--role", "reviewer", "--users", str(users)]
    subprocess.run(command, input="password of re\n", text=True, check=True, capture_output=True)
    with (
        a_line(tmp_path / "a", small_bundle, tmp_path / "photos", "smt-3") as line,
        PageProcess(tmp_path, [line.endpoint], "--users", users) as page,
        browser_page(page.url) as seen,
    ):
        seen.fill("input[name=user]", "re")
        seen.fill("input[type=password]", "password of re")
        seen.click("button:text-is('log in')")
        board(line, "B-0")
        seen.wait_for_selector(".facts dd:text-is('B-0')")
        sha256 = load_bundle(small_bundle).manifest_sha256
        line.ask("revise", of_sha256=sha256, strength=1.05, who="eva", why="fewer calls")
        line.until(lambda answer: len(answer["revisions"]) == 1, "revisions")
        seen.click("nav button:text-is('Teach')")
        seen.wait_for_selector(".revisions .figure:has-text('fewer calls')")
        assert seen.locator(".revisions button[disabled]").count() == 1
        assert seen.locator("button:text-is('Make a revision')").is_disabled()
        assert not seen.locator(".strength").is_visible()
        assert line.ask("status")["revision"] == 0


def test_a_missed_place_is_drawn_by_hand_and_exported(photos, small_bundle, tmp_path):
    with a_line_on_a_page(tmp_path, small_bundle) as (line, seen):
        for number in range(3):
            board(line, f"B-{number}")
        seen.wait_for_selector(".facts dd:text-is('B-2')")
        epoch = line.ask("status")["epoch"]
        # the board before the last one had passed
        seen.locator(".strip .card").nth(1).click()
        seen.wait_for_selector("h2:text-is('B-1')")
        seen.wait_for_selector(".review .viewer canvas")
        seen.wait_for_timeout(500)
        box = seen.locator(".review .pair .viewer").first.bounding_box()
        seen.keyboard.press("x")
        seen.wait_for_selector(".tools button:has-text('Keep the place')")
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for x, y in ((-40, -40), (40, -40), (40, 40)):
            seen.mouse.click(middle[0] + x, middle[1] + y)
            seen.wait_for_timeout(400)  # two clicks at once are a double click
        seen.wait_for_selector(".review polyline.open", state="attached")
        seen.keyboard.press("x")
        seen.wait_for_selector("dialog input[name=user]")
        seen.keyboard.type("eva")
        seen.keyboard.press("Enter")
        seen.wait_for_selector(".missed:has-text('drawn by eva')")
        seen.wait_for_selector(".review polygon.missed", state="attached")
        line.until(lambda _: len(line.ask("decisions")["decisions"]) == 1)
        (told,) = line.ask("decisions")["decisions"]
        assert (told["seq"], told["defect"], told["Verification"]) == (2, 0, "DefectConfirmed")
        outcomes = {row["unit"]: row["outcome"] for row in asked(seen, "/api/boards?line=smt-3")}
        assert (outcomes["B-1"], outcomes["B-0"]) == ("escape", "passed")
        wrong = {"line": "smt-3", "epoch": epoch, "seq": 2, "camera": "replay", "polygon": [[0, 0], [9999, 0], [5, 5]]}
        script = """async (body) => {
          const me = await (await fetch("/api/me")).json();
          const options = {method: "POST", body: JSON.stringify(body), headers: {"x-hisir-token": me.token}};
          return (await fetch("/api/missed", options)).status;
        }"""
        assert seen.evaluate(script, wrong) == 400
        seen.click("nav button:text-is('Teach')")
        with seen.expect_download() as download:
            seen.click("a[href]:text-is('Reviewed boards')")
        run = tmp_path / "run"
        run.mkdir()
        hw = load_bundle(small_bundle).recipe.frame_hw
        assert unpack_reviewed((Path(download.value.path()),), run, hw) == 1
        (found,) = load_reviewed(run)
        assert found.unit == "B-1" and [place.kind for place in found.places] == ["escape"]
        assert found.places[0].who == "eva" and len(found.places[0].polygon) == 3
        seen.click("nav button:text-is('Boards')")
        seen.click(".link:text-is('B-1')")
        seen.wait_for_selector(".missed button")
        seen.click(".missed button")
        seen.wait_for_selector(".missed", state="detached")
        line.until(lambda _: len(line.ask("decisions")["decisions"]) == 2)
        assert line.ask("decisions")["decisions"][1]["Verification"] == "NotVerifiedYet"
