"""What the archive costs a line, and how soon a change of zones is tried on the boards in it.

    python tests/bench/archive.py BUNDLE FRAMES... [--boards 200]

FRAMES: pictures that the bundle inspects, good and defective ones. Each is inspected, with and without evidence kept
(paired); written as JPEG and as PNG; and judged again from the files of so many boards, under one more zone and for
each strength of the page's slider. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from hisir_edge.archive.board_file import ArchivedBoard, Format, board_bytes
from hisir_edge.archive.judge_again import JudgeAgain, ZoneTrial
from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.geometry.box import BoxXYWH
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.line.sockets.message import message_from_judgement, provenance_from_manifest
from hisir_edge.machine.cpu import available_threads
from hisir_edge.records import Evidence, Frame
from hisir_edge.view.teach.strengths import points_of, scale_of, seen_board


def timed_ms(work) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("frames", type=Path, nargs="+")
    parser.add_argument("--boards", type=int, default=200)
    asked = parser.parse_args()
    bundle = load_bundle(asked.bundle)
    plain = inspector_from_bundle(bundle, available_threads())
    keeping: BoardInspector = plain.sibling()
    keeping.keep_evidence()
    provenance = provenance_from_manifest("bench", "0" * 32, bundle.manifest, bundle.manifest_sha256)
    pairs = []
    encoded: dict[Format, list[tuple[float, float]]] = {"jpeg": [], "png": []}
    files: list[bytes] = []
    plain.inspect(read_rgb(asked.frames[0]))
    for number, path in enumerate(asked.frames, 1):
        rgb = read_rgb(path)
        judged = keeping.inspect(rgb)
        pairs.append((timed_ms(partial(plain.inspect, rgb)), timed_ms(partial(keeping.inspect, rgb))))
        frame = Frame(image=Pixels(rgb), source="camera", frame_id=number, unit=path.stem, grabbed_at_ns=time.time_ns())
        _, verdict, mask = message_from_judgement(provenance, number, frame, judged).frames()
        for kind, times in encoded.items():
            start = time.thread_time()
            data = board_bytes(verdict, mask, frame, judged, kind)
            times.append(((time.thread_time() - start) * 1e3, len(data) / 1e6))
            if kind == "jpeg":
                files.append(data)
    plain.close()
    cycle = median(pair[0] for pair in pairs)
    print("| figure | |\n|---|---|")
    print(f"| a frame, ms | {cycle:.0f} |")
    print(f"| the same with evidence kept, paired | {median(b / a for a, b in pairs):.4f} |")
    for kind, times in encoded.items():
        took, size = (median(column) for column in zip(*times, strict=True))
        print(f"| as {kind}: processor, ms; share of the frame's; MB | {took:.0f}; {took / cycle:.3f}; {size:.1f} |")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.zip" for number in range(asked.boards)]
        for number, path in enumerate(paths):
            path.write_bytes(files[number % len(files)])
        h, w = bundle.recipe.frame_hw
        base = JudgeAgain(bundle)
        for share in (0.1, 0.5, 1.0):
            y, x = h * share, w * share
            zone = Zone("glare", ((0.0, 0.0), (x, 0.0), (x, y), (0.0, y)), 0.3)
            called: list[int] = []

            def trial(zone: Zone = zone, called: list[int] = called) -> None:
                tried = ZoneTrial(base, (*bundle.zones, zone))
                for path in paths:
                    with ArchivedBoard(path) as board:
                        evidence = board.evidence(board.facts.views[0])
                    if evidence is not None:
                        before, after = tried.counted(evidence)
                        called.append(before - after)

            took = median(timed_ms(trial) for _ in range(3))
            print(f"| a zone of {share:g} x {share:g} of the board tried on {asked.boards} boards, ms | {took:.0f} |")
            print(f"| ... regions that go | {sum(called) // 3} |")
        print(f"| every strength of the slider, ms | {timed_ms(partial(slider, base, paths)):.0f} |")


def slider(base: JudgeAgain, paths: list[Path]) -> None:
    """What the slider's strengths would have called of these boards, from their files, as the page does it."""
    limits, scale = base.thresholds, scale_of(base.bundle.manifest)
    judges: dict[int, JudgeAgain] = {}

    def judge(place: int) -> JudgeAgain:
        if place not in judges:
            judges[place] = base.with_thresholds(replace(limits, region_peak=limits.region_peak * scale[place]))
        return judges[place]

    seen = []
    for path in paths:
        with ArchivedBoard(path) as board:
            evidence = board.evidence(board.facts.views[0])
        if evidence is not None:

            def calls(place: int, box: BoxXYWH | None, evidence: Evidence = evidence) -> bool:
                return judge(place).calls(evidence, within_xywh=box)

            seen.append(seen_board(calls, len(scale), (), "waiting"))
    points = points_of(seen, base.bundle.manifest)
    shown = ", ".join(f"{one['strength']:g}: {one['called']}" for one in points[::4])
    print(f"| boards called of {len(seen)} by strength | {shown} |")


if __name__ == "__main__":
    main()
