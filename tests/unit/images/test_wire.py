"""Pixel formats: bits written out by hand, every format at every width, padding, the window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hisir_edge.images.wire as wire_module
from hisir_edge.images.pixels import CONVERSIONS, Pixels
from hisir_edge.images.wire import WIRE_FORMATS, Unpacker, WireFormat, name_of_code

HAND_WRITTEN = {
    # levels in the camera's units -> bytes on the wire, each written out from the standard's figures
    "Mono8": ([1, 255, 128], "01 ff 80"),
    "BayerRG8": ([7, 9], "07 09"),
    "Mono10": ([0x3FF, 0x001, 0x2A5], "ff 03 01 00 a5 02"),
    "Mono12": ([0xABC, 0x123], "bc 0a 23 01"),
    "Mono14": ([0x3FFF, 0x1234], "ff 3f 34 12"),
    "Mono16": ([0xFFFF, 0x8001], "ff ff 01 80"),
    # p: bits 0..7 of the first, then its bits 8 and 9 below the second's bits 0..5, and so on
    "Mono10p": ([0x3FF, 0x000, 0x3FF, 0x000], "ff 03 f0 3f 00"),
    "BayerGB10p": ([0x001, 0x002, 0x004, 0x208], "01 08 40 00 82"),
    "Mono12p": ([0xABC, 0x123], "bc 3a 12"),
    "BayerRG12p": ([0x001, 0xFFF], "01 f0 ff"),
    "Mono14p": ([0x3FFF, 0x0000, 0x3FFF, 0x0001], "ff 3f 00 f0 ff 07 00"),
    # Packed: highest eight bits, lowest ones of both, highest eight bits
    "Mono10Packed": ([0x3FD, 0x002], "ff 21 00"),
    "BayerBG10Packed": ([0x155, 0x2AA], "55 21 aa"),
    "Mono12Packed": ([0xABC, 0x123], "ab 3c 12"),
    "BayerGR12Packed": ([0x00F, 0xF00], "00 0f f0"),
}


def frame_of(name: str, data: bytes, width: int, height: int, x_padding: int = 0, levels=None) -> np.ndarray:
    unpacker = Unpacker(WIRE_FORMATS[name], width, height, levels, threads=1)
    out = np.zeros(unpacker.out_bytes, np.uint8)
    unpacker.into(np.frombuffer(data, np.uint8), out, x_padding)
    return out.reshape(height, width, -1)


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_bits_written_by_hand(name: str) -> None:
    levels, wire = HAND_WRITTEN[name]
    most = WIRE_FORMATS[name].most
    wanted = np.rint(np.array(levels) * (255 / most)).astype(np.uint8)
    assert frame_of(name, bytes.fromhex(wire), len(levels), 1).ravel().tolist() == wanted.tolist()
    # one level to a step: the window shows each bit
    low = levels[0] - 100
    stepwise = [min(max(level - low, 0), 255) for level in levels]
    if most > 255:
        assert frame_of(name, bytes.fromhex(wire), len(levels), 1, levels=(low, low + 255)).ravel().tolist() == stepwise


def test_colours_written_by_hand() -> None:
    assert frame_of("BGRa8", bytes([1, 2, 3, 9]), 1, 1).ravel().tolist() == [3, 2, 1]
    assert frame_of("RGBa8", bytes([1, 2, 3, 9]), 1, 1).ravel().tolist() == [1, 2, 3, 9]
    # BT.601 over all levels: red is Y 76, U 85 (Cb), V 255 (Cr); grey has 128 of both
    for name, pair in (("YUV422_8", [76, 85, 200, 255]), ("YUV422_8_UYVY", [85, 76, 255, 200])):
        red, light = frame_of(name, bytes(pair), 2, 1)[0].astype(int)
        assert np.abs(red - [254, 0, 0]).max() <= 1
        assert np.abs(light - [255, 124, 124]).max() <= 1
    for name, pair in (("YCbCr422_8", [0, 128, 255, 128]), ("YCbCr422_8_CbYCrY", [128, 0, 128, 255])):
        assert frame_of(name, bytes(pair), 2, 1).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def packed(wire: WireFormat, levels: np.ndarray, x_padding: int = 0, across_lines: bool = False) -> bytes:
    """Levels (h, w) in a one-component format, bit by bit: another way to the same bytes."""
    lines = [levels.ravel()] if across_lines else list(levels)
    out = bytearray()
    for line in lines:
        if wire.packing is None:
            out += np.asarray(line, "<u2" if wire.bits > 8 else np.uint8).tobytes()
        elif wire.name.endswith("Packed"):
            low = wire.bits - 8
            for a, b in zip(line[::2], [*line[1::2], 0], strict=False):
                mixed = (int(a) & ((1 << low) - 1)) | (int(b) & ((1 << low) - 1)) << 4
                out += bytes([int(a) >> low, mixed, int(b) >> low])
            if len(line) % 2:  # the last pixel takes the bits that it has
                del out[-1]
        else:
            number = sum(int(level) << (wire.bits * i) for i, level in enumerate(line))
            out += number.to_bytes(-(-len(line) * wire.bits // 8), "little")
        out += bytes([0xEE]) * x_padding
    return bytes(out)


ONE_COMPONENT = [one for one in WIRE_FORMATS.values() if one.channels == 1]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ONE_COMPONENT), st.integers(1, 23), st.integers(1, 9), st.integers(0, 9), st.data())
def test_every_format_at_every_width(wire: WireFormat, width: int, height: int, x_padding: int, data) -> None:
    seed, black = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(0, max(wire.most - 256, 0)))
    levels = np.random.default_rng(seed).integers(0, wire.most + 1, (height, width))
    window = None if wire.bits == 8 else (black, black + 255)
    across = wire.packing is not None and not x_padding and data.draw(st.booleans())
    wire_bytes = packed(wire, levels, x_padding, across)
    cut = data.draw(st.booleans()) and x_padding  # some cameras leave the last line's padding out
    got = frame_of(wire.name, wire_bytes[: len(wire_bytes) - x_padding] if cut else wire_bytes, width, height,
                   x_padding, window)  # fmt: skip
    wanted = levels if wire.bits == 8 else np.clip(levels - black, 0, 255)
    assert np.array_equal(got[..., 0], wanted)


@pytest.mark.parametrize("name", ["Mono8", "Mono12", "BayerRG12p", "BayerRG12Packed", "Mono10p", "RGB8", "YUV422_8"])
def test_large_frames_are_the_same_in_pieces_and_threads(name: str, monkeypatch) -> None:
    monkeypatch.setattr(wire_module, "CHUNK_BYTES", 40_000)
    wire, (w, h) = WIRE_FORMATS[name], (1026, 301)
    one, two = Unpacker(wire, w, h, threads=1), Unpacker(wire, w, h, threads=3)
    data = np.random.default_rng(5).integers(0, 256, one.bytes_wanted()[-1], dtype=np.uint8)
    a, b = np.zeros(one.out_bytes, np.uint8), np.ones(one.out_bytes, np.uint8)
    assert one.into(data, a) == two.into(data, b) == np.mean(a == 255)
    two.close()
    assert np.array_equal(a, b)
    rows = [frame_of(name, data[i * len(data) // h : (i + 1) * len(data) // h].tobytes(), w, 1) for i in range(h)]
    if wire.bits_a_pixel * w % 8 == 0:
        assert np.array_equal(a.reshape(h, w, -1), np.concatenate(rows))


def test_the_window_is_linear_and_cut() -> None:
    levels = np.arange(4096)
    data = packed(WIRE_FORMATS["Mono12p"], levels[None])
    for black, white in ((0, 4095), (64, 3000), (1000, 1001), (0, 256)):
        exact = np.clip((levels - black) / (white - black), 0, 1) * 255
        got = frame_of("Mono12p", data, 4096, 1, levels=(black, white)).ravel().astype(float)
        assert np.abs(got - exact).max() <= 0.5 + 1e-3
        assert (np.diff(got) >= 0).all()


@pytest.mark.parametrize("size", [(2, 7), (14, 1), (14047, 4)])
def test_mono14p_with_a_black_level_at_any_size(size: tuple[int, int]) -> None:
    """Pieces of four groups look like four numbers to OpenCV."""
    width, height = size
    levels = np.random.default_rng(1).integers(0, 16384, (height, width))
    data = packed(WIRE_FORMATS["Mono14p"], levels, across_lines=True)
    got = frame_of("Mono14p", data, width, height, levels=(8000, 8255))[..., 0]
    assert np.array_equal(got, np.clip(levels - 8000, 0, 255))


def test_an_odd_line_of_yuv_ends_with_the_colour_before() -> None:
    one, u, v = 90, 60, 200
    for name, line in (("YUV422_8", [one, u, one, v, one, u]), ("YUV422_8_UYVY", [u, one, v, one, u, one])):
        row = frame_of(name, bytes(line), 3, 1)[0]
        assert (row == row[0]).all(), name
        alone = frame_of(name, bytes([100, 128] if name == "YUV422_8" else [128, 100]), 1, 1)
        assert alone.ravel().tolist() == [100, 100, 100], "half a colour alone is none"


def test_of_a_large_frame_an_eighth_says_how_much_is_white() -> None:
    rng = np.random.default_rng(3)
    rows = np.repeat(rng.random((1500, 1)) < 0.3, 2000, 1)
    data = np.where(rows & (rng.random((1500, 2000)) < 0.5), 255, 90).astype(np.uint8)
    unpacker = Unpacker(WIRE_FORMATS["Mono8"], 2000, 1500)
    seen = unpacker.into(data.ravel(), np.empty(data.size, np.uint8))
    unpacker.close()
    assert seen == pytest.approx((data == 255).mean(), abs=0.03)
    assert 0.1 < seen < 0.2


def test_white_is_counted_in_colours_and_not_in_alpha() -> None:
    unpacker = Unpacker(WIRE_FORMATS["RGBa8"], 2, 1, threads=1)
    out = np.zeros(unpacker.out_bytes, np.uint8)
    assert unpacker.into(np.array([9, 9, 9, 255, 9, 9, 9, 255], np.uint8), out) == 0
    assert unpacker.into(np.array([255, 9, 9, 255, 255, 9, 9, 0], np.uint8), out) == pytest.approx(2 / 6)


def test_lengths_that_cannot_be_are_refused() -> None:
    for wire in WIRE_FORMATS.values():
        unpacker = Unpacker(wire, 6, 4, threads=1)
        for length in {0, unpacker.bytes_wanted()[0] - 1, unpacker.bytes_wanted()[-1] + 1}:
            with pytest.raises(ValueError, match="bytes instead of"):
                unpacker.into(np.zeros(length, np.uint8), np.zeros(unpacker.out_bytes, np.uint8))


def test_formats_are_those_of_the_standard() -> None:
    harvesters = pytest.importorskip("harvesters.util._pfnc")
    for wire in WIRE_FORMATS.values():
        assert (wire.code >> 16) & 0xFF == wire.bits_a_pixel, wire.name
        assert name_of_code(wire.code) == wire.name
        if wire.code in harvesters.symbolics:
            assert harvesters.symbolics[wire.code] == wire.name
        frame = frame_of(wire.name, bytes(Unpacker(wire, 4, 2, threads=1).bytes_wanted()[0]), 4, 2)
        assert frame.shape[2] == CONVERSIONS[wire.line_format][0]
        assert Pixels(frame if frame.shape[2] > 1 else frame[..., 0], wire.line_format).rgb.shape == (2, 4, 3)
    assert name_of_code(0x01020038) == "0x01020038"
