"""A lens that comes loose ends in warnings, then in ERROR verdicts, through the real line and the real commands."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import cv2
import pytest
from support.commands import here
from support.daemon import WatchedDaemon, replay
from support.scraping import scraped
from support.small import writable_copy
from support.sockets import free_port

from hisir_edge.arrays import u8
from hisir_edge.bundle.integrity import seal_of
from hisir_edge.images import png_bytes, read_rgb


@pytest.fixture
def photos(small_boards: Path, small_bundle: Path, tmp_path: Path) -> Path:
    """A good board as it is, softer than good boards are, through a loose lens, and in weak light."""
    limits = json.loads((small_bundle / "manifest.json").read_text())["optics"]
    frame = read_rgb(min((small_boards / "test" / "good").iterdir()))
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, blur_px, light in (
        ("1_sharp", 0, 1.0), ("2_soft", (limits["most_blur_px"] + limits["lost_blur_px"]) / 2, 1.0),
        ("3_loose", 5.0, 1.0), ("4_dark", 0, 0.75),
    ):  # fmt: skip
        board = cv2.GaussianBlur(frame, (0, 0), blur_px) if blur_px else frame
        (folder / f"{name}.png").write_bytes(png_bytes(u8(cv2.convertScaleAbs(board, alpha=light))))
    return folder


def test_a_loose_lens_ends_in_warnings_and_errors(photos, small_bundle, tmp_path):
    port = free_port()
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", f"[metrics]\nport = {port}\n") as line:
        line.until(lambda status: status["state"] == "Ready")

        def four_boards() -> list[dict]:
            for _ in range(4):
                before = len(line.bodies)
                line.ask("trigger")
                line.wait(before + 1)
            return line.bodies[-4:]

        sharp, soft, loose, dark = four_boards()
        assert (sharp["result"], sharp["warnings"]) == ("PASS", ())
        assert sharp["optics"]["blur_px"] < 1 and sharp["optics"]["frame_white_share"] is None
        assert soft["result"] in ("PASS", "FAIL")
        assert "replay: blurred by" in soft["warnings"][0]
        assert (loose["result"], loose["score"], loose["defects"]) == ("ERROR", None, ())
        assert "blurred by" in loose["reason"] and "check focus" in loose["reason"]
        assert loose["optics"]["blur_px"] > 3
        assert "times as bright as the good boards" in dark["warnings"][0]
        taken = line.until(lambda status: status["optics"].get("replay", {}).get("frames") == 4)
        status = taken["optics"]["replay"]
        assert status["with_warnings"] == 3
        assert status["last"]["brightness"] < 0.85
        assert 0 < status["brightness"] < 1.1 and status["blur_px"] > 0
        metrics = scraped(port, 'hisir_warnings_total{camera="replay",of="blur"} 2.0')
        assert re.search(r'^hisir_optics\{camera="replay",of="brightness"\} 0\.[67]', metrics, re.MULTILINE)
        assert any("blurred" in words for entry in line.logged("verdict") for words in entry["warnings"])
        line.config.write_text(line.config.read_text() + '[optics]\nbeyond = "error"\n')
        line.process.send_signal(signal.SIGHUP)
        line.until(lambda status: status["last_reload"] != "")
        assert [board["result"] for board in four_boards()] == ["PASS", "ERROR", "ERROR", "ERROR"]
        shown = here("status", "--config", line.config)
        assert re.search(r"replay: blur [0-9.]+ px \(median [0-9.]+\), brightness 0\.[0-9]+", shown.stdout), (
            shown.stdout
        )


def test_inspect_and_evaluate_say_so_too(photos, small_bundle, tmp_path):
    done = here("inspect", photos, "--bundle", small_bundle, "--out", tmp_path / "out")
    sharp, soft, loose, dark = done.stdout.splitlines()
    assert sharp.startswith("PASS") and "WARNING" not in sharp
    assert "WARNING: blurred by" in soft
    assert loose.startswith("ERROR") and "blurred by" in loose and "WARNING" not in loose
    assert "WARNING: 0.7" in dark
    body = json.loads((tmp_path / "out" / "2_soft.json").read_text())
    assert body["vision"]["warnings"][0]["kind"] == "blur"
    data = tmp_path / "data"
    (data / "test" / "good").mkdir(parents=True)
    for name in ("1_sharp", "3_loose"):
        shutil.copy(photos / f"{name}.png", data / "test" / "good")
    done = here("evaluate", "--bundle", small_bundle, "--data", data, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    (error,) = json.loads((tmp_path / "figures.json").read_text())["errors"]
    assert "blurred by" in json.dumps(error)


def test_a_bundle_that_cannot_tell_blur_is_refused_where_blur_is_to_be_an_error(photos, small_bundle, tmp_path):
    bundle = writable_copy(small_bundle, tmp_path / "before")
    raw = json.loads((bundle / "manifest.json").read_text()) | {"optics": None}
    (bundle / "manifest.json").write_text(json.dumps({**raw, "seal_sha256": seal_of(raw)}))
    config = tmp_path / "line.toml"
    table = f'[bundle]\npath = "{bundle}"\n{replay(photos, loop=False)}[publish]\nendpoint = "ipc://{tmp_path}/v"\n'
    config.write_text(table + '[optics]\nbeyond = "error"\n')
    refused = here("run", "--config", config)
    assert (refused.returncode, refused.stderr.count("expected a bundle that knows how sharp")) == (2, 1)
    config.write_text(table)
    taken = here("run", "--config", config)
    assert taken.returncode == 0, taken.stderr
    assert "blur is not watched" in taken.stderr
    assert "not watched: built by a version that did not" in here("bundle", "show", bundle).stdout
    assert "blur warns from" in here("bundle", "show", small_bundle).stdout
