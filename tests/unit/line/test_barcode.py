"""Board names from codes on the boards: drawn by zxing-cpp, blurred and turned, read back; never a wrong one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import zxingcpp

from hisir_edge.config.tables import IdentityTable
from hisir_edge.errors import ConfigError, InspectionError
from hisir_edge.line.barcode import BarcodeReader, reader_from_settings


def code(text: str, kind: str, scale: int = 4, **options) -> np.ndarray:
    made = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, kind), **options)
    return np.array(zxingcpp.write_barcode_to_image(made, scale=scale))


def board(*codes: tuple[np.ndarray, tuple[int, int], float]) -> np.ndarray:
    """A green board (900 x 1200) with codes at places (y, x), turned by degrees, a little out of focus."""
    picture = np.full((900, 1200, 3), (30, 90, 50), np.uint8)
    for drawn, (y, x), degrees in codes:
        h, w = drawn.shape[:2]
        size = int(np.hypot(h, w)) + 4
        turn = cv2.getRotationMatrix2D((w / 2, h / 2), degrees, 1.0)
        turn[:, 2] += (size - w) / 2, (size - h) / 2
        label = cv2.warpAffine(drawn, turn, (size, size), borderValue=255)
        picture[y : y + size, x : x + size] = label[..., None]
    noise = np.random.default_rng(1).normal(0, 4, picture.shape)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.8) + noise, 0, 255).astype(np.uint8)


def reader(**settings) -> BarcodeReader:
    return BarcodeReader(IdentityTable(barcode=True, **settings))


@pytest.mark.parametrize("kind", ["DataMatrix", "QRCode", "Code128", "Code39"])
@pytest.mark.parametrize("degrees", [0.0, 1.5, 90.0])
def test_a_code_is_read(kind, degrees):
    assert reader().read(board((code("PCB-0815", kind), (200, 300), degrees))) == "PCB-0815"


def test_the_pattern_tells_the_board_from_other_labels():
    two = board((code("PCB-0815", "DataMatrix"), (100, 100), 0), (code("LOT7", "QRCode"), (500, 700), 0))
    assert reader(pattern=r"PCB-\d+").read(two) == "PCB-0815"
    with pytest.raises(InspectionError, match=r"2: LOT7, PCB-0815"):
        reader().read(two)
    with pytest.raises(InspectionError, match=r"pattern X.d. on the board; got 2"):
        reader(pattern=r"X\d+").read(two)
    assert reader(region=(0, 0, 600, 450)).read(two) == "PCB-0815"


@pytest.mark.parametrize("text", ["PCB/A12", "R+D7", "A%B", "+1", "A$B-7.X"])
def test_code_39_means_the_standard_set(text):
    picture = board((code(text, "Code39Std"), (200, 300), 0.0))
    assert reader().read(picture) == text
    assert reader(formats=("Code39",)).read(picture) == text


ISO = "[)>\x1e06\x1d1P4711\x1dSX987\x1e\x04"


@pytest.mark.parametrize("kind", ["DataMatrix", "QRCode", "Code128"])
def test_labels_of_several_fields_come_as_plain_text(kind):
    iso = board((code(ISO, kind, 2 if kind == "Code128" else 4), (10, 10), 0.0))
    gs1 = board(
        (code("(01)09506000134352(10)LOT7(21)ABC", kind, 2 if kind == "Code128" else 4, gs1=True), (10, 10), 0.0)
    )
    assert reader().read(iso) == ISO
    assert reader().read(gs1) == "010950600013435210LOT7\x1d21ABC"
    assert reader(field="S").read(iso) == "X987"
    assert reader(field="21", pattern="[A-Z]{3}").read(gs1) == "ABC"
    with pytest.raises(InspectionError, match=r"with the field 17 on the board; got 1: 010950600013435210LOT7.u001d21"):
        reader(field="17").read(gs1)


def test_no_code_is_an_error_where_one_is_required():
    with pytest.raises(InspectionError, match="got none"):
        reader().read(board())
    assert reader(required=False).read(board()) == ""
    with pytest.raises(InspectionError, match="got none"):
        reader(region=(5000, 5000, 10, 10)).read(board((code("A", "QRCode"), (100, 100), 0)))


def test_settings_that_are_none_are_refused():
    assert reader_from_settings(IdentityTable()) is None
    with pytest.raises(ConfigError, match=r"identity\.formats"):
        reader(formats=("Runes",))
    for wrong in (
        {"pattern": "("},
        {"field": "x"},
        {"field": "12345"},
        {"region": (0, 0, 0, 5)},
        {"region": (-1, 0, 5, 5)},
    ):
        with pytest.raises(ValueError, match="validation error"):
            IdentityTable(**wrong)
