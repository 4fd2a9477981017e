"""The pictures of a data set: good boards to learn from, and labelled ones to test with (layouts: ``layouts.py``)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hisir_edge.arrays import U8
from hisir_edge.errors import InputError
from hisir_edge.geometry.tile import scaled_frame
from hisir_edge.images import (
    Rules,
    header_of_picture,
    image_paths,
    is_grey,
    is_jpeg,
    is_picture,
    pictures_in,
    read_rgb,
)
from hisir_edge.learn.data.layouts import (
    DEFECTIVE,
    GOOD,
    TRUTH,
    FolderLayout,
    check_class_has_masks,
    layout_of,
    not_read,
)
from hisir_edge.learn.data.memory import good_boards_from_frames
from hisir_edge.learn.data.visa import visa_split

PLAIN_TEST_EVERY = 5
SCALE_SAMPLE = 8
BAD_NAMES = re.compile(
    r"(bad|ng|nok|defects?|defective|fail(ed|s)?|anomal(y|ies|ous)|rejects?|scrap|masks?)([^a-z].*)?"
)
"""Names of folders that hold no good boards, perhaps with a number behind."""


@dataclass(frozen=True, slots=True)
class TestItem:
    """One test picture: its class ('good' or a defect) and its mask, a file or a folder of them; None for good ones."""

    image: Path
    kind: str
    mask: Path | None


@dataclass(frozen=True, slots=True)
class GoodPictures:
    """Good boards to learn from, the layout they were found by, and in plain words what was left out."""

    paths: tuple[Path, ...]
    layout: str
    left_out: tuple[str, ...]


def good_pictures(data: Path, recursive: bool = False) -> GoodPictures:
    """The good boards to learn from, whatever the layout; with ``recursive`` from folders below, too."""
    layout = layout_of(data)
    left_out = [f"not read by the layout of {layout.name}: {', '.join(rest)}"] if (rest := not_read(layout)) else []
    if layout.name == "VisA":
        return GoodPictures(tuple(visa_split(data)[0]), layout.name, tuple(left_out))
    found = pictures_in(layout.good, recursive)
    if recursive:
        _check_good_folders(layout.good, found.paths)
    paths = found.paths
    if layout.test == data:  # good, defective and masks: every fifth good picture is for testing
        paths = tuple(path for i, path in enumerate(paths) if i % PLAIN_TEST_EVERY != PLAIN_TEST_EVERY - 1)
    return GoodPictures(paths, layout.name, (*left_out, *([found.left_out] if found.left_out else [])))


def good_images(data: Path, recursive: bool = False) -> list[Path]:
    """The paths of ``good_pictures``."""
    return list(good_pictures(data, recursive).paths)


def good_images_of(folders: Iterable[Path], recursive: bool = False) -> list[Path]:
    """Those of several folders, each picture once."""
    return list(dict.fromkeys(path for folder in folders for path in good_images(folder, recursive)))


def _check_good_folders(root: Path, paths: tuple[Path, ...]) -> None:
    """InputError for a folder below ``root`` whose name says that its boards are not good."""
    for path in paths:
        for part in path.relative_to(root).parts[:-1]:
            if part.lower() == TRUTH or (BAD_NAMES.fullmatch(part.lower()) and "free" not in part.lower()):
                raise InputError(
                    expected="folders of good boards alone with --recursive",
                    received=str(path.parent),
                    fix="name the folder of good boards with --data, or move this one away",
                )


def test_items(data: Path, recursive: bool = False) -> list[TestItem]:
    """The labelled test pictures, good ones first; each defective one has a mask of its own."""
    layout = layout_of(data)
    if layout.name == "VisA":
        pairs = visa_split(data)[1]
        items = [TestItem(image, GOOD if mask is None else DEFECTIVE, mask) for image, mask in pairs]
    elif layout.test == data:
        items = _plain_test(data, recursive)
    elif layout.test is not None and layout.truth is not None and layout.test.is_dir():
        items = _test_by_class(layout.test, layout.truth, recursive)
    else:
        raise InputError(
            expected="test/<class> with ground_truth/<class>, VisA's layout, or good, defective and masks",
            received=f"none of these in {data}",
            fix="check --data",
        )
    if not items:
        raise InputError(expected=f"test pictures in {data}", received="none", fix="check --data")
    _check_own_masks(items)
    return sorted(items, key=lambda item: (item.kind != GOOD, item.kind, item.image))


def test_words(data: Path, items: list[TestItem], recursive: bool = False) -> list[str]:
    """Lines that say which layout the test pictures were found by, their classes, and what was left out."""
    layout: FolderLayout = layout_of(data)
    classes = Counter(item.kind for item in items)
    lines = [f"layout of {layout.name}: {', '.join(f'{count} {kind}' for kind, count in sorted(classes.items()))}"]
    if rest := not_read(layout):
        lines.append(f"not read by this layout: {', '.join(rest)}")
    if alone := _masks_alone(layout, items):
        lines.append(f"{len(alone)} masks without a picture, such as {alone[0]}")
    folders = sorted({item.image.parent for item in items}) if layout.name != "VisA" and not recursive else []
    return lines + [words for folder in folders if (words := pictures_in(folder).left_out)]


def _masks_alone(layout: FolderLayout, items: list[TestItem]) -> list[Path]:
    """Masks in the layout's folders that belong to no picture: one of them may be lost."""
    used = {item.mask for item in items}
    folders = {mask.parent for mask in used if mask is not None} if layout.name != "VisA" else set()
    there = [path for folder in sorted(folders) for path in sorted(folder.iterdir())]
    return [path for path in there if path not in used and (is_picture(path) or path.is_dir())]


