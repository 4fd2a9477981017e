"""GigE Vision through Aravis: a camera of Aravis's own on loopback, in a network namespace that the test makes.

Each test runs itself again inside the namespace, where `lo` is all there is.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support import namespace
from support.commands import here
from support.grabbed import frames, take
from support.messages import facts

from hisir_edge.camera.process_host import GenicamCamera
from hisir_edge.config.sources import AravisSource, VivaSource
from hisir_edge.errors import CameraError
from hisir_edge.images import read_rgb
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.records import Frame, GrabFault

FAKE = Path(__file__).parents[1] / "gige" / "fake_camera.py"
SYSTEM_PYTHON = "/usr/bin/python3"


def _missing() -> str:
    """Why these tests cannot run here; empty: they can."""
    probe = "import gi; gi.require_version('Aravis', '0.8'); from gi.repository import Aravis; Aravis.GvFakeCamera"
    if reason := namespace.why_not():
        return reason
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True).returncode:
        return "no Aravis: sudo apt-get install gir1.2-aravis-0.8 python3-gi"
    found = subprocess.run([SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True)
    ours = f"{sys.version_info[0]} {sys.version_info[1]}"
    if found.stdout.decode().strip() != ours and importlib.util.find_spec("gi") is None:
        return f"python3-gi is of another Python than this one ({ours}): pip install 'hisir-edge[aravis]'"
    return ""


@pytest.fixture(autouse=True, scope="module")
def _namespace() -> None:
    if not namespace.loopback_up() and (reason := _missing()):
        pytest.skip(reason)


def inside(name: str, **paths: object) -> bool:
    return namespace.inside(__file__, name, **paths)


@contextmanager
def fake(*options: object, serial: str = "SN1") -> Iterator[subprocess.Popen]:
    command = [SYSTEM_PYTHON, str(FAKE), "127.0.0.1", serial, *map(str, options)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "running"
        yield process
    finally:
        process.kill()
        process.communicate()


def camera(**changes: object) -> GenicamCamera:
    small = {"type": "aravis", "pixel_format": "Mono8", "width": 512, "height": 384}
    return GenicamCamera(AravisSource.model_validate({**small, **changes}))


def test_frames_settings_and_triggers():
    if not inside("test_frames_settings_and_triggers"):
        return
    with pytest.raises(CameraError, match="check power, cable"), camera():
        pytest.fail("there is none")
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (3, 384, 512), np.uint8)
    path = Path(os.environ["XDG_STATE_HOME"]) / "frames.raw"
    path.write_bytes(raw.tobytes())
    with fake("--raw", path, 512, 384):
        with camera() as source:
            items = take(source, frames(150))
        ids = [i.frame_id for i in items]
        assert all(isinstance(i, Frame) for i in items), "over the end of the 16-bit ids, none is lost"
        assert 65535 in ids
        assert 1 in ids
        shown = [next(n for n in range(3) if (i.rgb[..., 0] == raw[n]).all()) for i in items]
        assert all((b - a) % 3 == 1 for a, b in pairwise(shown)), "each picture in turn, to the bit"
        assert all(i.device_timestamp_ns for i in items)
        with camera(pixel_format="BayerRG8") as source:
            assert take(source, frames(2))[0].rgb.shape == (384, 512, 3)
        with camera(trigger="software") as source:
            assert source.next(0.7) is None, "it waits to be asked"
            for _ in range(3):
                source.trigger()
                assert len(take(source, frames(1))) == 1
                assert source.next(0.3) is None
            source.rearm()
            take(source, lambda _: source.armed)
            source.trigger()
            take(source, frames(1))
        with (
            pytest.raises(CameraError, match="TriggerSource = Line9"),
            camera(trigger="hardware", trigger_source="Line9"),
        ):
            pytest.fail("it has no Line9")
        with pytest.raises(CameraError, match="the camera SN7"), camera(device_id="SN7"):
            pytest.fail("there is none of that name")
        with camera(device_id="Aravis-Fake-SN1") as source:
            take(source, frames(1))
        shown = here("check", "--aravis", "--json")  # type: ignore[assignment]
        assert "Aravis-Fake-SN1" in shown.stdout, shown.stdout  # type: ignore[attr-defined]


def test_lost_packets_are_faults_and_a_pulled_cable_is_noticed():
    if not inside("test_lost_packets_are_faults_and_a_pulled_cable_is_noticed"):
        return
    with fake("--lost", 0.02), camera(packet_resend=False) as source:
        items = take(source, lambda i: frames(5)(i) and sum(isinstance(one, GrabFault) for one in i) > 5)
        reasons = [i.reason for i in items if isinstance(i, GrabFault)]
        other = [r for r in reasons if "incomplete" not in r and "lost between" not in r]
        assert not other, str([(i.frame_id, getattr(i, "reason", "")[:20]) for i in items])
        assert any("incomplete frame: missing packets" in reason for reason in reasons)
    with camera_on_a_cable() as (source, pull, plug):
        take(source, frames(3))
        pull()
        lost = take(source, lambda items: any(isinstance(i, GrabFault) for i in items))[-1]
        assert isinstance(lost, GrabFault)
        assert "lost" in lost.reason
        assert lost.boards is None
        assert not source.up
        plug()
        plugged = time.monotonic()
        take(source, frames(1))
        assert time.monotonic() - plugged < 10, "docs/RESULTS.md has the time on a machine of its own"
        print(f"back after {time.monotonic() - plugged:.1f} s")


def written(process: subprocess.Popen, register: int, value: int) -> None:
    """Have something write into the camera behind the line's back."""
    process.stdin.write(f"{register:x} {value:x}\n")
    process.stdin.flush()
    assert process.stdout.readline().strip() == "written"


