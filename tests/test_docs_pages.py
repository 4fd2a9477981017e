"""Pages stay short, prose is wrapped, generated pages are as the code has them, links and anchors lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_LINES, MOST_COLUMNS = 200, 100
CODE_OR_LINK = r"`[^`]*`|\[[^\]]*\]\([^)]*\)"
LONG = {"docs/how-to/extend.md"}
"""Pages that may be longer: four whole files stand in it."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_short_and_its_prose_wrapped(page):
    lines = page.read_text().splitlines()
    assert len(lines) <= MOST_LINES or name_of(page) in LONG
    fenced, long = False, []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        # tables, headings and pictures stay on a line, and so do code and links
        prose = not fenced and not line.lstrip().startswith(("|", "#", "<", "!["))
        words = re.sub(CODE_OR_LINK, lambda m: m[0].replace(" ", "_"), line.strip().lstrip("*- "))
        if prose and len(line) > MOST_COLUMNS and " " in words:
            long.append(number)
    assert not long, f"lines {long}"


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of the headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_anchors_of_links_are_there(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        if not target.startswith("http"):
            other = (page.parent / target).resolve() if target else page
            assert anchor in anchors(other), f"{target}#{anchor}"


def test_generated_pages_are_as_the_code_has_them():
    command = [sys.executable, ROOT / "docs" / "generate.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr


def test_every_key_and_option_is_described():
    for name in ("line-toml.md", "line-toml-source.md", "commands-line.md", "commands-learning.md", "metrics.md"):
        text = (ROOT / "docs" / "reference" / name).read_text()
        rows = re.findall(r"^\| (`[^|]*) \|[^|]*\| *(.*?) *\|$", text, re.MULTILINE)
        assert len(rows) > 5
        assert [key for key, meaning in rows if not meaning] == [], name
