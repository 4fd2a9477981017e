"""Real photos through the real daemon: the transistor photos of MVTec AD, and one power-supply board."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.messages import facts

from hisir_edge.engine.build import build_bundle
from hisir_edge.engine.options import BuildOptions
from hisir_edge.learn.data import datasets
from hisir_edge.learn.data.run import RunSettings
from hisir_edge.learn.evaluation.evaluate import evaluate
from hisir_edge.learn.evaluation.figures import figures
from hisir_edge.learn.training.train import train
from hisir_edge.mes import subscribe


def _stream(bundle: Path, photos: list[Path], folder: Path) -> list[dict]:
    """Every photo through the daemon, in this order; the verdicts as a subscriber gets them."""
    replay = folder / "photos"
    replay.mkdir()
    for number, photo in enumerate(photos):
        (replay / f"{number:03d}_{photo.parent.name}_{photo.name}").symlink_to(photo)
    config = folder / "line.toml"
    endpoint = f"ipc://{folder}/verdicts"
    config.write_text(
        f'[bundle]\npath = "{bundle}"\n[source]\ntype = "replay"\nfolder = "photos"\n'
        f'[publish]\nendpoint = "{endpoint}"\nwait_for_subscribers = 1\n'
    )
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "hisir_edge", "run", "--config", str(config)], stdout=log, stderr=log
        )
    stream = subscribe(endpoint, timeout_s=60, stop=lambda: daemon.poll() not in (None, 0))
    found = []
    try:
        for verdict in stream:
            found.append(facts(verdict.body))
            if len(found) == len(photos):
                break
        assert daemon.wait(20) == 0, (folder / "log").read_text()
    finally:
        stream.close()
        if daemon.poll() is None:
            daemon.kill()
        daemon.wait()
    return found


def test_transistor_photos_through_the_daemon_after_a_minute_of_training(shared_transistor, tmp_path):
    """The path on real photos in the default suite: few photos, little training, every verdict there."""
    few = tmp_path / "good"
    few.mkdir()
    for photo in sorted((shared_transistor / "train" / "good").iterdir())[:24]:
        (few / photo.name).symlink_to(photo)
    settings = RunSettings(
        data=str(few),
        backbone="unet",
        width=16,
        tile_px=256,
        overlap_px=32,
        scale=None,
        register="auto",
        batch=4,
        steps=60,
        learning_rate=3e-3,
        seed=0,
    )
    record = train(settings, tmp_path / "run", workers=1)
    assert record.scale == 0.25, "photos that do not lie alike are seen whole"
    # so little training tells little apart: at a lower rate it would not find its own planted defects
    options = BuildOptions(least_planted_recall=0.0, false_calls_per_board=0.5, precision="fp32")
    build_bundle(tmp_path / "run", tmp_path / "bundle", options)
    chosen = [item for item in datasets.test_items(shared_transistor) if item.kind in ("good", "misplaced")][::4]
    verdicts = _stream(tmp_path / "bundle", [item.image for item in chosen], tmp_path)
    assert [v["seq"] for v in verdicts] == list(range(1, len(chosen) + 1))
    assert all(v["result"] in ("PASS", "FAIL") for v in verdicts)
    assert all(v["frame_wh"] == (1024, 1024) for v in verdicts)


def test_a_photo_of_another_board_is_an_error(shared_transistor, small_bundle, tmp_path):
    """1024x1024 photos against a bundle for 512x384: ERROR each, and the daemon ends well."""
    photos = sorted((shared_transistor / "test" / "good").iterdir())[:3]
    verdicts = _stream(small_bundle, photos, tmp_path)
    assert [v["result"] for v in verdicts] == ["ERROR"] * 3
    assert all("512x384" in v["reason"] for v in verdicts)


@pytest.mark.slow
def test_transistor_figures(shared_transistor, tmp_path):
    """The training of docs/RESULTS.md, shortened to twenty minutes on two cores: the floor must hold."""
    settings = RunSettings(
        data=str(shared_transistor),
        backbone="unet",
        width=24,
        tile_px=256,
        overlap_px=32,
        scale=None,
        register="auto",
        batch=8,
        steps=3000,
        learning_rate=2e-3,
        seed=0,
    )
    train(settings, tmp_path / "run", workers=1)
    build_bundle(
        tmp_path / "run", tmp_path / "bundle", BuildOptions(least_planted_recall=0.0, false_calls_per_board=0.05)
    )
    measured = figures(evaluate(tmp_path / "bundle", shared_transistor))
    assert measured["pixel_auroc"] >= 0.97
    assert measured["aupro"] >= 0.89
    assert measured["image_auroc"] >= 0.97
