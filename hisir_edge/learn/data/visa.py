"""VisA's split file: which pictures are for training and which for testing (Zou et al. 2022, arXiv 2207.14315)."""

from __future__ import annotations

import csv
from pathlib import Path

from hisir_edge.errors import InputError

VISA_SPLIT = Path("split_csv") / "1cls.csv"
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
VISA_SPLITS, VISA_NORMAL = ("train", "test"), "normal"


def visa_split(data: Path) -> tuple[list[Path], list[tuple[Path, Path | None]]]:
    """(normal training pictures, test pictures with the masks of those that are not normal) of one VisA object folder.

    InputError names the first line of the split that is wrong.
    """
    root, name = data.absolute().parent, data.absolute().name
    split = root / VISA_SPLIT
    training: dict[Path, str] = {}
    items: dict[Path, Path | None] = {}
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
            items[image] = mask
    if not training:
        raise InputError(
            expected=f"normal training pictures of object {name} in {split}",
            received="none",
            fix="check that the folder's name is the object's name in the split",
        )
    return sorted(training), list(items.items())


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
