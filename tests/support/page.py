"""``hisir-edge view`` as a child process, and the page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from support.daemon import JOURNAL, DaemonProcess, replay
from support.sockets import free_port

TABLES = f'{JOURNAL}[archive]\nkeep = "all"\nformat = "png"\n'
START_S = 30.0
WAIT_MS = 20_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser_here() -> str:
    """The browser's program; the test is skipped where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    pytest.importorskip("playwright.sync_api")
    return found


class PageProcess:
    """The page's process, ended on exit. ``lines``: endpoints."""

    def __init__(self, folder: Path, lines: list[str], *more: object) -> None:
        self.folder, self.log = folder, folder / "view.log"
        self.listen = f"127.0.0.1:{free_port()}"
        connect = [part for line in lines for part in ("--connect", line)]
        self._command = [
            sys.executable, "-m", "hisir_edge", "view", *connect, "--listen", self.listen,
            "--state", str(folder / "page"), *map(str, more),
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where browsers find it."""
        return f"http://{self.listen}/"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                with urllib.request.urlopen(self.url, timeout=1) as answer:  # noqa: S310  # our own address
                    assert answer.status == 200
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(self.log.read_text()[-2000:])

    def __enter__(self) -> PageProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                assert self.process.wait(15) == 0
            finally:
                if self.process.poll() is None:
                    self.process.kill()
                    self.process.wait()


@contextmanager
def browser_page(url: str, width: int = 1280, height: int = 800, **options: Any) -> Iterator[Any]:
    """A page of a browser of its own, opened at ``url``; whatever its console calls an error fails the test."""
    from playwright.sync_api import sync_playwright

    program = browser_here()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            page = browser.new_page(viewport={"width": width, "height": height}, **options)
            page.set_default_timeout(WAIT_MS)
            wrong: list[str] = []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
            page.on("console", lambda message: wrong.extend(_errors(message)))
            page.goto(url)
            yield page
            assert not wrong, wrong
        finally:
            browser.close()


def _errors(message: Any) -> list[str]:
    """An error of the page; none where a request got no good answer, which browser and OpenSeadragon log themselves."""
    expected = any(words in message.text for words in ("Failed to load resource", "net::ERR", "failed to load: "))
    return [] if expected or message.type != "error" else [message.text]


def asked(page: Any, path: str, body: Any = None) -> Any:
    """What the page's own session is answered, by fetch in the browser."""
    script = """async ([path, body]) => {
      const me = await (await fetch("/api/me")).json();
      const options = body === null ? {} : {method: "POST", body, headers: {"x-hisir-token": me.token}};
      const answer = await fetch(path, options);
      return [answer.status, await answer.json()];
    }"""
    end = time.monotonic() + 30
    while True:
        status, found = page.evaluate(script, [path, None if body is None else json.dumps(body)])
        if status == 200 or "wait until it is heard" not in str(found) or time.monotonic() > end:
            break
        page.wait_for_timeout(100)
    assert status == 200, found
    return found


def good_and_bad(boards: Path, folder: Path) -> list[Path]:
    """Two good boards of a data set and two with a missing part, linked under numbers in ``photos``."""
    photos = folder / "photos"
    photos.mkdir()
    found = [*sorted((boards / "test/good").iterdir())[:2], *sorted((boards / "test/missing").iterdir())[:2]]
    for number, path in enumerate(found):
        (photos / f"{number}.png").symlink_to(path)
    return found


@contextmanager
def a_line(folder: Path, bundle: Path, photos: Path, name: str) -> Iterator[DaemonProcess]:
    """A daemon that waits for triggers."""
    folder.mkdir(exist_ok=True)
    with DaemonProcess(
        folder, bundle, replay(photos, "software"), f'{TABLES}[line]\nname = "{name}"\n', tcp=True
    ) as line:
        line.until(lambda status: status["state"] == "Ready")
        yield line


@contextmanager
def a_line_on_a_page(folder: Path, bundle: Path) -> Iterator[tuple[DaemonProcess, Any]]:
    """A line, the page that follows it, and a browser that shows it."""
    with (
        a_line(folder / "a", bundle, folder / "photos", "smt-3") as line,
        PageProcess(folder, [line.endpoint]) as page,
        browser_page(page.url) as seen,
    ):
        yield line, seen


def board(line: DaemonProcess, unit: str) -> None:
    """Let a board come, and wait for its verdict."""
    before = sum(line.ask("status")["verdicts"].values())
    line.ask("trigger", unit=unit)
    line.until(lambda status: sum(status["verdicts"].values()) > before and status["archive"]["boards"] > before)
