"""Camera pixel formats against mosaics and buffers made here by the standard's definition (PFNC)."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.errors import InspectionError
from hisir_edge.images.pixels import CONVERSIONS, rgb_from_pixels

# PFNC: the first row's first two pixels name the format, the second row follows from it
BAYER = {
    "BayerRG8": ((0, 1), (1, 2)),
    "BayerGR8": ((1, 0), (2, 1)),
    "BayerGB8": ((1, 2), (0, 1)),
    "BayerBG8": ((2, 1), (1, 0)),
}


def _ramp(height: int, width: int) -> np.ndarray:
    """Three smooth, different channels: a demosaic must give them back almost exactly."""
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack([40 + 2 * x, 200 - 2 * y, 60 + x + y]).astype(np.uint8)


@pytest.mark.parametrize("name", sorted(BAYER))
def test_bayer_orders_give_the_colours_back(name):
    rgb = _ramp(48, 64)
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for row in (0, 1):
        for column in (0, 1):
            mosaic[row::2, column::2] = rgb[row::2, column::2, BAYER[name][row][column]]
    out = rgb_from_pixels(name, mosaic.ravel(), 64, 48)
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(out[inner].astype(int) - rgb[inner]).max() <= 3


def test_packed_formats():
    rgb = _ramp(8, 10)
    assert np.array_equal(rgb_from_pixels("RGB8", rgb.ravel(), 10, 8), rgb)
    assert np.array_equal(rgb_from_pixels("BGR8", rgb[..., ::-1].ravel(), 10, 8), rgb)
    rgba = np.dstack([rgb, np.full((8, 10), 7, np.uint8)])
    assert np.array_equal(rgb_from_pixels("RGBa8", rgba.ravel(), 10, 8), rgb)
    mono = rgb_from_pixels("Mono8", rgb[..., 0].ravel(), 10, 8)
    assert np.array_equal(mono, np.repeat(rgb[..., :1], 3, 2))


@pytest.mark.parametrize("name", sorted(CONVERSIONS))
def test_the_frame_is_a_copy_of_the_ring_not_a_view(name):
    data = np.zeros(12 * 8 * CONVERSIONS[name][0], np.uint8)
    out = rgb_from_pixels(name, data, 12, 8)
    data[:] = 255
    assert out.shape == (8, 12, 3)
    assert out.max() == 0


@pytest.mark.parametrize("name", sorted(CONVERSIONS))
def test_a_short_buffer_is_an_error(name):
    wanted = 12 * 8 * CONVERSIONS[name][0]
    with pytest.raises(InspectionError, match=str(wanted)):
        rgb_from_pixels(name, np.zeros(wanted - 1, np.uint8), 12, 8)


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(InspectionError, match="BayerRG8"):
        rgb_from_pixels("YUV422", np.zeros(96, np.uint8), 12, 8)
