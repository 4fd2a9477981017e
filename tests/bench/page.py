"""How quickly the operator's page answers, of a page that runs: make demo VIEW=1, or hisir-edge view.

    python tests/bench/page.py http://127.0.0.1:8080 [--boards 5]

The newest boards: from the verdict's own time until a browser that listens has it; the first look at a board (fetched
from the line, decoded, halved), and tiles of frame, golden board and map after it. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.request
from datetime import datetime
from http.cookiejar import CookieJar
from statistics import median
from typing import Any


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--boards", type=int, default=5)
    asked = parser.parse_args()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    url = asked.url.rstrip("/")

    def get(path: str) -> tuple[bytes, float]:
        start = time.perf_counter()
        with opener.open(url + path, timeout=60) as answer:
            data = answer.read()
        return data, (time.perf_counter() - start) * 1e3

    get("/api/me")
    pushed: list[float] = []
    rows: list[dict[str, Any]] = []
    with opener.open(url + "/api/events", timeout=120) as events:
        kind = ""
        while len(pushed) < asked.boards:
            line = events.readline().decode().strip()
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind == "verdict":
                row = json.loads(line.removeprefix("data: "))
                pushed.append((time.time() - datetime.fromisoformat(row["time"]).timestamp()) * 1e3)
                rows.append(row)
    time.sleep(1)  # a board is archived behind its verdict
    first: list[float] = []
    tiles: dict[str, list[float]] = {"frame": [], "golden": [], "map": []}
    made: dict[str, list[float]] = {"golden": [], "map": []}
    for row in rows:
        of = f"{row['line']}/{row['epoch']}/{row['seq']}/0"
        data, took = get(f"/api/pictures/{of}")
        first.append(took)
        picture = json.loads(data)
        level = picture["levels"] - 1
        across, down = (-(-picture[side] // picture["tile_px"]) for side in ("width", "height"))
        for layer, times in tiles.items():
            if layer in made:
                made[layer].append(get(f"/api/tiles/{of}/{layer}/0/0/0")[1])
            for x, y in ((0, 0), (across // 2, down // 2), (across - 1, down - 1), (1, 1), (across // 2, 0)):
                times.append(get(f"/api/tiles/{of}/{layer}/{level}/{x}/{y}")[1])
    print("| figure | ms, median | most |\n|---|---|---|")
    shown = {
        "from a verdict to a browser": pushed, "first look at a board": first,
        **{f"first tile of its {layer}": times for layer, times in made.items()},
        **{f"a further tile of its {layer}": times for layer, times in tiles.items()},
    }  # fmt: skip
    for name, times in shown.items():
        print(f"| {name} | {median(times):.0f} | {max(times):.0f} |")


if __name__ == "__main__":
    main()