def register(process: subprocess.Popen, address: int) -> int:
    """What a register of the camera holds."""
    process.stdin.write(f"{address:x}\n")
    process.stdin.flush()
    return int(process.stdout.readline(), 16)


OFFSET_X, EXPOSURE_US, GAIN, MOSAIC, MONO = 0x130, 0x120, 0x110, 0x01080009, 0x01080001
PIXEL_FORMAT, RATE_ENABLE, FRAME_PERIOD_US = 0x128, 0x150, 0x138
FRAME_START_MODE, ACQUISITION_START_MODE, SENSOR_HEIGHT, SENSOR_WIDTH = 0x300, 0x320, 0x118, 0x11C


def test_a_frame_that_is_not_as_the_camera_was_set_is_an_error():
    """A region that moves by some pixels has as many bytes: a strip of the board would not be seen."""
    if not inside("test_a_frame_that_is_not_as_the_camera_was_set_is_an_error"):
        return
    with fake() as process, camera() as source:
        take(source, frames(2))
        for register, value, before, words in (
            (OFFSET_X, 8, 0, "OffsetX 8 instead of 0"),
            (PIXEL_FORMAT, MOSAIC, MONO, "PixelFormat BayerRG8 instead of Mono8"),
        ):
            written(process, register, value)
            items = take(source, lambda found: any(isinstance(i, GrabFault) for i in found))
            assert items[-1].reason == f"frame of another kind: {words}"
            written(process, register, before)
            take(source, lambda found: isinstance(found[-1], Frame) if found else False)


def test_features_that_other_makers_tie_to_each_other():
    if not inside("test_features_that_other_makers_tie_to_each_other"):
        return
    with fake("--made", "rate-behind-a-switch") as process:
        assert register(process, RATE_ENABLE) == 0
        with camera(frame_rate_hz=50.0) as source:
            take(source, frames(2))
        assert register(process, RATE_ENABLE) == 1, "the rate is locked until it is switched on"
        assert register(process, FRAME_PERIOD_US) == 20_000
    with (
        fake(),
        pytest.raises(CameraError, match=r"set source.exposure_us \(ExposureTimeAbs\) to 10000000"),
        camera(exposure_us=2e7),
    ):
        pytest.fail("Aravis itself writes what is beyond a feature's limits")
    with fake("--made", "no-exposure"):
        with camera() as source:
            take(source, frames(1))
        with pytest.raises(CameraError, match=r"no such feature.*source.exposure_us"), camera(exposure_us=900.0):
            pytest.fail("it has none")
    with fake() as process:
        written(process, ACQUISITION_START_MODE, 1)  # left On by somebody: no frame would ever come, and no word
        with camera(trigger="software") as source:
            source.trigger()
            assert len(take(source, frames(1))) == 1
        assert register(process, ACQUISITION_START_MODE) == 0
        assert register(process, FRAME_START_MODE) == 1


def test_viva_takes_from_a_camera_that_is_not_its_own():
    if importlib.util.find_spec("viva_genicam") is None:
        pytest.skip("no viva-genicam: pip install 'hisir-edge[viva]'")
    if not inside("test_viva_takes_from_a_camera_that_is_not_its_own"):
        return
    table = {"type": "viva", "pixel_format": "Mono8", "width": 512, "height": 384, "serial": "SN1"}
    with fake("--made", "rate-behind-a-switch") as process:
        rate = {"frame_rate_hz": 50.0, "exposure_us": 900.0}
        with GenicamCamera(VivaSource.model_validate(table | rate)) as source:
            items = take(source, frames(100))
        assert all(isinstance(i, Frame) for i in items), "none is lost"
        assert all(b.frame_id - a.frame_id in (1, -65534) for a, b in pairwise(items))
        assert register(process, RATE_ENABLE) == 1
        assert register(process, EXPOSURE_US) == 900
        with GenicamCamera(VivaSource.model_validate(table | {"trigger": "software"})) as source:
            assert source.next(0.7) is None, "it waits to be asked"
            source.trigger()
            assert len(take(source, frames(1))) == 1
        with (
            pytest.raises(CameraError, match="ExposureTimeAbs"),
            GenicamCamera(VivaSource.model_validate(table | {"exposure_us": 2e7})),
        ):
            pytest.fail("it is beyond the camera's limits")
    with fake("--lost", 0.005), GenicamCamera(VivaSource.model_validate(table)) as source:
        items = take(source, lambda found: len(found) >= 60)
    reasons = {i.reason for i in items if isinstance(i, GrabFault)}
    assert any(isinstance(i, Frame) for i in items) and reasons
    assert all(r.startswith("incomplete frame: ") or "gap in the frame ids" in r for r in reasons), reasons
    assert any("missing packets" in r for r in reasons)


