"""Which folders of a data set hold good boards and which hold test pictures, in the layouts that people have.

* MVTec AD: ``train/good``, ``test/<class>``, ``ground_truth/<class>/<stem>_mask.png`` (Bergmann et al. 2021, IJCV 129).
* MVTec LOCO AD: the same with ``validation/good`` and a folder of masks a picture, ``ground_truth/<class>/<stem>/``
  (Bergmann et al. 2022, IJCV 130).
* MVTec AD 2: ``train/good``, ``test_public/good``, ``test_public/bad`` and the latter's masks as
  ``test_public/ground_truth/bad/<stem>_mask.png``
  (Heckler-Kram et al. 2025, arXiv 2503.21622).
* VisA: ``Data/Images/...`` with the split in ``../split_csv/1cls.csv`` (Zou et al. 2022, arXiv 2207.14315).
* plain, labelled: ``good``, ``defective`` and ``masks/<stem>.png``.
* plain: a folder of good boards and nothing else; enough for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hisir_edge.errors import InputError
from hisir_edge.images import pictures_below

GOOD, DEFECTIVE, TRUTH = "good", "defective", "ground_truth"
VISA_IMAGES = Path("Data") / "Images"
GOOD_WORDS = ("ok", "pass", "passed", "normal", "io", "gut")
"""Names that people give to folders of good boards; said in messages, never taken for ``good``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderLayout:
    """A data set's folders. ``test`` and ``truth`` are None where the layout has no such folders.

    ``known``: top-level folders that belong to the layout; pictures elsewhere are not read.
    """

    name: str
    data: Path
    good: Path
    test: Path | None
    truth: Path | None
    known: tuple[str, ...]


def layout_of(data: Path) -> FolderLayout:
    """Recognise the layout of a folder; InputError where it is no folder."""
    if not data.is_dir():
        raise InputError(
            expected="a folder with train/good, in VisA's layout, or with images",
            received=f"{data} ({'a file' if data.exists() else 'there is nothing of this name'})",
            fix="check --data",
        )
    train, mvtec = data / "train" / GOOD, ("train", "test", TRUTH)
    if (data / "test_public").is_dir():
        test = data / "test_public"
        return FolderLayout(
            name="MVTec AD 2", data=data, good=train, test=test, truth=test / TRUTH, known=("train", "test_public")
        )
    if (data / "validation").is_dir() and (train.is_dir() or (data / "test").is_dir()):
        return FolderLayout(
            name="MVTec LOCO AD", data=data, good=train, test=data / "test", truth=data / TRUTH, known=mvtec
        )
    if train.is_dir() or (data / "test").is_dir():
        return FolderLayout(name="MVTec AD", data=data, good=train, test=data / "test", truth=data / TRUTH, known=mvtec)
    if (data / VISA_IMAGES).is_dir():
        return FolderLayout(name="VisA", data=data, good=data / VISA_IMAGES, test=None, truth=None, known=("Data",))
    if (data / GOOD).is_dir() and (data / DEFECTIVE).is_dir():
        return FolderLayout(
            name="good, defective and masks",
            data=data,
            good=data / GOOD,
            test=data,
            truth=data / "masks",
            known=(GOOD, DEFECTIVE, "masks"),
        )
    return FolderLayout(name="a folder of good boards", data=data, good=data, test=None, truth=None, known=())


def not_read(layout: FolderLayout) -> list[str]:
    """Folders with pictures that a layout has no use for, as ``validation (12 pictures)``."""
    if not layout.known:
        return []  # a plain folder: ``images.pictures_in`` says what it leaves out
    folders = [path for path in sorted(layout.data.iterdir()) if path.is_dir() and path.name not in layout.known]
    if "train" in layout.known and (layout.data / "train").is_dir():
        folders += [path for path in sorted((layout.data / "train").iterdir()) if path.is_dir() and path.name != GOOD]
    counted = [(path, pictures_below(path)) for path in folders if not path.name.startswith(".")]
    return [f"{path.relative_to(layout.data)} ({count} pictures)" for path, count in counted if count]


def _advice(folder: Path) -> str:
    there = (folder.parent / GOOD).is_dir()
    return f"move its pictures into {GOOD}" if there else f"rename {folder.name} to {GOOD}"


def check_class_has_masks(folder: Path, masks: Path) -> None:
    """InputError for a class of test pictures without a folder of masks: often good boards under another name."""
    if masks.is_dir():
        return
    is_good = folder.name.lower() in GOOD_WORDS
    raise InputError(
        expected=f"the masks of {folder} in {masks}, as for every class but {GOOD}",
        received=f"no such folder{': are these good boards?' if is_good else ''}",
        fix=_advice(folder) if is_good else "add the masks, or remove the class",
    )
