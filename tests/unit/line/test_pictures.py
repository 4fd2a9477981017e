"""Pictures stay within their budget, and what the disk does costs no verdict."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hisir_edge.config.kept import OutputTable
from hisir_edge.errors import InputError
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.verdict import error_judgement
from hisir_edge.line.reporting.pictures import OURS, OverlayFolder
from hisir_edge.records import Frame, GrabFault, Judgement, Result

RNG = np.random.default_rng(0)


def frame(unit="board", hw=(600, 800)):
    return Frame(
        image=Pixels(RNG.integers(0, 256, (*hw, 3), np.uint8)),
        source="cam",
        frame_id=1,
        unit=unit,
        grabbed_at_ns=time.time_ns(),
    )


def passed():
    return Judgement(
        result=Result.PASS, reason="", score=0.1, regions=(), regions_total=0, mask=np.zeros((600, 800), bool)
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_failures_and_a_sample_of_passes_are_kept(tmp_path):
    pictures = OverlayFolder(OutputTable(overlay_folder=str(tmp_path / "p"), pass_each=3))
    for seq in range(1, 8):
        pictures.keep(frame(f"u/{seq}"), passed(), seq)
    pictures.keep(frame("odd name: %"), error_judgement("x"), 8)
    pictures.keep(
        GrabFault(source="cam", frame_id=9, unit="gone", reason="lost", grabbed_at_ns=0), error_judgement("lost"), 9
    )
    found = names(tmp_path / "p")
    assert [name.split("_", 1)[1] for name in found] == [
        "000003_u_3_PASS.jpg", "000006_u_6_PASS.jpg", "000008_odd_name____ERROR.jpg",
    ]  # fmt: skip
    assert all(OURS.fullmatch(name) for name in found)


def test_the_oldest_go_first_and_what_is_not_ours_stays(tmp_path):
    other = tmp_path / "my_notes.jpg"
    other.write_bytes(b"x" * 3_000_000)
    pictures = OverlayFolder(OutputTable(overlay_folder=str(tmp_path), budget_mb=2))
    for seq in range(1, 13):
        pictures.keep(frame(), error_judgement("x"), seq)
        kept = sum(path.stat().st_size for path in tmp_path.iterdir()) - 3_000_000
        assert kept <= 2_000_000
    numbers = [int(name.split("_")[1]) for name in names(tmp_path) if OURS.fullmatch(name)]
    assert numbers == list(range(13 - len(numbers), 13)) and 1 < len(numbers) < 12
    assert other.exists()
    again = OverlayFolder(OutputTable(overlay_folder=str(tmp_path), budget_mb=1))  # a smaller budget, a new start
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) - 3_000_000 <= 1_000_000
    again.keep(frame(), error_judgement("x"), 1)
    assert names(tmp_path)[-1] == "my_notes.jpg"


def test_a_folder_that_refuses_costs_the_picture_alone(tmp_path):
    pictures = OverlayFolder(OutputTable(overlay_folder=str(tmp_path / "p")))
    (tmp_path / "p").rmdir()
    pictures.keep(frame(), error_judgement("x"), 1)  # logged
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"output\.overlay_folder"):
        OverlayFolder(OutputTable(overlay_folder=str(tmp_path / "file")))


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    OverlayFolder(OutputTable()).keep(frame(), error_judgement("x"), 1)
    assert names(tmp_path) == []