def test_a_profile_holds_exposure_and_gain_whatever_they_are_called(tmp_path):
    """Aravis's camera has ExposureTimeAbs and GainRaw: a power cycle that leaves another exposure is noticed."""
    if not inside("test_a_profile_holds_exposure_and_gain_whatever_they_are_called"):
        return
    config, profile = tmp_path / "line.toml", tmp_path / "camera.json"
    config.write_text('[bundle]\npath = "x"\n[source]\ntype = "aravis"\npixel_format = "Mono8"\nwidth = 512\n')
    with fake() as process:
        done = here("camera", "--config", config, "--save", profile)
        assert done.returncode == 0, done.stderr
        features = json.loads(profile.read_text())["features"]
        assert {"ExposureTimeAbs", "GainRaw", "Width", "OffsetX", "PixelFormat"} <= set(features)
        assert not {"GevSCPHostPort", "GevSCDA", "GevCCP"} & set(features)
        settings = {"height": None, "profile": str(profile)}
        with camera(**settings) as source:
            take(source, frames(1))
        for register, value, name in ((EXPOSURE_US, 4 * 10_000, "ExposureTimeAbs"), (GAIN, 17, "GainRaw")):
            written(process, register, value)
            with pytest.raises(CameraError, match=f"{name} is .*, saved as"), camera(**settings):
                pytest.fail("it opened")
            written(process, register, round(float(features[name])))
        features = {name: value for name, value in features.items() if "Exposure" not in name}
        profile.write_text(json.dumps({"features": features}))
        with pytest.raises(CameraError, match=r"Exposure.* not in the profile"), camera(**settings):
            pytest.fail("it opened")


@contextmanager
def camera_on_a_cable():
    held: list = []

    def plug() -> None:
        held.append(fake())
        held[-1].process = held[-1].__enter__()

    def pull() -> None:
        held[-1].process.kill()  # with kill -9 nothing is said: the cable is out

    plug()
    try:
        with camera(restart_delay_s=0.5) as source:
            yield source, pull, plug
    finally:
        for one in held:
            one.__exit__(None, None, None)


def test_twelve_megapixel_frames_and_the_whole_daemon(request, small_boards_if_outside, tmp_path):
    name = "test_twelve_megapixel_frames_and_the_whole_daemon"
    if not inside(name, **small_boards_if_outside):
        return
    paths = json.loads(os.environ["HISIR_PATHS"])
    with fake() as process:
        written(process, SENSOR_HEIGHT, 3000)
        written(process, SENSOR_WIDTH, 4096)
        with camera(width=4096, height=3000, packet_bytes=8900) as source:
            items = take(source, frames(3))
        assert next(i for i in items if isinstance(i, Frame)).rgb.shape == (3000, 4096, 3)
    board = read_rgb(min((Path(paths["boards"]) / "test" / "missing").iterdir()))
    mosaic = np.empty(board.shape[:2], np.uint8)  # as the sensor sees it: R G / G B
    for (y, x), channel in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
        mosaic[y::2, x::2] = board[y::2, x::2, channel]
    (tmp_path / "board.raw").write_bytes(mosaic.tobytes())
    (tmp_path / "line.toml").write_text(
        f'[bundle]\npath = "{paths["bundle"]}"\n[journal]\nfolder = "journal"\n'
        f'[source]\ntype = "aravis"\npixel_format = "BayerRG8"\nwidth = 512\nheight = 384\n'
        f'[publish]\nendpoint = "ipc://{tmp_path}/v"\n'
    )
    command = [sys.executable, "-m", "hisir_edge", "run", "--config", str(tmp_path / "line.toml")]
    with fake("--raw", tmp_path / "board.raw", 512, 384), (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stderr=log)
        try:
            end = time.monotonic() + 60
            while (tmp_path / "log").read_bytes().count(b'"event": "verdict"') < 20:
                assert time.monotonic() < end and daemon.poll() is None, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.1)
        finally:
            daemon.terminate()
            assert daemon.wait(30) == 0
    bodies = [facts(json.loads(e.body)) for e in read_journal(tmp_path / "journal")[1]]
    assert len(bodies) >= 20
    judged = [b for b in bodies if "overrun" not in b["reason"]]
    assert {b["result"] for b in judged} == {"FAIL"}, "the missing part is found through GigE Vision and demosaicing"


@pytest.fixture
def small_boards_if_outside(request):
    if os.environ.get(namespace.INSIDE):
        return {}
    return {"boards": request.getfixturevalue("small_boards"), "bundle": request.getfixturevalue("small_bundle")}
