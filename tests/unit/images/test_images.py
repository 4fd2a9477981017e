"""Pictures on disk: what is refused says why in one line; what is written is whole."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.errors import InputError
from hisir_edge.images import (
    image_paths,
    jpeg_bytes,
    mask_png_bytes,
    png_bytes,
    read_mask,
    read_rgb,
    write_atomic,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def test_png_comes_back_as_it_went(tmp_path):
    path = tmp_path / "a.png"
    write_atomic(path, png_bytes(PICTURE))
    assert np.array_equal(read_rgb(path), PICTURE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"], "no temporary file stays"


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_masks_are_exact_to_the_pixel(tmp_path_factory, height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    path = tmp_path_factory.getbasetemp() / "mask.png"
    path.write_bytes(mask_png_bytes(mask))
    assert np.array_equal(read_mask(path), mask)


@pytest.mark.parametrize("encode", [png_bytes, jpeg_bytes])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
def test_a_picture_cut_short_is_refused(tmp_path, encode, share):
    data = encode(PICTURE)
    path = tmp_path / "cut.img"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError) as caught:
        read_rgb(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("image", "expected", "received"),
    [
        (PICTURE.astype(np.uint16) * 16, "levels to take it by", "16 bits of which levels up to 4080"),
        (PICTURE[..., 0], "3 colour channels", "a grey picture"),
        (np.dstack([PICTURE, PICTURE[..., :1]]), "3 colour channels", "with 4"),
    ],
)
def test_wrong_depth_and_channels_name_what_came(tmp_path, image, expected, received):
    path = tmp_path / "odd.png"
    assert cv2.imwrite(str(path), image)
    with pytest.raises(InputError) as caught:
        read_rgb(path)
    assert expected in str(caught.value)
    assert received in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a picture at all", b"\x89PNG\r\n\x1a\n" + bytes(80)])
def test_what_is_no_picture_is_refused(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_rgb(path)


def test_missing_file_and_empty_folder(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_rgb(tmp_path / "none.png")
    with pytest.raises(InputError, match="none"):
        image_paths(tmp_path)
    with pytest.raises(InputError, match=r"nowhere \(does not exist"):
        image_paths(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file \(not a folder"):
        image_paths(tmp_path / "file")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(InputError, match="check the folder"):
        write_atomic(tmp_path / "absent" / "a.png", b"x")
