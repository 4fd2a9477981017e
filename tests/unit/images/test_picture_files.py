"""One reader for every picture file: what is taken, what is converted, and what is refused in which words."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from structlog.testing import capture_logs

from hisir_edge.errors import InputError
from hisir_edge.images import Rules, header_of_picture, read_grey, read_mask, read_pixels, read_rgb, read_truth
from hisir_edge.images.exif import upright
from hisir_edge.images.png import ADAM7

RNG = np.random.default_rng(5)
PHOTO = np.kron(RNG.integers(0, 256, (24, 32, 3)), np.ones((8, 8, 1))).astype(np.uint8)
PHOTO[60:120, 40:200] = cv2.GaussianBlur(PHOTO, (0, 0), 9)[60:120, 40:200]
MASK = np.zeros(PHOTO.shape[:2], np.uint8)
MASK[20:60, 30:90] = 255


def _jpeg(picture=PHOTO, quality=90, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality, **options)
    return out.getvalue()


def _png(picture=PHOTO, mode=None, **options) -> bytes:
    out = io.BytesIO()
    (Image.fromarray(picture) if mode is None else Image.fromarray(picture).convert(mode)).save(out, "PNG", **options)
    return out.getvalue()


def _tiff(picture=PHOTO, **options) -> bytes:
    out = io.BytesIO()
    options.setdefault("photometric", "rgb" if picture.ndim == 3 else "minisblack")
    tifffile.imwrite(out, picture, **options)
    return out.getvalue()


def _with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _refused(path, *words, read=read_rgb):
    with pytest.raises(InputError) as caught:
        read(path)
    said = str(caught.value)
    assert str(path) in said, said
    for word in words:
        assert word in said, said


@pytest.fixture
def file(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("damage", ["hole", "cut", "swapped"])
def test_a_jpeg_that_its_decoder_complains_about_is_refused(file, progressive, share, damage):
    data = bytearray(_jpeg(np.kron(PHOTO, np.ones((4, 4, 1), np.uint8)), progressive=progressive))
    body = data.rfind(b"\xff\xda") if not progressive else data.find(b"\xff\xda")
    at = body + int((len(data) - body) * share)
    if damage == "hole":
        data[at : at + 1024] = bytes(1024)
    elif damage == "cut":
        data[at:] = b"\xff\xd9"
    else:
        data[at : at + 600] = data[at + 600 : at + 1200]
    _refused(file("board.jpg", bytes(data)))


@pytest.mark.parametrize(
    "options", [{}, {"optimize": True}, {"progressive": True}], ids=["standard", "own", "progressive"]
)
def test_a_hole_of_zeros_is_refused_even_where_the_decoder_comes_out_even(file, options):
    """After one hole in ten in a detailed photo libjpeg says nothing."""
    detailed = np.clip(
        np.kron(PHOTO, np.ones((3, 3, 1))) + np.random.default_rng(2).normal(0, 25, (576, 768, 3)), 0, 255
    )
    data = _jpeg(detailed.astype(np.uint8), 92, **options)
    first = data.rfind(b"\xff\xda") + 20 if not options.get("progressive") else len(data) // 4
    read = 0
    for at in np.random.default_rng(3).integers(first, len(data) - 1100, 25):
        path = file("hole.jpg", data[:at] + bytes(1024) + data[at + 1024 :])
        try:
            read_rgb(path)
            read += 1
        except InputError as error:
            assert "hole.jpg: " in str(error)
    # in the scans of a progressive picture that refine the mean, zeros are as good as ones
    assert read <= (3 if options.get("progressive") else 0)


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize(
    "options", [{}, {"optimize": True}, {"progressive": True}], ids=["standard", "own", "progressive"]
)
def test_even_surfaces_are_no_holes(file, level, options):
    even = np.full((400, 640, 3), level, np.uint8)
    even[100:150, 200:300] = PHOTO[:50, :100]
    assert np.abs(read_rgb(file("even.jpg", _jpeg(even, 90, **options)))[300:].astype(int) - level).max() <= 1


def test_a_progressive_jpeg_without_its_last_scans_is_refused(file):
    data = _jpeg(progressive=True)
    last = data.rfind(b"\xff\xda")
    _refused(file("blurred.jpg", data[:last] + b"\xff\xd9"), "last scans are missing")


def test_nothing_of_a_decoder_reaches_standard_error(file, tmp_path):
    """In a process of its own, for a library writes to the descriptor itself."""
    hole = bytearray(_jpeg())
    hole[len(hole) // 2 : len(hole) // 2 + 512] = bytes(512)
    strip = bytearray(_tiff(compression="lzw"))
    strip[len(strip) // 2 : len(strip) // 2 + 700] = bytes(700)
    profile = bytearray(_png(icc_profile=b"no profile at all" * 20))
    for name, data in (("a.jpg", hole), ("b.tif", strip), ("c.png", profile), ("d.tif", _tiff()[:200])):
        file(name, bytes(data))
    script = (
        "import sys; from pathlib import Path; from hisir_edge.images import read_rgb\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try: read_rgb(path); print('read', path.name)\n"
        "    except Exception as error: print(type(error).__name__, path.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.split() == ["InputError", "a.jpg", "InputError", "b.tif", "read", "c.png", "InputError", "d.tif"]


@pytest.mark.parametrize("compression", ["lzw", "zlib"])
@pytest.mark.parametrize("seed", range(6))
def test_a_compressed_tiff_with_a_hole_is_refused(file, compression, seed):
    """Not PackBits: zeros there are literal pixels like any others."""
    data = bytearray(_tiff(np.kron(PHOTO, np.ones((2, 2, 1), np.uint8)), compression=compression, rowsperstrip=16))
    at = int(np.random.default_rng(seed).integers(500, len(data) - 1500))
    assert data[at : at + 1024].count(0) < 1000
    data[at : at + 1024] = bytes(1024)
    _refused(file("board.tif", bytes(data)), "damaged")


@pytest.mark.parametrize("behind", [bytes(5000), b"ftypmp42" * 300, b"\r\n", _jpeg()])
@pytest.mark.parametrize("encode", [_jpeg, _png])
def test_what_follows_a_whole_picture_is_ignored_with_a_note(file, encode, behind):
    alone, more = file("a.img", encode()), file("b.img", encode() + behind)
    with capture_logs() as logs:
        assert np.array_equal(read_rgb(more), read_rgb(alone))
    assert [(entry["trailing_bytes"], entry["file"]) for entry in logs] == [(len(behind), str(more))]


@pytest.mark.parametrize("kind", [_jpeg, _png, _tiff])
@given(share=st.floats(0.01, 0.99))
@settings(max_examples=12, deadline=None)
def test_a_cut_file_is_never_a_picture(tmp_path_factory, kind, share):
    path = tmp_path_factory.getbasetemp() / "cut.img"
    data = kind()
    path.write_bytes(data[: int(len(data) * share)])
    _refused(path)


def test_a_changed_bit_in_a_png_is_refused(file):
    data = bytearray(_png())
    data[len(data) // 2] ^= 1
    _refused(file("a.png", bytes(data)), "checksum of 'IDAT'")


def test_one_verdict_is_for_one_page(file):
    pages = io.BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        writer.write(PHOTO, photometric="rgb")
        writer.write(PHOTO[:, ::-1], photometric="rgb")
    _refused(file("two.tif", pages.getvalue()), "2 pages")
    stack = io.BytesIO()
    tifffile.imwrite(stack, np.stack([PHOTO[..., 0]] * 3), imagej=True)
    _refused(file("stack.tif", stack.getvalue()), "3 pages", read=read_mask)
    frames = [Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1].copy())]
    animation = io.BytesIO()
    frames[0].save(animation, "PNG", save_all=True, append_images=frames[1:])
    _refused(file("moving.png", animation.getvalue()), "several pictures")
    small = io.BytesIO()
    with tifffile.TiffWriter(small) as writer:
        writer.write(PHOTO, photometric="rgb")
        writer.write(PHOTO[::4, ::4], photometric="rgb", subfiletype=1)
    assert np.array_equal(read_rgb(file("preview.tif", small.getvalue())), PHOTO), "a smaller copy is no board"


TIFFS = {
    "plain": {}, "planar": {"planarconfig": "separate"}, "zlib": {"compression": "zlib"},
    "lzw": {"compression": "lzw"}, "packbits": {"compression": "packbits"}, "tiles": {"tile": (64, 48)},
    "predictor": {"compression": "zlib", "predictor": True}, "lzw predictor": {"compression": "lzw", "predictor": True},
    "strips": {"rowsperstrip": 7}, "big endian": {"byteorder": ">"}, "BigTIFF": {"bigtiff": True},
    "planar tiles": {"planarconfig": "separate", "tile": (32, 32), "compression": "zlib"},
}  # fmt: skip


@pytest.mark.parametrize("name", TIFFS)
def test_tiffs_that_are_taken_read_as_they_were_written(file, name):
    options = dict(TIFFS[name])  # type: ignore[call-overload]
    big, order = options.pop("bigtiff", False), options.pop("byteorder", "<")
    out = io.BytesIO()
    with tifffile.TiffWriter(out, bigtiff=big, byteorder=order) as writer:
        writer.write(np.moveaxis(PHOTO, 2, 0) if options.get("planarconfig") else PHOTO, photometric="rgb", **options)
    path = file("a.tif", out.getvalue())
    assert np.array_equal(read_rgb(path), PHOTO)
    assert header_of_picture(path).upright_hw == PHOTO.shape[:2]


REFUSED_TIFFS = {
    "float": (lambda: _tiff(PHOTO.astype(np.float32)), "32 bits"),
    "signed": (lambda: _tiff((PHOTO // 2).astype(np.int8)), "signed"),
    "JPEG 2000": (lambda: _tiff(compression="jpeg2000"), "JPEG 2000 compression"),
    "JPEG XL": (lambda: _tiff(compression="jpegxl"), "JPEG XL compression"),
    "JPEG": (lambda: _tiff(compression="jpeg"), "JPEG compression"),
    "WebP": (lambda: _tiff(compression="webp"), "WebP compression"),
    "Zstandard": (lambda: _tiff(compression="zstd"), "Zstandard compression"),
    "LZMA": (lambda: _tiff(compression="lzma"), "LZMA compression"),
    "CMYK": (lambda: _tiff(np.dstack([PHOTO, PHOTO[..., :1]]), photometric="separated"), "CMYK"),
    "CIELab": (lambda: _tiff(photometric="cielab"), "CIELab"),
    "YCbCr": (lambda: _tiff(photometric="ycbcr"), "YCbCr"),
    "alpha": (lambda: _tiff(np.dstack([PHOTO, PHOTO[..., :1]]), extrasamples=["unassalpha"]), "with 4"),
    "grey": (lambda: _tiff(PHOTO[..., 0]), "a grey picture"),
    "transfer function": (
        lambda: _tiff(extratags=[(301, 3, 256, tuple(range(0, 65536, 256)), True)]), "TransferFunction",
    ),
    "orientation 9": (lambda: _tiff(extratags=[(274, 3, 1, 9, True)]), "orientation 9"),
    "black and white": (
        lambda: _tiff(extratags=[(532, 5, 6, (16, 1, 235, 1) * 3, True)]), "ReferenceBlackWhite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_TIFFS)
def test_tiffs_that_mean_something_else_are_refused_by_name(file, name):
    make, words = REFUSED_TIFFS[name]
    _refused(file("odd.tif", make()), words)


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14, 8])
def test_packed_depths_and_reversed_bits_are_refused(file, bits):
    """One strip of ``bits`` a sample, packed, as line cameras write them; or 8 bits, each reversed."""
    width, height = 64, 8
    data = bytes(width * height * bits // 8)
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 3, height), (279, 4, len(data))]  # fmt: skip
    if bits == 8:
        tags.insert(5, (266, 3, 2))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    tiff = head + data + struct.pack("<H", len(tags)) + entries + bytes(4)
    for read in (read_rgb, read_mask):
        _refused(file("packed.tif", tiff), "FillOrder 2" if bits == 8 else f"{bits} bits a sample", read=read)


@pytest.mark.parametrize("missing", ["strip", "count"])
def test_a_tiff_that_lacks_a_strip_is_refused(file, missing):
    data = bytearray(_tiff(rowsperstrip=64))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        tag = tiff.pages[0].tags[279 if missing == "count" else 273]
        size = {3: 2, 4: 4}[int(tag.dtype)]
        data[tag.valueoffset : tag.valueoffset + size] = bytes(size)
    _refused(file("sparse.tif", bytes(data)), "cut short")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_every_format_is_turned_upright_by_its_orientation(file, kind, orientation):
    """Stored as a camera held otherwise would; what is read is the board as a viewer shows it."""
    back = {6: 8, 8: 6}.get(orientation, orientation)
    stored = upright(PHOTO, back)
    if kind == "JPEG":
        data = _jpeg(stored, 100, exif=_with_exif(orientation), subsampling=0)
    elif kind == "PNG":
        data = _png(stored, exif=_with_exif(orientation))
    else:
        data = _tiff(stored, extratags=[(274, 3, 1, orientation, True)])
    path = file("turned.img", data)
    limit = 12 if kind == "JPEG" else 0
    assert np.abs(read_rgb(path).astype(int) - PHOTO).max() <= limit
    header = header_of_picture(path)
    assert (header.orientation, header.upright_hw) == (orientation, PHOTO.shape[:2])
    viewer = np.asarray(_transposed(data))
    assert np.abs(read_rgb(path).astype(int) - viewer).max() <= (2 if kind == "JPEG" else 0), "as Pillow shows it"


def _transposed(data: bytes) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def test_damaged_exif_is_no_orientation(file):
    data = _jpeg(exif=_with_exif(3))
    at = data.index(b"Exif\0\0") + 6
    for broken in (data[: at + 4] + b"\xff\xff\xff\x7f" + data[at + 8 :], data[:at] + b"XX" + data[at + 2 :]):
        assert header_of_picture(file("a.jpg", broken)).orientation == 1


def test_a_bomb_is_refused_by_its_header(file):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path = file("bomb.png", png)
    script = (
        "import resource, sys; from pathlib import Path; from hisir_edge.images import read_rgb\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_rgb(Path(sys.argv[1]))\n"
        "except Exception as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
    said, more_kib = done.stdout.splitlines()
    assert "20000x20000 px" in said and str(path) in said
    assert int(more_kib) < 100 * 1024
    wide = _png(np.zeros((1, 40000, 3), np.uint8))
    _refused(file("wide.png", wide), "40000x1 px", "32766 px a side")


def test_a_size_that_is_not_wanted_is_refused_before_it_is_decoded(file, monkeypatch):
    path = file("a.jpg", _jpeg())
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"expected a picture of 640x480; got .*a\.jpg: 256x192"):
        read_rgb(path, (480, 640))


def test_the_content_decides_not_the_name(file):
    assert np.array_equal(read_rgb(file("a.png", _tiff())), PHOTO)
    assert read_rgb(file("a.tif", _jpeg())).shape == PHOTO.shape
    _refused(file("a.jpg", b"GIF89a" + bytes(200)), "another kind")
    _refused(file("b.jpg", b"RIFF\0\0\0\0WEBP" + bytes(200)), "another kind")
    _refused(file("mask.png", _jpeg(np.dstack([MASK] * 3))), "JPEG data", read=read_mask)


JPEGS = {
    "grey": (lambda: _jpeg(PHOTO[..., 0].copy()), "a grey picture"),
    "CMYK": (lambda: _jpeg(np.asarray(Image.fromarray(PHOTO).convert("CMYK"))), "with 4"),
    "lossless": (lambda: _jpeg().replace(b"\xff\xc0", b"\xff\xc3", 1), "SOF3"),
    "arithmetic": (lambda: _jpeg().replace(b"\xff\xc0", b"\xff\xc9", 1), "SOF9"),
    "12 bits": (lambda: _jpeg().replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c", 1), "12 bits"),
}


@pytest.mark.parametrize("name", JPEGS)
def test_jpegs_of_other_kinds_are_refused(file, name):
    make, words = JPEGS[name]
    image = make() if name != "CMYK" else None
    if name == "CMYK":
        out = io.BytesIO()
        Image.fromarray(PHOTO).convert("CMYK").save(out, "JPEG")
        image = out.getvalue()
    _refused(file("odd.jpg", image), words)


PNGS = {
    "palette": (lambda: _png(mode="P"), None), "grey": (lambda: _png(mode="L"), "a grey picture"),
    "alpha": (lambda: _png(mode="RGBA"), "with 4"), "1 bit": (lambda: _png(mode="1"), "1 bits"),
    "transparent colour": (lambda: _png(transparency=(1, 2, 3)), "with 4"),
}  # fmt: skip


def _png_of(pixels: np.ndarray) -> bytes:
    stored = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    return cv2.imencode(".png", stored)[1].tobytes()


DEEP = (PHOTO.astype(np.uint16) << 8) + np.arange(PHOTO.shape[1], dtype=np.uint16)[None, :, None]
DEEP_FILES = {
    "PNG": lambda pixels: _png_of(pixels), "TIFF": lambda pixels: _tiff(pixels, photometric=_kind_of(pixels)),
    "TIFF, planar": lambda pixels: _tiff(
        pixels if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0), photometric=_kind_of(pixels),
        **({} if pixels.ndim == 2 else {"planarconfig": "separate"}),
    ),
}  # fmt: skip


def _kind_of(pixels: np.ndarray) -> str:
    return "minisblack" if pixels.ndim == 2 else "rgb"


@pytest.mark.parametrize("kind", DEEP_FILES)
@pytest.mark.parametrize("levels", [None, (0, 65535), (2000, 40000), (0, 4095)])
def test_16_bits_are_taken_through_the_window(file, kind, levels):
    black, white = levels or (0, 65535)
    wanted = np.rint(np.clip((DEEP - np.float64(black)) / (white - black), 0, 1) * 255)
    got = read_rgb(file("deep.img", DEEP_FILES[kind](DEEP)), rules=Rules(levels))
    assert np.abs(got.astype(int) - wanted).max() <= 1, "float32 may round the other way at a half"
    assert (got == wanted).mean() > 0.99
    grey = read_pixels(file("deep-grey.img", DEEP_FILES[kind](DEEP[..., 1])), rules=Rules(levels, grey=True))
    assert grey.pixel_format == "Mono8"
    assert np.array_equal(grey.data, got[..., 1])
    assert np.array_equal(grey.rgb, np.repeat(got[..., 1:2], 3, 2))


def test_grey_and_colour_are_not_mixed(file):
    grey = np.repeat(PHOTO[..., :1], 3, 2)
    as_colour, as_grey = file("a.png", _png_of(grey)), file("b.png", _png_of(PHOTO[..., 0]))
    for path in (as_colour, as_grey):
        assert np.array_equal(read_rgb(path, rules=Rules(grey=True)), grey)
    assert read_pixels(file("c.png", _png_of(PHOTO)), rules=Rules(grey=None)).pixel_format == "RGB8"
    _refused(as_grey, "a grey picture")
    with pytest.raises(InputError, match="a picture in colour"):
        read_rgb(file("d.png", _png_of(PHOTO)), rules=Rules(grey=True))


def test_levels_of_a_picture_whose_highest_is_black_are_refused(file):
    data = _tiff(DEEP[..., 0], photometric="miniswhite")
    assert read_pixels(file("a.tif", data), rules=Rules(grey=True)).data.shape == PHOTO.shape[:2]
    with pytest.raises(InputError, match="MinIsWhite"):
        read_rgb(file("b.tif", data), rules=Rules((0, 4095), True))


@pytest.mark.parametrize("name", PNGS)
def test_pngs_of_other_kinds(file, name):
    make, words = PNGS[name]
    data = make()
    path = file("a.png", data)
    if words is None:
        assert np.array_equal(read_rgb(path), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    else:
        _refused(path, words)


@pytest.mark.parametrize("bits", [24, 32])
def test_bmps(file, bits):
    out = io.BytesIO()
    Image.fromarray(PHOTO).save(out, "BMP")
    data = out.getvalue()
    assert np.array_equal(read_rgb(file("a.bmp", data)), PHOTO)
    _refused(file("b.bmp", data[:-300]), "cut short")
    if bits == 32:
        out = io.BytesIO()
        Image.fromarray(PHOTO).convert("RGBA").save(out, "BMP")
        _refused(file("c.bmp", out.getvalue()), "32 bits a pixel")


MASKS = {
    "grey": lambda: _png(MASK), "1 bit": lambda: _png(MASK, mode="1"), "indices": lambda: _png(MASK // 255),
    "colour": lambda: _png(np.dstack([MASK, MASK * 0, MASK * 0])), "palette": lambda: _png(MASK, mode="P"),
    "opaque alpha": lambda: _png(np.dstack([MASK] * 3 + [np.full_like(MASK, 255)])),
    "16 bits": lambda: cv2.imencode(".png", MASK.astype(np.uint16))[1].tobytes(),
    "TIFF": lambda: _tiff(MASK), "TIFF, MinIsWhite": lambda: _tiff(255 - MASK, photometric="miniswhite"),
    "TIFF, 1 bit": lambda: _tiff(MASK > 0), "TIFF, 16 bits": lambda: _tiff(MASK.astype(np.uint16)),
    "TIFF, 1 bit, MinIsWhite": lambda: _tiff(MASK == 0, photometric="miniswhite"),
    "TIFF, 1 bit, packed": lambda: _tiff(MASK > 0, compression="packbits"),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks_that_are_taken(file, name):
    path = file("mask.img", MASKS[name]())
    assert np.array_equal(read_truth(path), MASK > 0)
    assert np.array_equal(read_mask(path), MASK > 0)


SOFT = cv2.GaussianBlur(MASK, (0, 0), 2)
NO_MASKS = {
    "all white": (lambda: _png(np.full_like(MASK, 255)), "100% of the picture"),
    "inverted": (lambda: _png(255 - MASK), "of the picture defective: inverted"),
    "inverted, large": (lambda: _png(255 - cv2.rectangle(MASK * 0, (20, 20), (230, 170), 255, -1)), "inverted"),
    "a photo": (lambda: _png(), "a photo?"),
    "alpha as mask": (lambda: _png(np.dstack([np.full_like(MASK, 255)] * 3 + [MASK])), "transparency"),
    "grey with alpha": (lambda: _png(np.dstack([MASK, 255 - MASK])), "transparency"),
    "palette of white": (lambda: _palette((255, 255, 255)), "inverted, or all white"),
    "16-bit colour": (
        lambda: cv2.imencode(".png", np.dstack([MASK] * 3).astype(np.uint16))[1].tobytes(), "16 bits a channel",
    ),
}  # fmt: skip


def _palette(ground):
    image = Image.fromarray(MASK // 255).convert("P")
    image.putpalette([*ground, 255, 0, 0])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("name", NO_MASKS)
def test_what_cannot_be_meant_as_a_mask_is_refused(file, name):
    make, words = NO_MASKS[name]
    _refused(file("mask.png", make()), words, read=read_truth)


def test_a_soft_brush_and_several_labels_are_masks(file):
    assert np.array_equal(read_truth(file("soft.png", _png(SOFT))), SOFT > 0)
    labels = MASK.copy()
    labels[100:140, 10:200] = 120
    assert np.array_equal(read_truth(file("labels.png", _png(labels))), labels > 0)
    assert not read_truth(file("none.png", _png(MASK * 0))).any()


def test_a_folder_of_masks_is_one(tmp_path):
    folder = tmp_path / "000"
    folder.mkdir()
    other = np.zeros_like(MASK)
    other[100:110] = 255
    for name, mask in (("000.png", MASK), ("001.png", other), ("._000.png", 255 - MASK)):
        (folder / name).write_bytes(_png(mask))
    assert np.array_equal(read_truth(folder), (MASK > 0) | (other > 0))


def test_a_grey_picture_of_a_bundle_is_read_as_such(file):
    assert np.array_equal(read_grey(file("n.png", _png(MASK))), MASK)
    _refused(file("c.png", _png()), "3 channels", read=read_grey)


@pytest.mark.parametrize("what", ["folder", "missing"])
def test_what_is_no_file_is_one_line(tmp_path, what):
    (tmp_path / "folder").mkdir()
    _refused(tmp_path / what, "check the path")


def _ifd(tags, after: int) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", after)


def test_a_circle_of_tiff_pages_ends(file):
    tags = [(256, 3, 4), (257, 3, 4), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, 4),
            (279, 4, 16)]  # fmt: skip
    first = 8 + 16
    second = first + 2 + 12 * len(tags) + 4
    tiff = b"II*\0" + struct.pack("<I", first) + bytes(16) + _ifd(tags, second) + _ifd(tags, first)
    _refused(file("circle.tif", tiff), "pages", read=read_mask)


def test_a_small_tiff_cannot_cost_much_memory(file):
    import imagecodecs

    many = _tiff(np.zeros((8, 8, 9), np.uint8), photometric="minisblack", planarconfig="contig",
                 extrasamples=["unspecified"] * 8)  # fmt: skip
    _refused(file("many.tif", many), "8 extra samples", read=read_mask)
    tags = [(256, 3, 64), (257, 3, 64), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), (322, 4, 32768),
            (323, 4, 32768), (324, 4, 8), (325, 4, 16)]  # fmt: skip
    tile = b"II*\0" + struct.pack("<I", 24) + bytes(16) + _ifd(tags, 0)
    _refused(file("tile.tif", tile), "tiles of 32768x32768", read=read_mask)
    for code, strip in ((5, imagecodecs.lzw_encode(bytes(50_000_000))), (32773, b"\x81\0" * 400_000)):
        tags = [(256, 3, 64), (257, 3, 64), (258, 3, 8), (259, 3, code), (262, 3, 1), (273, 4, 8), (277, 3, 1),
                (278, 3, 64), (279, 4, len(strip))]  # fmt: skip
        bomb = b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + _ifd(tags, 0)
        path = file("bomb.tif", bomb)
        tracemalloc.start()
        _refused(path, "damaged", read=read_mask)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("compression", ["zlib", "lzw", None])
def test_a_last_strip_that_is_filled_up_is_read(file, compression):
    import imagecodecs

    grey = np.random.default_rng(1).integers(0, 2, (40, 50), np.uint8) * 255
    grey[20:] = 0
    strips = [grey[:16], grey[16:32], np.vstack([grey[32:], np.zeros((8, 50), np.uint8)])]
    encode = {"zlib": zlib.compress, "lzw": imagecodecs.lzw_encode, None: bytes}[compression]
    packed = [encode(strip.tobytes()) for strip in strips]
    code = {"zlib": 8, "lzw": 5, None: 1}[compression]
    offsets = 8 + np.cumsum([0, *[len(p) for p in packed]])
    after = int(offsets[-1])
    lists = struct.pack("<3I", *offsets[:3].tolist()) + struct.pack("<3I", *[len(p) for p in packed])
    tags = [(256, 3, 1, 50), (257, 3, 1, 40), (258, 3, 1, 8), (259, 3, 1, code), (262, 3, 1, 1), (273, 4, 3, after),
            (277, 3, 1, 1), (278, 3, 1, 16), (279, 4, 3, after + 12)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    tiff = b"II*\0" + struct.pack("<I", after + 24) + b"".join(packed) + lists
    tiff += struct.pack("<H", len(tags)) + entries + bytes(4)
    assert np.array_equal(read_mask(file("full.tif", tiff)), grey > 0)


def _raw_png(width, height, bits, colour, rows: bytes, extra: bytes = b"", interlaced: bool = False) -> bytes:
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
    palette = chunk(b"PLTE", extra) if extra else b""
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_png_without_all_its_rows_or_colours_is_refused(file):
    row = b"\0" + bytes(range(48))
    assert read_rgb(file("whole.png", _raw_png(16, 16, 8, 2, row * 16))).shape == (16, 16, 3)
    _refused(file("short.png", _raw_png(16, 16, 8, 2, row * 8)), "bytes of rows")
    _refused(file("long.png", _raw_png(16, 16, 8, 2, row * 17)), "bytes of rows")
    indices = b"\0" + bytes([0, 1] * 8)
    assert read_rgb(file("p.png", _raw_png(16, 4, 8, 3, indices * 4, bytes(6)))).shape == (4, 16, 3)
    for palette in (b"", bytes(3)):
        _refused(file("odd.png", _raw_png(16, 4, 8, 3, indices * 4, palette)), "damaged")


@given(st.integers(1, 19), st.integers(1, 19), st.sampled_from([1, 2, 4, 8]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_interlaced_and_packed_pngs_are_read_whole(tmp_path_factory, width, height, bits, interlaced):
    """Grey of 1 to 8 bits; Adam7 leaves passes out where a picture is small."""
    grey = np.random.default_rng(width * 100 + height).integers(0, 2, (height, width), np.uint8) * (2**bits - 1)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b""
    for x, y, step_x, step_y in passes:
        for row in grey[y::step_y, x::step_x]:
            if len(row):
                each = np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()
                rows += b"\0" + np.packbits(each).tobytes()
    path = tmp_path_factory.getbasetemp() / "adam7.png"
    path.write_bytes(_raw_png(width, height, bits, 0, rows, interlaced=interlaced))
    assert np.array_equal(read_mask(path), grey > 0)


def test_a_long_run_of_ones_is_not_slow(file):
    data = _jpeg()
    middle = data.rfind(b"\xff\xda") + 100
    path = file("erased.jpg", data[:middle] + b"\xff" * 300_000 + data[middle:])
    start = time.process_time()
    with contextlib.suppress(InputError):
        header_of_picture(path)
    assert time.process_time() - start < 5, "linear: minutes where each byte looks at all others"


@pytest.mark.parametrize("width", [1, 2])
def test_a_drawn_scratch_with_soft_edges_is_a_mask(file, width):
    mask = cv2.line(np.zeros_like(MASK), (10, 20), (240, 160), 255, width, cv2.LINE_AA)
    assert np.array_equal(read_truth(file("scratch.png", _png(mask))), mask > 0)
    labels = np.zeros_like(MASK)
    for number in range(30):
        labels[6 * number : 6 * number + 3, 10:40] = number + 1
    assert np.array_equal(read_truth(file("labels.png", _png(labels))), labels > 0)


def test_a_name_that_no_file_can_have_is_one_line(tmp_path):
    with pytest.raises(InputError):
        read_rgb(tmp_path / "a\0b.png")
