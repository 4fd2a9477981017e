"""Folders of boards: MVTec-AD layout (train/good, test/*, ground_truth/*) or a plain folder of good ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hisir_edge.errors import InputError
from hisir_edge.images import image_paths, read_rgb

GOOD = "good"


@dataclass(frozen=True, slots=True)
class TestItem:
    """One test picture: its class ('good' or a defect) and its mask file, None for good ones."""

    image: Path
    kind: str
    mask: Path | None


def good_images(data: Path) -> list[Path]:
    """The good boards to learn from: ``data/train/good`` if it is there, else the folder itself."""
    if not data.is_dir():
        raise InputError(expected="a folder with train/good or with images", received=str(data), fix="check --data")
    folder = data / "train" / GOOD
    return image_paths(folder if folder.is_dir() else data)


def test_items(data: Path) -> list[TestItem]:
    """The test pictures of an MVTec-AD layout, good ones first; each defective one must have its mask."""
    test = data / "test"
    if not test.is_dir():
        raise InputError(
            expected="test/<class>/ with images and ground_truth/<class>/ with masks",
            received=f"no {test}",
            fix="check --data",
        )
    kinds = sorted((d.name for d in test.iterdir() if d.is_dir()), key=lambda k: (k != GOOD, k))
    items: list[TestItem] = []
    for kind in kinds:
        for image in image_paths(test / kind):
            mask = None if kind == GOOD else data / "ground_truth" / kind / f"{image.stem}_mask.png"
            if mask is not None and not mask.is_file():
                raise InputError(
                    expected=f"the mask of {image}", received=f"no {mask}", fix="add the mask or remove the image"
                )
            items.append(TestItem(image, kind, mask))
    if not items:
        raise InputError(expected=f"class folders in {test}", received="none", fix="check --data")
    return items


def split_held_out(paths: list[Path], seed: int, share: float = 0.2) -> tuple[list[Path], list[Path]]:
    """Split good boards into (train, held out for thresholds), reproducibly; both at least 1."""
    if len(paths) < 2:
        raise InputError(
            expected="at least 2 good images (one is held out for the thresholds)",
            received=str(len(paths)),
            fix="add good images; 20 or more are advised",
        )
    count = min(max(round(len(paths) * share), 1), 40)
    chosen = set(np.random.default_rng([seed, 77]).permutation(len(paths))[:count].tolist())
    train = [p for i, p in enumerate(paths) if i not in chosen]
    return train, [p for i, p in enumerate(paths) if i in chosen]


def frame_size(paths: list[Path]) -> tuple[int, int]:
    """The one size (h, w) of all these pictures; InputError names the first that differs."""
    first: tuple[int, int] | None = None
    for path in paths:
        shape = read_rgb(path).shape[:2]
        size = (shape[0], shape[1])
        if first is None:
            first = size
        elif size != first:
            raise InputError(
                expected=f"all images {first[1]}x{first[0]} like {paths[0].name}",
                received=f"{path} of {size[1]}x{size[0]}",
                fix="crop or sort the images to one size",
            )
    if first is None:
        raise InputError(expected="at least one image", received="none", fix="check --data")
    return first
