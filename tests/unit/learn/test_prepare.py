"""What a training run learns its boards beside: the memory of all good boards, each of them left out of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.training import small_settings

from hisir_edge.arrays import u8
from hisir_edge.bundle.write import memory_as_shipped
from hisir_edge.errors import InputError
from hisir_edge.images import png_bytes, read_rgb
from hisir_edge.learn.data import prepare
from hisir_edge.learn.data.left_out import Memories
from hisir_edge.learn.data.memory import good_boards_from_frames, rows_of_board, some_of
from hisir_edge.learn.data.prepare import prepare_run
from hisir_edge.learn.data.run import load_memory, load_record
from hisir_edge.learn.data.tiles import CorruptedTiles
from hisir_edge.sim.synth import render_board

SIZE = (384, 320)
BOARDS = 10


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(BOARDS):
        (folder / f"{seed:02d}.png").write_bytes(png_bytes(render_board(3, seed, SIZE).frame_rgb))
    return folder


def nothing(_done: int, _total: int) -> None:
    pass


def test_held_out_boards_are_in_the_memory_and_not_in_the_tiles(photos, tmp_path):
    record, stream, held_out = prepare_run(small_settings(photos, 1), tmp_path / "run", nothing)
    assert record.each_left_out
    assert not record.taught
    assert (len(record.train), len(record.held_out)) == (8, 2)
    assert record.in_memory == (*record.train, *record.held_out)
    frames = [read_rgb(Path(path)) for path in record.in_memory]
    boards = good_boards_from_frames(frames)
    assert (boards.memory.mean_rgb == load_memory(tmp_path / "run").mean_rgb).all()
    memories = Memories(lambda n, y0, y1: rows_of_board(boards, n, y0, y1), SIZE[::-1], tuple(range(BOARDS)))
    stream.batch_of(0)
    assert stream.frames is not None
    assert len(stream.frames) == 8, "tiles to learn from are of the boards that are not held out"
    for number in (0, 7):
        own = memories.memory_without(number)
        assert (stream.cues[number] == memory_as_shipped(own.mean_rgb, own.deviation)).all()
        assert (stream.cues[number] != stream.cue).any(), "what a board alone shows is not in what it learns beside"
    stream.remove_files()
    assert not list((tmp_path / "run").glob("*.npy"))
    assert len(held_out) == prepare.HELD_OUT_BATCHES
    assert load_record(tmp_path / "run") == record


def test_a_continued_run_prepares_the_same(photos, tmp_path):
    first, stream, _ = prepare_run(small_settings(photos, 1), tmp_path / "run", nothing)
    one = stream.batch_of(3)
    again, stream, _ = prepare_run(small_settings(photos, 1), tmp_path / "run", nothing)
    other = stream.batch_of(3)
    stream.remove_files()
    assert first == again
    assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_a_run_from_before_goes_on_as_it_began(photos, tmp_path):
    """Its held-out boards are not in the memory that its network has learnt beside."""
    record, stream, _ = prepare_run(small_settings(photos, 1), tmp_path / "run", nothing)
    stream.remove_files()
    path = tmp_path / "run/run.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "each_left_out": False}))
    again, stream, _ = prepare_run(small_settings(photos, 1), tmp_path / "run", nothing)
    assert stream.cues_file is None
    stream.remove_files()
    assert again == replace(record, each_left_out=False, variants=again.variants, odd=again.odd)
    assert again.in_memory == record.train


@pytest.mark.parametrize(("count", "left_out"), [(4, False), (5, True), (10, True)])
def test_few_and_many_boards_share_one_memory(photos, tmp_path, monkeypatch, count, left_out):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.iterdir())[:count]:
        (few / path.name).symlink_to(path)
    monkeypatch.setattr(prepare, "MOST_LEFT_OUT", 10)
    record, stream, _ = prepare_run(small_settings(few, 1), tmp_path / "run", nothing)
    stream.remove_files()
    assert record.each_left_out == left_out
    monkeypatch.setattr(prepare, "MOST_LEFT_OUT", count - 1)
    record, stream, _ = prepare_run(small_settings(few, 1), tmp_path / "many", nothing)
    stream.remove_files()
    assert not record.each_left_out
    assert record.in_memory == record.train


def test_loose_objects_are_learnt_beside_the_mean_of_those_that_are_learnt(photos, tmp_path):
    record, stream, _ = prepare_run(small_settings(photos, 1, register="off"), tmp_path / "run", nothing)
    assert not record.each_left_out
    assert stream.cues_file is None
    stream.remove_files()
    frames = [read_rgb(Path(path)).astype(float) for path in record.train]
    assert np.abs(load_memory(tmp_path / "run").mean_rgb - np.mean(frames, 0)).max() <= 0.51


def test_a_held_out_board_that_is_another_product_is_left_out_by_name(photos, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    record, stream, _ = prepare_run(small_settings(photos, 1), tmp_path / "run", nothing)
    stream.remove_files()
    stranger = Path(record.held_out[0]).name
    for path in photos.iterdir():
        (mixed / path.name).symlink_to(path)
    (mixed / stranger).unlink()
    (mixed / stranger).write_bytes(png_bytes(render_board(4, 1, SIZE).frame_rgb))
    record, stream, _ = prepare_run(small_settings(mixed, 1), tmp_path / "other", nothing)
    stream.remove_files()
    assert record.dropped_held_out == (str(mixed / stranger),)
    assert [Path(path).name for path in record.in_memory].count(stranger) == 0


def test_some_of_the_boards_keep_what_is_theirs(photos):
    frames = [read_rgb(path) for path in sorted(photos.iterdir())]
    boards = good_boards_from_frames(frames)
    boards = replace(boards, ignored=((2, (1, 2, 3, 4)), (5, (5, 6, 7, 8))), boards=tuple(range(BOARDS)))
    some = some_of(boards, [5, 7])
    assert some.ignored == ((0, (5, 6, 7, 8)),)
    assert some.boards == (5, 7)
    assert some.frames[1] is boards.frames[7]
    assert some.memory is boards.memory


def test_grey_photos_train_and_colour_among_them_is_refused(photos, tmp_path):
    grey = tmp_path / "grey"
    grey.mkdir()
    for path in photos.iterdir():
        (grey / path.name).write_bytes(png_bytes(u8(cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY))))
    record, stream, _ = prepare_run(small_settings(grey, 1), tmp_path / "run", nothing)
    tile = stream.batch_of(0).tile.astype(int)
    stream.remove_files()
    assert record.grey
    assert np.abs(tile[:, 0] - tile[:, 1]).mean() < 12, "colours of corruption and noise alone"
    (grey / "09.png").write_bytes((photos / "09.png").read_bytes())
    with pytest.raises(InputError, match=r"09\.png: a picture in colour"):
        prepare_run(small_settings(grey, 1), tmp_path / "mixed", nothing)


def test_photos_of_16_bits_train_as_those_of_8_that_the_window_makes_of_them(photos, tmp_path):
    deep = tmp_path / "deep"
    deep.mkdir()
    for path in photos.iterdir():
        cv2.imwrite(str(deep / path.name), cv2.imread(str(path)).astype(np.uint16) * 14 + 100)
    with pytest.raises(InputError, match="--levels 0,4095"):
        prepare_run(small_settings(deep, 1), tmp_path / "run", nothing)
    levels = (100, 100 + 255 * 14)
    record, stream, _ = prepare_run(small_settings(deep, 1, levels=levels), tmp_path / "run", nothing)
    one = stream.batch_of(0)
    stream.remove_files()
    assert load_record(tmp_path / "run").rules.levels == levels == record.settings.levels
    _, stream, _ = prepare_run(small_settings(photos, 1), tmp_path / "plain", nothing)
    other: CorruptedTiles = stream
    assert all((a == b).all() for a, b in zip(one, other.batch_of(0), strict=True))
    stream.remove_files()
