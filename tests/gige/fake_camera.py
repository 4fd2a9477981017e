"""A GigE Vision camera of Aravis (ArvGvFakeCamera) that shows pictures from files; run by the system's Python.

    /usr/bin/python3 fake_camera.py ADDRESS SERIAL [--raw FILE WIDTH HEIGHT] [--lost RATIO] [--made KIND]

Each line on standard input is a register and a value, in hexadecimal, that something behind the line's back writes; a
register alone is read, and its value printed. ``--made``: another maker's feature tree, see ``MADE``.

A raw file holds whole Mono8 or Bayer frames of WIDTH x HEIGHT, shown in turn; without one it sends its own pattern.
"""

import ctypes
import re
import sys
import tempfile
from pathlib import Path

import gi

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis, GLib  # noqa: E402

RATE_ENABLE = 0x150
"""A register that Aravis's camera has no use for."""
SWITCH = f"""
  <Boolean Name="AcquisitionFrameRateEnable"><pValue>RateEnableRegister</pValue></Boolean>
  <IntReg Name="RateEnableRegister"><Address>{RATE_ENABLE}</Address><Length>4</Length><AccessMode>RW</AccessMode>
    <pPort>Device</pPort><Sign>Unsigned</Sign><Endianess>BigEndian</Endianess></IntReg>
  <IntSwissKnife Name="RateLocked"><pVariable Name="ON">RateEnableRegister</pVariable><Formula>ON = 0</Formula>
  </IntSwissKnife>
"""
RATE = '<Float Name="AcquisitionFrameRate">'
FEATURE = "<pFeature>{}</pFeature>"
EXPOSURE = FEATURE.format("ExposureTimeAbs")
MADE = {
    "rate-behind-a-switch": [
        (re.escape(RATE), f"{SWITCH}{RATE}<pIsLocked>RateLocked</pIsLocked>"),
        (EXPOSURE, EXPOSURE + FEATURE.format("AcquisitionFrameRateEnable") + FEATURE.format("AcquisitionFrameRate")),
    ],
    "no-exposure": [
        (EXPOSURE, ""),
        (r'<Float Name="ExposureTimeAbs".*?</Float>', ""),
    ],
}  # fmt: skip
"""By kind (pattern, what it becomes) in the XML of Aravis's camera."""


def make(kind: str) -> None:
    """Show another maker's feature tree from now on."""
    found = Aravis.FakeCamera.new("any").get_genicam_xml()
    text = found[0] if isinstance(found, tuple) else found
    for pattern, becomes in MADE[kind]:
        text, count = re.subn(pattern, becomes, text, flags=re.DOTALL)
        assert count == 1, pattern
    with tempfile.NamedTemporaryFile("w", suffix=".xml", delete=False) as file:
        file.write(text)
    Aravis.set_fake_camera_genicam_filename(file.name)


def main() -> None:
    address, serial, *more = sys.argv[1:]
    if "--made" in more:
        make(more[more.index("--made") + 1])
    camera = Aravis.GvFakeCamera.new(address, serial)
    if "--lost" in more:
        camera.props.gvsp_lost_ratio = float(more[more.index("--lost") + 1])
    if "--raw" in more:
        show(camera.get_fake_camera(), *more[more.index("--raw") + 1 :][:3])
    GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IO_IN, write, camera.get_fake_camera())
    print("running" if camera.is_running() else "not running", flush=True)
    GLib.MainLoop().run()


def write(stdin, _condition, fake) -> bool:
    words = stdin.readline().split()
    if len(words) == 1:
        print(f"{fake.read_register(int(words[0], 16))[-1]:x}", flush=True)
    elif words:
        fake.write_register(int(words[0], 16), int(words[1], 16))
        print("written", flush=True)
    return bool(words)


def show(fake, path: str, width: str, height: str) -> None:
    """Fill buffers from the file; the camera has to be set to this size, for the buffer does not say its own yet.

    The callback writes into the buffer itself, which introspection has no call for.
    """
    size = int(width) * int(height)
    data = Path(path).read_bytes()
    frames = [data[i : i + size] for i in range(0, len(data), size)]
    library = ctypes.CDLL("libaravis-0.8.so.0")
    library.arv_buffer_get_data.restype = ctypes.c_void_p
    library.arv_buffer_get_data.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32)
    shown = [0]

    def fill(buffer, _data, _exposure_us, _gain, _pixel_format):
        room = ctypes.c_size_t()
        pixels = library.arv_buffer_get_data(buffer, ctypes.byref(room))
        frame = frames[shown[0] % len(frames)]
        shown[0] += 1
        ctypes.memmove(pixels, frame, len(frame))

    show.keep = callback = kind(fill)
    library.arv_fake_camera_set_fill_pattern.argtypes = [ctypes.c_void_p, kind, ctypes.c_void_p]
    library.arv_fake_camera_set_fill_pattern(hash(fake), callback, None)  # PyGObject hashes by address


main()
