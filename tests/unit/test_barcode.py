"""Board names from codes on the boards: drawn by zxing-cpp, blurred and turned, read back; never a wrong one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import zxingcpp

from hisir_edge.config import IdentityTable
from hisir_edge.errors import ConfigError, InspectionError
from hisir_edge.line.barcode import BarcodeReader, reader_from_settings


def code(text: str, kind: str) -> np.ndarray:
    made = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, kind))
    return np.array(zxingcpp.write_barcode_to_image(made, scale=4))


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
    for wrong in ({"pattern": "("}, {"region": (0, 0, 0, 5)}, {"region": (-1, 0, 5, 5)}):
        with pytest.raises(ValueError, match="validation error"):
            IdentityTable(**wrong)
