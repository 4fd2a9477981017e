"""The operator's page in a real browser, against real daemons."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.page import (
    PageProcess,
    a_line,
    a_line_on_a_page,
    asked,
    board,
    browser_here,
    browser_page,
    good_and_bad,
)  # fmt: skip
from support.sockets import free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def browser() -> None:
    browser_here()


@pytest.fixture
def photos(small_boards: Path, tmp_path: Path) -> list[Path]:
    """Two good boards, and two that are called."""
    return good_and_bad(small_boards, tmp_path)


def test_boards_come_live_and_are_reviewed_by_keyboard_alone(photos, small_bundle, tmp_path):
    with a_line_on_a_page(tmp_path, small_bundle) as (line, seen):
        for number in range(4):
            board(line, f"B-{number}")
            seen.wait_for_selector(f".facts dd:text-is('B-{number}')")
        seen.wait_for_selector(".banner.FAIL")
        assert seen.locator(".strip .card").count() == 4
        assert [text.split()[-1] for text in seen.locator(".strip .card").all_inner_texts()] == [
            "FAIL", "FAIL", "PASS", "PASS",
        ]  # fmt: skip
        seen.wait_for_selector(".live .marks polygon", state="attached")
        status = line.ask("status")
        body = asked(seen, f"/api/boards/smt-3/{status['epoch']}/3")["body"]
        listed = body["InspectedUnits"][0]["Inspections"][0]["DefectsFound"]

        # Tab and Enter lead to the board before the newest one; then a key a defect
        seen.locator(".strip .card").nth(1).focus()
        seen.keyboard.press("Enter")
        seen.wait_for_selector("h2:text-is('B-2')")
        seen.wait_for_selector(".defect.chosen")
        assert seen.locator(".defects .defect").count() == len(listed)
        seen.keyboard.press("f")
        seen.wait_for_selector("dialog input")
        seen.keyboard.type("J. Doe")
        seen.keyboard.press("Enter")
        seen.wait_for_selector(".defects .said.DefectRejected")
        for _ in listed[1:]:
            seen.keyboard.press("c")
        line.until(lambda _: len(line.ask("decisions")["decisions"]) == len(listed))
        told = line.ask("decisions")["decisions"]
        assert [(one["seq"], one["defect"], one["operator"]) for one in told] == [
            (3, n, "J. Doe") for n in range(1, len(listed) + 1)
        ]
        assert [one["Verification"] for one in told] == ["DefectRejected", *["DefectConfirmed"] * (len(listed) - 1)]
        seen.keyboard.press("m")
        seen.wait_for_selector("button[aria-pressed=true]:has-text('Map')")
        seen.keyboard.press("b")
        seen.wait_for_selector("button[aria-pressed=true]:has-text('Blink')")
        seen.keyboard.press("Enter")
        seen.wait_for_selector("h2:text-is('B-3')")
        # what others decide is seen as well
        epoch = status["epoch"]
        line.ask("verify", epoch=epoch, seq=4, defect=0, verification="DefectConfirmed", operator="another")
        seen.wait_for_selector(".pill.said:has-text('another')")
        audit = (tmp_path / "page" / "audit.jsonl").read_text()
        assert audit.count('"what":"decide"') == len(listed)


def test_decisions_wait_for_a_line_that_is_down_and_the_page_lives_on(photos, small_bundle, tmp_path):
    with (
        a_line(tmp_path / "a", small_bundle, tmp_path / "photos", "smt-3") as line,
        PageProcess(tmp_path, [line.endpoint], "--control", line.control) as page,
        browser_page(page.url) as seen,
    ):
        for number in range(3):
            board(line, f"B-{number}")
        seen.wait_for_selector(".facts dd:text-is('B-2')")
        os.kill(line.process.pid, signal.SIGKILL)
        line.process.wait()
        seen.wait_for_selector(".tab.away")
        epoch = asked(seen, "/api/boards?most=1")[0]["epoch"]
        asked(seen, "/api/name", {"user": "J"})
        decision = {"line": "smt-3", "epoch": epoch, "seq": 3, "defect": 0, "verification": "DefectRejected"}
        asked(seen, "/api/decide", decision)
        seen.wait_for_selector(".tab .pill:has-text('1 wait')")
        # the page's own end loses nothing either
        page.process.kill()
        page.process.wait()
        page.start()
        line.start()
        line.until(lambda status: status["state"] == "Ready")
        line.until(lambda _: len(line.ask("decisions")["decisions"]) == 1)
        board(line, "B-new")
        seen.wait_for_selector(".facts dd:text-is('B-new')")  # in the browser that was open all the while
        os.kill(page.process.pid, signal.SIGKILL)
        page.process.wait()
        board(line, "B-alone")  # the line runs on
        page.start()
        seen.wait_for_selector(".facts dd:text-is('B-alone')")
        # a line that begins anew does not know the board any more: that is said, and does not vanish
        line.kill()
        seen.wait_for_selector(".tab.away")
        asked(seen, "/api/name", {"user": "J"})  # the page's process began anew
        asked(seen, "/api/decide", {**decision, "verification": "DefectConfirmed"})
        shutil.rmtree(line.journal)
        line.start()
        line.until(lambda status: status["state"] == "Ready")
        seen.wait_for_selector(".tab .pill:has-text('1 refused')")
        # a line that hangs does not keep the page from ending
        os.kill(line.process.pid, signal.SIGSTOP)
        try:
            seen.evaluate("void fetch('/api/pictures/smt-3/" + epoch + "/2/0').catch(() => 0)")
            page.process.terminate()
            assert page.process.wait(12) == 0
        finally:
            os.kill(line.process.pid, signal.SIGCONT)


def test_a_decision_is_of_what_was_seen_when_the_key_was_pressed(photos, small_bundle, tmp_path):
    with a_line_on_a_page(tmp_path, small_bundle) as (line, seen):
        for number in range(4):
            board(line, f"B-{number}")
        seen.wait_for_selector(".facts dd:text-is('B-3')")
        asked(seen, "/api/name", {"user": "J"})
        seen.reload()
        seen.wait_for_selector(".strip .card.FAIL")
        epoch = line.ask("status")["epoch"]
        sent: list[dict] = []
        seen.on("request", lambda one: sent.append(one.post_data_json) if one.url.endswith("/api/decide") else None)

        def slowly(route) -> None:
            seen.wait_for_timeout(400)
            route.continue_()

        seen.route(re.compile(rf"/api/boards/smt-3/{epoch}/3$"), slowly)
        seen.route(re.compile(r"/api/decide$"), slowly)
        seen.locator(".strip .card").nth(1).click()
        seen.wait_for_selector("h2:text-is('B-2')")
        for _ in range(3):
            seen.keyboard.press("f")  # quick: one decision, not three
        seen.keyboard.down("f")
        seen.keyboard.down("f")  # held down
        seen.keyboard.up("f")
        seen.click("nav button:text-is('Live')")
        seen.locator(".strip .card").nth(0).click()
        seen.wait_for_selector("h2:text-is('B-3')")
        seen.wait_for_timeout(1500)  # what was on its way has come
        assert seen.locator(".review h2").inner_text() == "B-3"
        seen.keyboard.press("c")
        seen.wait_for_selector(".defects .said.DefectConfirmed")
        assert [(one["seq"], one["verification"]) for one in sent] == [(3, "DefectRejected"), (4, "DefectConfirmed")]


def test_two_lines_on_one_page_and_names_that_are_scripts(photos, small_bundle, tmp_path):
    script = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
    with (
        a_line(tmp_path / "a", small_bundle, tmp_path / "photos", "smt-3") as first,
        a_line(tmp_path / "b", small_bundle, tmp_path / "photos", "smt-4") as second,
        PageProcess(tmp_path, [first.endpoint, second.endpoint]) as page,
        browser_page(page.url) as seen,
    ):
        board(first, script)
        board(second, "other")
        seen.wait_for_selector(".tab:has-text('smt-3')")
        seen.click(".tab:has-text('smt-3')")
        seen.wait_for_selector(".banner.PASS")
        assert script in seen.locator(".facts dd").all_inner_texts()
        seen.click(".tab:has-text('smt-4')")
        seen.wait_for_selector(".facts dd:text-is('other')")
        seen.click("nav button:text-is('Boards')")
        seen.wait_for_selector(".boards tbody tr:nth-child(2)")
        assert seen.locator(f".boards .link:text-is('{script}')").count() == 1
        seen.fill("input[name=unit]", script)
        seen.click("button[type=submit]")
        seen.wait_for_selector(".boards tbody:has(tr):not(:has(tr:nth-child(2)))")
        seen.click(f".link:text-is('{script}')")
        seen.wait_for_selector(f"h2:text-is('{script}')")
        seen.goto(f"{page.url}?unit={script}#{script}")
        seen.wait_for_selector(".banner")
        assert seen.locator("img[src=x]").count() == 0
        seen.click("nav button:text-is('Statistics')")
        seen.wait_for_selector(".figure b")


def test_logging_in_and_what_it_takes(photos, small_bundle, tmp_path):
    users = tmp_path / "users.json"
    for name, role in (("vi", "viewer"), ("re", "reviewer")):
        command = [sys.executable, "-m", "hisir_edge", "view-user", name, "--role", role, "--users", str(users)]
        subprocess.run(command, input=f"password of {name}\n", text=True, check=True, capture_output=True)
    with (
        a_line(tmp_path / "a", small_bundle, tmp_path / "photos", "smt-3") as line,
        PageProcess(tmp_path, [line.endpoint], "--users", users) as page,
        browser_page(page.url) as seen,
    ):
        for number in range(3):
            board(line, f"B-{number}")
        for name, buttons in (("vi", 0), ("re", 4)):
            seen.fill("input[name=user]", name)
            seen.fill("input[type=password]", "wrong")
            seen.keyboard.press("Enter")
            seen.wait_for_selector("[role=alert]:text-is('wrong name or password')")
            seen.fill("input[type=password]", f"password of {name}")
            seen.keyboard.press("Enter")
            seen.wait_for_selector(".strip .card.FAIL")
            seen.click(".strip .card.FAIL")
            seen.wait_for_selector(".defect.chosen")
            assert seen.locator(".tools .decide").count() == buttons
            seen.click("button:text-is('log out')")
            seen.wait_for_selector("input[type=password]")
        cookies = seen.context.cookies()
        assert not [one for one in cookies if one["name"] == "hisir_session" and one["value"]]


def test_nothing_serious_is_found_by_axe_and_nothing_is_cut_off(photos, small_bundle, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with (
        a_line(tmp_path / "a", small_bundle, tmp_path / "photos", "smt-3") as line,
        PageProcess(tmp_path, [line.endpoint]) as page,
    ):
        for number in range(3):
            board(line, f"B-{number}")
        # the page's own policy lets no script in that is not its own
        for theme in ("light", "dark"):
            with browser_page(page.url, color_scheme=theme, bypass_csp=True) as seen:
                for name in ("Live", "Review", "Boards", "Statistics", "Teach"):
                    seen.click(f"nav button:text-is('{name}')")
                    seen.wait_for_selector({
                        "Live": ".banner.FAIL", "Review": ".defect.chosen", "Boards": ".boards tbody tr",
                        "Statistics": ".figure b", "Teach": ".zones canvas",
                    }[name])  # fmt: skip
                    found = axe.run(seen).response["violations"]
                    serious = [
                        (one["id"], one["nodes"][0]["html"][:200])
                        for one in found
                        if one["impact"] in ("serious", "critical")
                    ]
                    assert not serious, (theme, name, serious)
        for width, height in ((1280, 800), (3840, 2160), (820, 1180)):
            with browser_page(page.url, width, height, has_touch=width < 1300) as seen:
                seen.wait_for_selector(".banner.FAIL")
                assert seen.evaluate("document.documentElement.scrollWidth") <= width
                letters = seen.evaluate("parseFloat(getComputedStyle(document.querySelector('.banner')).fontSize)")
                assert letters >= width / 25  # read at two metres
                small = seen.evaluate(
                    "[...document.querySelectorAll('button')].filter(b => b.offsetParent && b.offsetHeight < 40).length"
                )
                assert small == 0


def test_a_thousand_boards_leave_page_and_process_as_large_as_before(tmp_path):
    verdicts, control = f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"
    command = [
        sys.executable, str(ROOT / "tests/support/line_process.py"), str(tmp_path / "journal"), verdicts, control,
        "--rate-hz", "100", "--count",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with PageProcess(tmp_path, [verdicts], "--control", control) as page, browser_page(page.url) as seen:

        def boards(count: int) -> tuple[int, int]:
            line = subprocess.Popen([*command, str(count)], env=environment)
            try:
                seen.wait_for_selector(f".facts dd:text-is('unit-{count}')", timeout=60_000)
                process = psutil.Process(page.process.pid)
                return process.memory_info().rss, seen.evaluate("document.getElementsByTagName('*').length")
            finally:
                line.terminate()
                line.wait()

        first, elements = boards(400)
        second, more = boards(1400)
        assert second - first < 12_000_000
        assert more <= elements + 5
        assert asked(seen, "/api/statistics?step_s=3600")["all"]["boards"] == 1400


def test_what_is_shipped_is_what_the_sources_give(tmp_path):
    """Where the page's tools are installed (npm ci in hisir_edge/view/page)."""
    source = ROOT / "hisir_edge" / "view" / "page"
    if not (source / "node_modules").is_dir() or shutil.which("npx") is None:
        pytest.skip("the page's tools are not installed here: make page")
    subprocess.run(["npx", "tsc", "--noEmit"], cwd=source, check=True, capture_output=True)
    subprocess.run(
        ["npx", "vite", "build", "--outDir", str(tmp_path / "out")], cwd=source, check=True, capture_output=True
    )
    shipped = ROOT / "hisir_edge" / "view" / "static"
    built = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert built == sorted(path.name for path in shipped.iterdir())
    for name in built:
        assert (shipped / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_the_script_is_small_enough_for_an_old_panel_pc():
    import gzip

    files = (ROOT / "hisir_edge" / "view" / "static").glob("*.js")
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) < 200_000
    index = (ROOT / "hisir_edge" / "view" / "static" / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)", index) and "style=" not in index and "http" not in index
