"""Real boards, and rendered ones that lie anywhere: several training seeds, and the product without one of its parts.

    python tests/bench/real_boards.py DATA WORK --minutes 45 --seeds 0 1 2
    python tests/bench/real_boards.py DATA WORK --minutes 20 --seeds 0 --without locate area variants bend
    python tests/bench/real_boards.py DATA WORK --minutes 20 --seeds 0 --bad 3

Trains, builds a float32 bundle and measures it in WORK; what is finished there is kept, so that the command can be
stopped and repeated. ``--bad N``: N defective test boards lie among the good ones as well; both are measured on the
other test boards. Prints a Markdown table, mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from hisir_edge.cli.main import app
from hisir_edge.errors import InputError
from hisir_edge.images import header_of_picture
from hisir_edge.inspection.registration import anywhere

PARTS = {"locate": ("--register", "off", "--scale", "1"), "variants": ("--variants", "1"), "area": (), "bend": ()}
COLUMNS = ("pixel_auroc", "aupro", "image_auroc", "f1", "recall", "false_calls_per_board", "good_boards_failed")


def command(*arguments: object) -> None:
    """Run a command of the product in this process."""
    app([str(one) for one in arguments], standalone_mode=False)


def linked(source: Path, target: Path) -> None:
    """A link to a picture, its folders made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to(source.absolute())


def with_bad_boards(data: Path, work: Path, count: int) -> tuple[Path, Path]:
    """Two folders of links with the same test boards: the good boards alone, and with ``count`` defective ones."""
    classes = sorted(one for one in (data / "test").iterdir() if one.name != "good")
    bad = [min(one.iterdir()) for one in (classes * count)[:count]]
    for name, guests in (("clean", []), ("mixed", bad)):
        for picture in sorted((data / "train/good").iterdir()):
            linked(picture, work / name / "train/good" / picture.name)
        for picture in guests:
            linked(picture, work / name / "train/good" / f"bad-{picture.parent.name}-{picture.name}")
        for picture in sorted((data / "test").glob("*/*")):
            if picture in bad:
                continue
            linked(picture, work / name / picture.relative_to(data))
            for mask in (data / "ground_truth" / picture.parent.name).glob(f"{picture.stem}[._]*"):
                linked(mask, work / name / mask.relative_to(data))
    return work / "clean", work / "mixed"


def whole_frame(data: Path, work: Path) -> Path:
    """An area that leaves nothing out."""
    h, w = header_of_picture(next(iter(sorted((data / "train/good").iterdir())))).upright_hw
    path = work / "whole-frame.json"
    path.write_text(json.dumps([[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]]))
    return path


def measured(
    data: Path, work: Path, name: str, seed: int, limits: tuple[object, ...], more: tuple[object, ...]
) -> dict:
    """Figures of one training; trained, built and measured unless that is done."""
    figures = work / f"{name}-{seed}.json"
    run, bundle = work / f"run-{name}-{seed}", work / f"bundle-{name}-{seed}"
    if not figures.exists():
        command("train", "--data", data, "--out", run, "--seed", seed, *limits, *more)
        if not bundle.exists():
            command("build-engine", run, "--out", bundle, "--precision", "fp32", "--least-planted-recall", 0)
        command("evaluate", "--bundle", bundle, "--data", data, "--json", figures)
    return json.loads(figures.read_text())


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--steps", type=int, help="end after so many steps, however long they take on a busy machine")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--without", nargs="*", choices=PARTS, default=[])
    parser.add_argument("--bad", type=int, default=0)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    limits = ("--steps", asked.steps) if asked.steps else ("--max-minutes", asked.minutes)
    kinds = [("whole", asked.data)]
    if asked.bad:
        kinds = list(zip(("clean", "mixed"), with_bad_boards(asked.data, asked.work, asked.bad), strict=True))
    rows: list[tuple[str, list[dict]]] = []
    for name, data in kinds:
        rows.append((name, [measured(data, asked.work, name, seed, limits, ()) for seed in asked.seeds]))
    for part in asked.without:
        more = ("--area", whole_frame(asked.data, asked.work)) if part == "area" else PARTS[part]
        kept, name = anywhere.bend_of, f"without-{part}"
        if part == "bend":
            anywhere.bend_of = lambda *_: None  # type: ignore[assignment]
        try:
            rows.append((name, [measured(asked.data, asked.work, name, seed, limits, more) for seed in asked.seeds]))
        except InputError as error:  # without it there is nothing to measure, which is an answer, too
            print(f"{name}: {error}")
        anywhere.bend_of = kept
    print("| | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    for name, found in rows:
        cells = [spread([one[column] for one in found]) for column in COLUMNS]
        print(f"| {name} | " + " | ".join(cells) + " |")


def spread(values: list[float]) -> str:
    """Mean and standard deviation, or the one value."""
    mean = statistics.fmean(values)
    return f"{mean:.3f}" if len(values) < 2 else f"{mean:.3f} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    main()
