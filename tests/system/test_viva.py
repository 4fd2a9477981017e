"""GigE Vision through viva-genicam, against its own camera on loopback, in a network namespace that the test makes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import structlog
from support import namespace
from support.commands import here
from support.grabbed import frames, take

from hisir_edge.camera.process_host import GenicamCamera
from hisir_edge.cli.doctor import examine
from hisir_edge.config.sources import VivaSource
from hisir_edge.errors import CameraError
from hisir_edge.images.wire import WIRE_FORMATS, through_window
from hisir_edge.machine.sockets import largest_receive_buffer
from hisir_edge.records import Frame, GrabFault

FAKE = Path(__file__).parents[1] / "gige" / "viva_camera.py"
WIDTH, HEIGHT = 512, 384


@pytest.fixture(autouse=True, scope="module")
def _namespace() -> None:
    if importlib.util.find_spec("viva_genicam") is None:
        pytest.skip("no viva-genicam: pip install 'hisir-edge[viva]'")
    if not namespace.loopback_up() and (reason := namespace.why_not()):
        pytest.skip(reason)


def inside(name: str) -> bool:
    return namespace.inside(__file__, name)


@contextmanager
def fake(**options: object) -> Iterator[subprocess.Popen]:
    asked = json.dumps({"width": WIDTH, "height": HEIGHT, "fps": 60, **options})
    command = [sys.executable, str(FAKE), asked]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "running"
        yield process
    finally:
        process.kill()
        process.communicate()


def asked(process: subprocess.Popen, what: str) -> str:
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def camera(**changes: object) -> GenicamCamera:
    return GenicamCamera(VivaSource.model_validate({"type": "viva", **changes}))


def test_frames_names_and_a_camera_that_is_in_use():
    if not inside("test_frames_names_and_a_camera_that_is_in_use"):
        return
    with pytest.raises(CameraError, match="check power, cable"), camera():
        pytest.fail("there is none")
    with fake() as process:
        listed = examine(with_viva=True)["viva"]["cameras"]
        assert len(listed) == 1
        words = listed[0].split()
        assert words[:2] == ["viva-genicam", "FakeGigE"]
        serial = words[2]
        with camera() as source:
            items = take(source, frames(60))
            assert all(isinstance(i, Frame) for i in items)
            ids = [i.frame_id for i in items]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            assert items[0].rgb.shape == (HEIGHT, WIDTH, 3)
            assert items[0].white_share is not None
            gaps = np.diff([i.device_timestamp_ns for i in items]) / 1e6
            assert 5 < np.median(gaps) < 500, "the camera's own clock, in ms between frames: not in us or s"
            assert asked(process, "controller") != "nobody"
            with pytest.raises(CameraError, match=f"{serial} to be free; got another program holds it"), camera():
                pytest.fail("one camera has one master")
        assert asked(process, "controller") == "nobody", "its control is given back"
        for name in (serial, "127.0.0.1"):
            with camera(serial=name) as source:
                assert take(source, frames(1))
        with pytest.raises(CameraError, match=f"one camera called S-9; got viva-genicam FakeGigE {serial}"):
            camera(serial="S-9").__enter__()


@pytest.mark.parametrize("pixel_format", ["Mono16", "BayerRG8", "RGB8"])
def test_formats(pixel_format):
    if not inside(f"test_formats[{pixel_format}]"):
        return
    with fake(pixel_format=pixel_format), camera() as source:
        frame = next(i for i in take(source, frames(2)) if isinstance(i, Frame))
        assert source.pixel_format == WIRE_FORMATS[pixel_format].line_format
        if pixel_format != "Mono16":
            return
    with fake(pixel_format=pixel_format), camera(levels=[0, 1023]) as source:
        windowed = next(i for i in take(source, frames(2)) if isinstance(i, Frame))
    assert (windowed.image.data >= frame.image.data).all(), "a narrower window is brighter"
    assert (windowed.image.data > frame.image.data).any()
    ramp = np.arange(0, 65536, 97, dtype=np.uint16)[None]
    assert (through_window(ramp, 0, 1023) == 255).sum() > 600


def test_settings_triggers_and_a_profile(tmp_path):
    if not inside("test_settings_triggers_and_a_profile"):
        return
    settings = {"width": 256, "height": 192, "offset_x": 64, "exposure_us": 2500.0, "gain_db": 3.0}
    with fake() as process:
        with camera(**settings, trigger="software", chunk_data=True) as source:
            assert source.frame_wh == (256, 192)
            assert source.next(0.3) is None, "nobody has asked"
            for _ in range(3):
                source.trigger()
                items = take(source, frames(1))
                assert [type(i) for i in items] == [Frame]
            assert asked(process, "triggers") == "3"
        for changes, words in (
            ({"width": 9000}, "set source.width (Width) to 4096 (it takes 16 to 4096)"),
            ({"gamma": 1.0}, "no such feature; take source.gamma (Gamma) out"),
            ({"pixel_format": "BayerRG12p"}, "set source.pixel_format (PixelFormat) to one of Mono8"),
            ({"trigger": "hardware", "trigger_source": "Line9"}, "TriggerSource = Line9"),
        ):
            with pytest.raises(CameraError) as caught, camera(**changes):
                pytest.fail("it cannot be set so")
            assert words in str(caught.value)
        config, saved = tmp_path / "line.toml", tmp_path / "camera.json"
        text = '[bundle]\npath = "x"\n[source]\ntype = "viva"\nexposure_us = 2500.0\n'
        config.write_text(text)
        assert here("camera", "--config", config, "--save", saved).returncode == 0
        features = json.loads(saved.read_text())["features"]
        assert float(features["ExposureTime"]) == 2500
        assert not any(name.endswith("Reg") for name in features)
        with camera(profile=str(saved), exposure_us=2500.0) as source:
            assert take(source, frames(1))
        with pytest.raises(CameraError, match=r"ExposureTime is 900.*saved as 2500"):
            camera(profile=str(saved), exposure_us=900.0).__enter__()


def test_a_socket_that_holds_no_whole_frame_is_told(tmp_path):
    if not inside("test_a_socket_that_holds_no_whole_frame_is_told"):
        return
    limit_bytes, config, saved = largest_receive_buffer(), tmp_path / "line.toml", tmp_path / "camera.json"
    if limit_bytes is None:
        pytest.skip("this kernel shows net.core.rmem_max in no namespace but the first")
    config.write_text('[bundle]\npath = "x"\n[source]\ntype = "viva"\n')
    height = max(limit_bytes // 4096 // 2 + 16, 16)
    if height > 40_000:
        pytest.skip(f"frames of {limit_bytes} bytes are none of this test's")
    with fake(width=4096, height=height, fps=1):
        for more in ((), ("--save", saved)):
            shown = here("camera", "--config", config, *more)
            assert shown.returncode == 0, shown.stderr
            assert f"a socket may hold {limit_bytes} bytes (net.core.rmem_max)" in shown.stdout
        assert set(json.loads(saved.read_text())) == {"version", "camera", "features"}
        with structlog.testing.capture_logs() as told, camera(ring_slots=2) as source:
            take(source, lambda _: bool(told))
        assert f"a socket may hold {limit_bytes} bytes" in told[0]["event"]
    if limit_bytes >= 2 * WIDTH * HEIGHT:
        with fake():
            assert "packets may be lost" not in here("camera", "--config", config).stdout


def test_lost_packets_are_faults_and_a_revoked_camera_comes_back():
    if not inside("test_lost_packets_are_faults_and_a_revoked_camera_comes_back"):
        return
    lost = [(7, 2), (7, 3), (12, 5)]
    with fake(packet_resend=False, drop_packets=lost), camera() as source:
        items = take(source, frames(20))
    faults = {i.frame_id: i.reason for i in items if isinstance(i, GrabFault)}
    assert set(faults) == {7, 12}
    assert all("incomplete frame: missing packets" in reason for reason in faults.values())
    assert [i.frame_id for i in items] == list(range(1, len(items) + 1)), "each has its place"
    with fake(packet_resend=True, drop_packets=lost), camera() as source:
        items = take(source, frames(20))
    assert {i.frame_id for i in items if isinstance(i, GrabFault)} <= {7, 12}, "asked for again where it can be"
    with fake() as process, camera(restart_delay_s=0.1) as source:
        take(source, frames(3))
        assert asked(process, "revoke") == "revoked"
        gone = take(source, lambda items: any(isinstance(i, GrabFault) for i in items))
        assert "lost" in gone[-1].reason
        assert take(source, frames(3)), "it is opened again"