def folders_read(data: Path, recursive: bool = False) -> set[Path]:
    """Every folder that training or testing takes pictures from, and ``data`` itself."""
    pictures = [path for item in test_items(data, recursive) for path in (item.image, item.mask) if path is not None]
    with suppress(InputError):  # a data set of test pictures alone
        pictures += good_images(data, recursive)
    return {data, *(path.parent for path in pictures)}


def _test_by_class(test: Path, truth: Path, recursive: bool) -> list[TestItem]:
    """``test/<class>`` with ``ground_truth/<class>``; the folder of masks may lie among the classes."""
    items = []
    for folder in sorted(d for d in test.iterdir() if d.is_dir() and not d.name.startswith(".")):
        if folder == truth:
            continue
        images, masks = image_paths(folder, recursive), truth / folder.name
        if folder.name != GOOD:
            check_class_has_masks(folder, masks)
        for image in images:
            mask = None if folder.name == GOOD else _mask_of(image, folder, masks)
            items.append(TestItem(image, folder.name, mask))
    return items


def _plain_test(data: Path, recursive: bool) -> list[TestItem]:
    good = image_paths(data / GOOD, recursive)[PLAIN_TEST_EVERY - 1 :: PLAIN_TEST_EVERY]
    folder, masks = data / DEFECTIVE, data / "masks"
    defective = [TestItem(p, DEFECTIVE, _mask_of(p, folder, masks)) for p in image_paths(folder, recursive)]
    return [TestItem(path, GOOD, None) for path in good] + defective


def _mask_of(image: Path, folder: Path, masks: Path) -> Path:
    """The mask of a picture: a picture of its stem, perhaps with ``_mask``, or a folder of that name full of masks."""
    masks = masks / image.parent.relative_to(folder)
    there = sorted(masks.iterdir()) if masks.is_dir() else []
    stems = (f"{image.stem}_mask", image.stem)
    found = [path for path in there if is_picture(path) and path.stem in stems]
    found += [path for path in there if path.is_dir() and path.name == image.stem]
    if not found:
        raise InputError(
            expected=f"the mask of {image}",
            received=f"neither {masks / f'{image.stem}_mask.png'} nor {masks / f'{image.stem}.png'}",
            fix="add the mask or remove the image",
        )
    if len(found) > 1:
        raise InputError(
            expected=f"one mask of {image}", received=f"{found[0]} and {found[1].name}", fix="remove the wrong one"
        )
    if is_jpeg(found[0]):
        raise InputError(
            expected="masks in a lossless format, such as PNG",
            received=f"{found[0]}: JPEG data",
            fix="write the mask as PNG from its source: JPEG blurs its edge into false defects",
        )
    return found[0]


