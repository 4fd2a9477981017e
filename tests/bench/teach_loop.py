"""The teach loop from end to end: boards inspected by a daemon, reviewed by their truth, trained on, inspected again.

    python tests/bench/teach_loop.py DATA RUN BUNDLE WORK [--escapes 2] [--minutes 5]

DATA: test and ground_truth of a data set; RUN: the training run that BUNDLE was built from. A called region that truth
touches is confirmed, one on a good board is a false call, other ones are left undecided; the largest defects that
nothing touches are drawn as escapes. Then ``train --of RUN --add-reviewed``, ``build-engine``, ``revision add`` and
``activate``, and the same boards once more. Prints a table and writes WORK/teach_loop.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.daemon import JOURNAL, WatchedDaemon

from hisir_edge.bundle.load import manifest_from_folder
from hisir_edge.mes.stored import stored_file
from hisir_edge.mes.verdict import verdict_from_frames
from hisir_edge.transport.control_client import Asker
from hisir_edge.view.history import History
from hisir_edge.view.teach.reviewed import draw_missed, reviewed_of

TABLES = f'{JOURNAL}[archive]\nkeep = "all"\nformat = "png"\n[line]\nname = "loop"\ndeadline_ms = 60000\n'
LEAST_ESCAPE_PX = 60


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("data", "run", "bundle", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--escapes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    work: Path = asked.work
    work.mkdir(parents=True)
    (work / "photos").mkdir()
    boards = sorted((asked.data / "test").glob("*/*"))
    for number, path in enumerate(boards):
        (work / "photos" / f"{number:04d}{path.suffix}").symlink_to(path.resolve())
    truths = [truth_of(asked.data, path) for path in boards]
    base = manifest_from_folder(asked.bundle)
    with WatchedDaemon(work, asked.bundle, work / "photos", "software", TABLES) as line:
        line.up()
        epoch = line.ask("status")["epoch"]
        inspect_all(line, len(boards))
        line.until(lambda status: status["archive"]["boards"] == len(boards))
        history = History(work / "state")
        with Asker(line.control) as asker:
            for seq in range(len(boards)):
                _, frames = asker.ask({"do": "replay", "after": seq, "most": 1}, 20)
                history.add(verdict_from_frames(frames[:3]))
        escapes = decide(history, line, epoch, truths, asked.escapes)
        before = figures(line.bodies[: len(boards)], truths)
        with Asker(line.control) as asker:
            file, counts = reviewed_of(
                history, "loop", base.product, 0.0,
                lambda of, e, seq: stored_file(asker, {"do": "archived_board", "epoch": e, "seq": seq})[1],
            )  # fmt: skip
        (work / "reviewed.zip").write_bytes(file.read())
        started = time.monotonic()
        cli("train", "--of", asked.run, "--add-reviewed", work / "reviewed.zip", "--out", work / "run",
            "--max-minutes", asked.minutes, "--seed", asked.seed)  # fmt: skip
        trained = time.monotonic()
        rate = base.thresholds.false_calls_per_board
        how = ("--product", base.product, "--precision", base.precision, "--false-calls-per-board", rate)
        more = ("--least-planted-recall", 0, "--despite-reviewed")
        cli("build-engine", work / "run", "--out", work / "bundle", *how, *more)
        built = time.monotonic()
        at = ("--endpoint", line.control, "--who", "bench", "--why", "teach loop")
        cli("revision", "add", work / "bundle", *at)
        cli("revision", "activate", 1, *at)
        activated = time.monotonic()
        inspect_all(line, len(boards))
        after = figures(line.bodies[len(boards) :], truths)
    reviewed = manifest_from_folder(work / "bundle").reviewed
    found = {
        "boards": len(boards), "reviewed": counts, "escapes": escapes, "before": before, "after": after,
        "gate": None if reviewed is None else reviewed.model_dump(),
        "seconds": {"train": trained - started, "build": built - trained, "activate": activated - built},
    }  # fmt: skip
    (work / "teach_loop.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def cli(*arguments: Any) -> None:
    print("hisir-edge", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "hisir_edge", *map(str, arguments)], check=True)


def inspect_all(line: WatchedDaemon, count: int) -> None:
    first = len(line.bodies)
    for number in range(count):
        line.ask("trigger", unit=f"B-{first + number}")
        line.wait(first + number + 1)


def truth_of(data: Path, path: Path) -> np.ndarray | None:
    """The mask of a defective board, None of a good one."""
    found = sorted((data / "ground_truth" / path.parent.name).glob(f"{path.stem}*"))
    return np.asarray(cv2.imread(str(found[0]), cv2.IMREAD_GRAYSCALE)) > 0 if found else None


def touching(defect: Any, truth: np.ndarray) -> np.ndarray:
    """The pixels of a truth that a region's contour covers."""
    inside = np.zeros(truth.shape, np.uint8)
    cv2.fillPoly(inside, [np.array(defect.contour, np.int32)], 1)
    return truth & (inside > 0)


