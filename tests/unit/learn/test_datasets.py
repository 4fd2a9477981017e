"""Data set layouts: what is read, and what is refused by name."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from hisir_edge.errors import InputError
from hisir_edge.learn.data import datasets


def picture(path: Path, value: int = 90, hw: tuple[int, int] = (16, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*hw, 3), value, np.uint8))
    return path


@pytest.fixture
def mvtec(tmp_path) -> Path:
    data = tmp_path / "part"
    for i in range(3):
        picture(data / "train" / "good" / f"{i:03}.png")
    picture(data / "test" / "good" / "000.png")
    picture(data / "test" / "bent" / "000.jpg")
    picture(data / "ground_truth" / "bent" / "000_mask.png", 255)
    return data


@pytest.fixture
def visa(tmp_path) -> Path:
    root = tmp_path / "VisA"
    rows = []
    for i in range(4):
        picture(root / f"pcb1/Data/Images/Normal/{i:04}.JPG")
        rows.append(["pcb1", "train" if i < 3 else "test", "normal", f"pcb1/Data/Images/Normal/{i:04}.JPG", ""])
    picture(root / "pcb1/Data/Images/Anomaly/000.JPG")
    picture(root / "pcb1/Data/Masks/Anomaly/000.png", 2)
    rows.append(["pcb1", "test", "anomaly", "pcb1/Data/Images/Anomaly/000.JPG", "pcb1/Data/Masks/Anomaly/000.png"])
    rows.append(["candle", "train", "normal", "candle/Data/Images/Normal/0.JPG", ""])
    (root / "split_csv").mkdir()
    with (root / "split_csv/1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["object", "split", "label", "image", "mask"], *rows])
    return root / "pcb1"


def test_mvtec_layout(mvtec):
    assert [p.name for p in datasets.good_images(mvtec)] == ["000.png", "001.png", "002.png"]
    items = datasets.test_items(mvtec)
    assert [(i.kind, i.mask.name if i.mask else None) for i in items] == [("good", None), ("bent", "000_mask.png")]


def test_visa_layout_follows_its_split(visa):
    assert [p.name for p in datasets.good_images(visa)] == ["0000.JPG", "0001.JPG", "0002.JPG"]
    items = datasets.test_items(visa)
    assert [(i.kind, i.image.name) for i in items] == [("good", "0003.JPG"), ("defective", "000.JPG")]
    assert items[1].mask.name == "000.png"


def test_plain_layouts(tmp_path):
    only_good = tmp_path / "photos"
    picture(only_good / "a.png")
    assert [p.name for p in datasets.good_images(only_good)] == ["a.png"]
    with pytest.raises(InputError, match="none of these"):
        datasets.test_items(only_good)
    labelled = tmp_path / "labelled"
    for i in range(10):
        picture(labelled / "good" / f"{i}.png")
    picture(labelled / "defective" / "x.jpg")
    picture(labelled / "masks" / "x.png", 255)
    training = {p.name for p in datasets.good_images(labelled)}
    testing = {i.image.name for i in datasets.test_items(labelled) if i.kind == "good"}
    assert len(training) == 8
    assert testing == {"4.png", "9.png"}
    assert not training & testing


def test_a_missing_mask_is_named(mvtec, visa, tmp_path):
    picture(mvtec / "test" / "bent" / "001.png")
    with pytest.raises(InputError, match=r"001_mask\.png"):
        datasets.test_items(mvtec)
    (visa / "Data/Masks/Anomaly/000.png").unlink()
    with pytest.raises(InputError, match="Masks/Anomaly/000"):
        datasets.test_items(visa)


def test_visa_without_its_split_or_with_another_one(visa):
    split = visa.parent / "split_csv/1cls.csv"
    split.write_text("image,label\na,b\n")
    with pytest.raises(InputError, match="columns"):
        datasets.good_images(visa)
    split.write_text("object,split,label,image,mask\ncandle,train,normal,x,\n")
    with pytest.raises(InputError, match="object's name"):
        datasets.good_images(visa)
    split.unlink()
    with pytest.raises(InputError, match=r"1cls\.csv"):
        datasets.good_images(visa)


def test_a_jpeg_mask_is_refused(mvtec):
    picture(mvtec / "test" / "bent" / "001.png")
    picture(mvtec / "ground_truth" / "bent" / "001_mask.jpg", 255)
    with pytest.raises(InputError, match="lossless"):
        datasets.test_items(mvtec)


def test_a_mask_is_found_whatever_the_case_of_its_ending(mvtec):
    picture(mvtec / "test" / "bent" / "001.png")
    picture(mvtec / "ground_truth" / "bent" / "001_mask.png", 255).rename(
        mvtec / "ground_truth" / "bent" / "001_mask.PNG"
    )
    assert [i.mask.name for i in datasets.test_items(mvtec) if i.mask] == ["000_mask.png", "001_mask.PNG"]


NORMAL_ROW = "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pcb1,train,normal", "line 2"),
        ("pcb1,training,normal,pcb1/Data/Images/Normal/0000.JPG,", "train or test"),
        (f"{NORMAL_ROW}\n{NORMAL_ROW}", "each picture once"),
        (f"{NORMAL_ROW}\npcb1,test,normal,pcb1/Data/Images/Normal/0000.JPG,", "each picture once"),
        ("pcb1,train,normal,gone.JPG,", "gone.JPG"),
    ],
)
def test_visa_rows_that_cannot_be_right_are_named(visa, text, words):
    split = visa.parent / "split_csv/1cls.csv"
    split.write_text(f"object,split,label,image,mask\n{text}\n")
    with pytest.raises(InputError, match=words):
        datasets.good_images(visa)


def test_visa_labels_are_read_as_people_write_them(visa):
    split = visa.parent / "split_csv/1cls.csv"
    text = f"object,split,label,image,mask\n{NORMAL_ROW.replace('normal', ' Normal ')}\n"
    split.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [p.name for p in datasets.good_images(visa)] == ["0000.JPG"]
    split.write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match="UTF-8"):
        datasets.good_images(visa)


def test_mixed_sizes_are_named(mvtec):
    odd = picture(mvtec / "train" / "good" / "900.png", hw=(16, 21))
    with pytest.raises(InputError, match=odd.name):
        datasets.frame_size(datasets.good_images(mvtec))


@pytest.mark.parametrize("folder", ["train/good", "test/good"])
def test_no_images_is_an_error(mvtec, folder):
    for path in (mvtec / folder).iterdir():
        path.unlink()
    with pytest.raises(InputError, match="images"):
        datasets.good_images(mvtec)
        datasets.test_items(mvtec)


@pytest.fixture
def loco(tmp_path) -> Path:
    data = tmp_path / "loco"
    picture(data / "train/good/000.png")
    for i in range(2):
        picture(data / f"validation/good/{i:03}.png")
    picture(data / "test/good/000.png")
    picture(data / "test/logical_anomalies/000.png")
    for i in range(2):
        picture(data / f"ground_truth/logical_anomalies/000/{i:03}.png", 255)
    return data


@pytest.fixture
def mvtec2(tmp_path) -> Path:
    data = tmp_path / "ad2"
    for name in ("train/good/0", "validation/good/0", "test_public/good/0", "test_public/bad/0", "test_private/0"):
        picture(data / f"{name}.png")
    picture(data / "test_public/ground_truth/bad/0_mask.png", 255)
    return data


def test_loco_layout_has_a_folder_of_masks_a_picture(loco):
    good = datasets.good_pictures(loco)
    assert (good.layout, len(good.paths)) == ("MVTec LOCO AD", 1)
    assert good.left_out == ("not read by the layout of MVTec LOCO AD: validation (2 pictures)",)
    items = datasets.test_items(loco)
    assert [(i.kind, i.mask.name if i.mask else None) for i in items] == [("good", None), ("logical_anomalies", "000")]
    words = datasets.test_words(loco, items)
    assert words == [
        "layout of MVTec LOCO AD: 1 good, 1 logical_anomalies",
        "not read by this layout: validation (2 pictures)",
    ]


def test_mvtec_ad_2_layout(mvtec2):
    good = datasets.good_pictures(mvtec2)
    assert (good.layout, len(good.paths)) == ("MVTec AD 2", 1)
    assert good.left_out == (
        "not read by the layout of MVTec AD 2: test_private (1 pictures), validation (1 pictures)",
    )
    items = datasets.test_items(mvtec2)
    assert [(i.kind, i.mask.name if i.mask else None) for i in items] == [("good", None), ("bad", "0_mask.png")]


def test_good_boards_beside_good_ones_are_to_be_moved(mvtec):
    picture(mvtec / "test" / "ok" / "000.png")
    with pytest.raises(InputError, match="move its pictures into good"):
        datasets.test_items(mvtec)


@pytest.mark.parametrize("name", ["ok", "OK", "pass", "normal"])
def test_good_boards_under_another_name_are_asked_about(mvtec, name):
    (mvtec / "test" / "good").rename(mvtec / "test" / name)
    with pytest.raises(InputError, match=rf"test/{name} in .*are these good boards\?; rename {name} to good"):
        datasets.test_items(mvtec)


def test_two_pictures_of_one_stem_do_not_share_a_mask(mvtec):
    picture(mvtec / "test" / "bent" / "000.png")
    with pytest.raises(InputError, match=r"a mask of its own for each picture; got .*000_mask\.png for .*000\.jpg and"):
        datasets.test_items(mvtec)


def test_a_picture_with_two_masks_is_refused(mvtec):
    picture(mvtec / "ground_truth" / "bent" / "000.tif", 255)
    with pytest.raises(InputError, match=r"one mask of .*000\.jpg"):
        datasets.test_items(mvtec)


def test_jpeg_data_is_no_mask_whatever_its_name(mvtec):
    picture(mvtec / "ground_truth" / "bent" / "x.jpg", 255).replace(mvtec / "ground_truth/bent/000_mask.png")
    with pytest.raises(InputError, match=r"lossless format.*000_mask\.png: JPEG data"):
        datasets.test_items(mvtec)


def test_what_is_left_out_is_said(tmp_path):
    data = tmp_path / "photos"
    for name in ("a.png", "lot1/b.png", "lot1/deep/c.jpg", "lot2/d.tif"):
        picture(data / name)
    for name in ("._a.png", ".DS_Store", "e.webp", "f.heic", "notes.txt"):
        (data / name).write_bytes(b"x")
    found = datasets.good_pictures(data)
    assert [p.name for p in found.paths] == ["a.png"]
    assert found.left_out == (
        (
            f"left out of {data}: 2 of formats that are not read, such as e.webp; "
            "3 in folders below it (lot1, lot2); --recursive takes them"
        ),
    )
    everything = datasets.good_pictures(data, recursive=True)
    assert [p.name for p in everything.paths] == ["a.png", "b.png", "c.jpg", "d.tif"]
    assert everything.left_out == (f"left out of {data}: 2 of formats that are not read, such as e.webp",)
    picture(data / "lot2" / "NG" / "g.png")
    with pytest.raises(InputError, match=r"folders of good boards alone with --recursive; got .*NG"):
        datasets.good_pictures(data, recursive=True)


def test_pictures_of_one_board_stay_together():
    paths = [Path(f"{i:02}.png") for i in range(20)]
    boards = [i // 2 for i in range(20)]
    for seed in range(20):
        train, held_out = datasets.split_held_out(paths, seed, boards)
        assert sorted(train + held_out) == paths and len(held_out) == 4
        assert not {boards[paths.index(p)] for p in train} & {boards[paths.index(p)] for p in held_out}
    train, held_out = datasets.split_held_out(paths, 0, [3] * 20)
    assert len(held_out) == 4, "one board alone is held out by its pictures"


def test_sizes_are_those_of_upright_pictures(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg"]
    Image.new("RGB", (40, 20)).save(paths[0])
    Image.new("RGB", (20, 40)).save(paths[1], exif=exif)
    Image.new("RGB", (40, 20)).save(paths[2], exif=exif)
    assert datasets.frame_size(paths[:2]) == (20, 40)
    assert datasets.orientations(paths) == ((1, 1), (6, 2))
    with pytest.raises(
        InputError, match=r"all images 40x20 like a\.jpg; got .*c\.jpg of 20x40 \(orientations differ\)"
    ):
        datasets.frame_size(paths)


def test_linked_and_unreadable_folders_are_said_and_end_nothing(tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    picture(data / "a.png")
    picture(other / "b.png")
    (data / "batch2").symlink_to(other)
    assert "1 in folders below it (batch2); --recursive" in datasets.good_pictures(data).left_out[0]
    assert datasets.good_pictures(data, recursive=True).left_out == (
        f"left out of {data}: 1 in folders below it (batch2); linked folders are not followed",
    )


@pytest.mark.parametrize("name", ["badge_v2", "defect_free", "ngk", "failover", "masking"])
def test_folders_of_good_boards_may_have_any_name(tmp_path, name):
    picture(tmp_path / name / "a.png")
    assert len(datasets.good_pictures(tmp_path, recursive=True).paths) == 1


@pytest.mark.parametrize("name", ["NG", "bad", "defects", "fail-2", "ng_1", "Masks", "anomalies", "ground_truth"])
def test_folders_of_other_boards_are_refused(tmp_path, name):
    picture(tmp_path / name / "a.png")
    with pytest.raises(InputError, match="folders of good boards alone"):
        datasets.good_pictures(tmp_path, recursive=True)


def test_masks_without_a_picture_are_said(mvtec):
    picture(mvtec / "ground_truth" / "bent" / "077_mask.png", 255)
    words = datasets.test_words(mvtec, datasets.test_items(mvtec))
    assert words[1].startswith("1 masks without a picture, such as ") and words[1].endswith("077_mask.png")