def _check_own_masks(items: list[TestItem]) -> None:
    """InputError where two pictures would be compared with one mask."""
    first: dict[Path, Path] = {}
    for item in items:
        if item.mask is not None and first.setdefault(item.mask, item.image) != item.image:
            raise InputError(
                expected="a mask of its own for each picture",
                received=f"{item.mask} for {first[item.mask]} and {item.image.name}",
                fix="rename one of the pictures and its mask",
            )


def split_held_out(
    paths: list[Path], seed: int, boards: list[int] | None = None, share: float = 0.2
) -> tuple[list[Path], list[Path]]:
    """Split good boards into (train, held out for thresholds), reproducibly; both at least 1.

    ``boards``: which board each picture shows (``distinct.py``); pictures of one board stay together, unless all show
    the same one.
    """
    if len(paths) < 2:
        raise InputError(
            expected="at least 2 good images (one is held out for the thresholds)",
            received=str(len(paths)),
            fix="add good images; 20 or more are advised",
        )
    shown = boards if boards is not None and len(set(boards)) > 1 else list(range(len(paths)))
    kinds = sorted(set(shown))
    count = min(max(round(len(kinds) * share), 1), 40)
    chosen = {kinds[i] for i in np.random.default_rng([seed, 77]).permutation(len(kinds))[:count].tolist()}
    train = [p for p, board in zip(paths, shown, strict=True) if board not in chosen]
    return train, [p for p, board in zip(paths, shown, strict=True) if board in chosen]


def frame_size(paths: list[Path]) -> tuple[int, int]:
    """The one upright size (h, w) of all these pictures; InputError names the first that differs."""
    if not paths:
        raise InputError(expected="at least one image", received="none", fix="check --data")
    first = header_of_picture(paths[0])
    for path in paths:
        header = header_of_picture(path)
        if header.upright_hw != first.upright_hw:
            (h, w), (other_h, other_w) = first.upright_hw, header.upright_hw
            differs = " (orientations differ)" if header.orientation != first.orientation else ""
            raise InputError(
                expected=f"all images {w}x{h} like {paths[0].name}",
                received=f"{path} of {other_w}x{other_h}{differs}",
                fix="crop or sort the images to one size",
            )
    return first.upright_hw


def orientations(paths: list[Path]) -> tuple[tuple[int, int], ...]:
    """(EXIF orientation, number of pictures) of pictures, sorted."""
    return tuple(sorted(Counter(header_of_picture(path).orientation for path in paths).items()))


def load_scaled(path: Path, frame_hw: tuple[int, int], scale: float, rules: Rules) -> U8:
    """Read one picture of the expected size and scale it for the network."""
    return scaled_frame(read_rgb(path, frame_hw, rules), scale)


def are_grey(paths: list[Path], levels: tuple[int, int] | None) -> bool:
    """Whether these pictures are grey, as the first one is; a grey picture may be stored with three channels."""
    return is_grey(read_rgb(paths[0], rules=Rules(levels, None)))


def scale_of_boards(
    training: list[Path], register: str, tile_px: int, frame_hw: tuple[int, int], rules: Rules
) -> float:
    """1 for boards that lie alike; else the scale at which one tile sees the short side of the frame.

    Where position at pixel level means nothing (loose objects), context is worth more than detail.
    """
    if register not in ("auto", "off"):
        return 1.0
    sample = [load_scaled(path, frame_hw, 1.0, rules) for path in training[:SCALE_SAMPLE]]
    alike = register == "auto" and len(sample) > 1 and good_boards_from_frames(sample).registered
    return 1.0 if alike else min(1.0, tile_px / min(frame_hw))
