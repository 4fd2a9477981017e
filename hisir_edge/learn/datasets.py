"""Folders of boards in the layouts that people have: MVTec-AD, VisA, or plain folders.

* MVTec-AD: ``train/good``, ``test/<class>``, ``ground_truth/<class>/<stem>_mask.png``
  (Bergmann et al. 2021, IJCV 129).
* VisA: ``Data/Images/...`` with the split in ``../split_csv/1cls.csv`` (Zou et al. 2022, arXiv 2207.14315).
* plain, labelled: ``good``, ``defective`` and ``masks/<stem>.png``; every fifth good picture is for testing.
* plain: a folder of good boards and nothing else; enough for training.
"""

from __future__ import annotations

import csv
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hisir_edge.errors import InputError
from hisir_edge.images import IMAGE_SUFFIXES, image_paths, read_rgb

GOOD = "good"
DEFECTIVE = "defective"
VISA_SPLIT = Path("split_csv") / "1cls.csv"
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
PLAIN_TEST_EVERY = 5
LOSSY_SUFFIXES = (".jpg", ".jpeg")
VISA_SPLITS, VISA_NORMAL = ("train", "test"), "normal"


@dataclass(frozen=True, slots=True)
class TestItem:
    """One test picture: its class ('good' or a defect) and its mask file, None for good ones."""

    image: Path
    kind: str
    mask: Path | None


def good_images(data: Path) -> list[Path]:
    """The good boards to learn from, whatever the layout."""
    if not data.is_dir():
        raise InputError(
            expected="a folder with train/good, in VisA's layout, or with images",
            received=str(data),
            fix="check --data",
        )
    if (data / "train" / GOOD).is_dir():
        return image_paths(data / "train" / GOOD)
    if _is_visa(data):
        return _visa(data)[0]
    if _is_plain(data):
        good = image_paths(data / GOOD)
        return [path for i, path in enumerate(good) if i % PLAIN_TEST_EVERY != PLAIN_TEST_EVERY - 1]
    return image_paths(data)


def test_items(data: Path) -> list[TestItem]:
    """The labelled test pictures, good ones first; each defective one must have its mask."""
    if (data / "test").is_dir():
        items = _mvtec_test(data)
    elif _is_visa(data):
        items = _visa(data)[1]
    elif _is_plain(data):
        items = _plain_test(data)
    else:
        raise InputError(
            expected="test/<class> with ground_truth/<class>, VisA's layout, or good, defective and masks",
            received=f"none of these in {data}",
            fix="check --data",
        )
    if not items:
        raise InputError(expected=f"test pictures in {data}", received="none", fix="check --data")
    return sorted(items, key=lambda item: (item.kind != GOOD, item.kind, item.image))


def folders_read(data: Path) -> set[Path]:
    """Every folder that training or testing takes pictures from, and ``data`` itself."""
    pictures = [path for item in test_items(data) for path in (item.image, item.mask) if path is not None]
    with suppress(InputError):  # a data set of test pictures alone
        pictures += good_images(data)
    return {data, *(path.parent for path in pictures)}


def _mvtec_test(data: Path) -> list[TestItem]:
    items = []
    for folder in sorted(d for d in (data / "test").iterdir() if d.is_dir()):
        masks = data / "ground_truth" / folder.name
        for image in image_paths(folder):
            items.append(TestItem(image, folder.name, None if folder.name == GOOD else _mask_of(image, masks)))
    return items


def _mask_of(image: Path, masks: Path) -> Path:
    """The mask of a picture: same stem, perhaps with ``_mask``, any lossless picture format."""
    there = {path.name: path for path in masks.iterdir()} if masks.is_dir() else {}
    for stem in (f"{image.stem}_mask", image.stem):
        for name, path in sorted(there.items()):
            if path.stem == stem and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                if path.suffix.lower() in LOSSY_SUFFIXES:
                    raise InputError(
                        expected="masks in a lossless format, such as PNG",
                        received=str(masks / name),
                        fix="write the mask as PNG from its source: JPEG blurs its edge into false defects",
                    )
                return path
    raise InputError(
        expected=f"the mask of {image}",
        received=f"neither {masks / f'{image.stem}_mask.png'} nor {masks / f'{image.stem}.png'}",
        fix="add the mask or remove the image",
    )


def _is_plain(data: Path) -> bool:
    return (data / GOOD).is_dir() and (data / DEFECTIVE).is_dir()


def _plain_test(data: Path) -> list[TestItem]:
    good = image_paths(data / GOOD)[PLAIN_TEST_EVERY - 1 :: PLAIN_TEST_EVERY]
    defective = [TestItem(p, DEFECTIVE, _mask_of(p, data / "masks")) for p in image_paths(data / DEFECTIVE)]
    return [TestItem(path, GOOD, None) for path in good] + defective


def _is_visa(data: Path) -> bool:
    return (data / "Data" / "Images").is_dir()


def _visa(data: Path) -> tuple[list[Path], list[TestItem]]:
    """(good boards of the split's training part, test items) of one VisA object folder."""
    root, name = data.absolute().parent, data.absolute().name
    split = root / VISA_SPLIT
    training: dict[Path, str] = {}
    items: dict[Path, TestItem] = {}
    for number, row in _visa_rows(split):
        if row["object"] != name:
            continue
        where = f"{split} line {number}"
        image, normal = _listed(root, row["image"], where), row["label"].lower() == VISA_NORMAL
        if image in training or image in items:
            raise InputError(
                expected="each picture once", received=f"{row['image']} again in {where}", fix="remove one of the rows"
            )
        if row["split"] == "train" and normal:
            training[image] = where
        elif row["split"] == "test":
            if not normal and not row["mask"]:
                raise InputError(
                    expected=f"a mask for {row['image']} in {where}", received="an empty column", fix="add the mask"
                )
            mask = None if normal else _listed(root, row["mask"], where)
            items[image] = TestItem(image, GOOD if normal else DEFECTIVE, mask)
    if not training:
        raise InputError(
            expected=f"normal training pictures of object {name} in {split}",
            received="none",
            fix="check that the folder's name is the object's name in the split",
        )
    return sorted(training), list(items.values())


def _visa_rows(split: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a split file with their line numbers, all columns there, stripped; InputError otherwise."""
    try:
        with split.open(newline="", encoding="utf-8-sig") as file:
            rows = [(i, row) for i, row in enumerate(csv.DictReader(file), 2)]
    except OSError as error:
        raise InputError(
            expected=f"VisA's split {split}",
            received=error.strerror or str(error),
            fix="copy split_csv beside the objects",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            expected=f"{split} as comma-separated UTF-8 text",
            received=str(error),
            fix="take the split file of the VisA download",
        ) from error
    if not rows or not set(VISA_COLUMNS) <= set(rows[0][1]):
        raise InputError(
            expected=f"{split} with the columns {','.join(VISA_COLUMNS)}",
            received=",".join(str(c) for c in rows[0][1]) if rows else "no rows",
            fix="take the split file of the VisA download",
        )
    out = []
    for number, row in rows:
        stripped = {column: (row[column] or "").strip() for column in VISA_COLUMNS}
        if not stripped["image"] or not stripped["label"] or stripped["split"] not in VISA_SPLITS:
            raise InputError(
                expected=f"object, split (train or test), label and image in {split} line {number}",
                received=",".join(stripped.values()),
                fix="mend or remove the line",
            )
        out.append((number, stripped))
    return out


def _listed(root: Path, name: str, where: str) -> Path:
    path = root / name
    if not path.is_file():
        raise InputError(expected=f"{name}, which {where} lists", received=f"no {path}", fix="copy the missing file")
    return path


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