def decide(
    history: History, line: WatchedDaemon, epoch: str, truths: list[np.ndarray | None], most_escapes: int
) -> list[dict[str, Any]]:
    """Decide on each call by truth, and draw the largest defects that nothing touches."""
    missed: list[tuple[int, int, np.ndarray]] = []
    for seq, (body, truth) in enumerate(zip(line.bodies, truths, strict=False), 1):
        for defect in body["defects"]:
            if truth is None:
                history.decide("loop", epoch, seq, defect.priority, "DefectRejected", "", "truth")
            elif touching(defect, truth).any():
                history.decide("loop", epoch, seq, defect.priority, "DefectConfirmed", "", "truth")
        missed += [(area, seq, contour) for area, contour in missed_parts(body, truth)]
    missed.sort(key=lambda one: -one[0])
    drawn = []
    for area, seq, contour in missed[:most_escapes]:
        board = history.board("loop", epoch, seq)
        polygon = cv2.approxPolyDP(contour, 2.0, closed=True)[:, 0].astype(float).tolist()
        if board is not None and len(polygon) >= 3:
            draw_missed(history, board, "replay", polygon, "truth")
            drawn.append({"seq": seq, "area_px": area, "result": board["result"]})
    return drawn


def missed_parts(body: dict[str, Any], truth: np.ndarray | None) -> list[tuple[int, np.ndarray]]:
    """Area and contour of each defect that no call touches."""
    if truth is None:
        return []
    count, labels, stats, _ = cv2.connectedComponentsWithStats(truth.astype(np.uint8))
    seen = {int(n) for defect in body["defects"] for n in np.unique(labels[touching(defect, truth)])}
    out = []
    for label in range(1, count):
        if label not in seen and stats[label, cv2.CC_STAT_AREA] >= LEAST_ESCAPE_PX:
            contours, _ = cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            out.append((int(stats[label, cv2.CC_STAT_AREA]), max(contours, key=len)))
    return out


def figures(bodies: list[dict[str, Any]], truths: list[np.ndarray | None]) -> dict[str, Any]:
    """Good boards called, false regions on them, defective boards called, and defects found of all."""
    good = [body for body, truth in zip(bodies, truths, strict=True) if truth is None]
    bad = [(body, truth) for body, truth in zip(bodies, truths, strict=True) if truth is not None]
    parts = [cv2.connectedComponents(truth.astype(np.uint8))[0] - 1 for _, truth in bad]
    lost = [len(missed_parts(body, truth)) for body, truth in bad]
    return {
        "good": len(good), "good_called": sum(body["result"] != "PASS" for body in good),
        "false_regions": sum(len(body["defects"]) for body in good), "bad": len(bad),
        "bad_called": sum(body["result"] == "FAIL" for body, _ in bad), "defects": sum(parts),
        "defects_missed": sum(lost), "errors": sum(body["result"] == "ERROR" for body in bodies),
    }  # fmt: skip


if __name__ == "__main__":
    main()
