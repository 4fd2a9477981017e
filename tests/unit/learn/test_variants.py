"""Where good boards look in one of several ways is learnt, chosen on the line and told; a defect never becomes one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from hisir_edge.bundle.variants import MOST_LOOKS, Place, PlaceModel, atlas_from_places, paste, places_from_atlas
from hisir_edge.errors import BundleError
from hisir_edge.geometry.tile import plan_from_size, tiles_from_planes
from hisir_edge.inspection.memory.shown import ShownMemory, ShownTiles
from hisir_edge.inspection.memory.variants import Chooser, crop_of, tiles_of_places
from hisir_edge.learn.data import tiles
from hisir_edge.learn.data.looks import Variants
from hisir_edge.learn.data.memory import good_boards_from_frames, good_boards_like
from hisir_edge.learn.data.odd import differing_boards, odd_pieces
from hisir_edge.learn.data.tiles import CorruptedTiles
from hisir_edge.learn.data.variants import _median_without, place_picture, variants_like, with_variants
from hisir_edge.sim.synth import render_board

SIZE = (512, 384)
BEIGE, BROWN, SLATE = (214, 190, 140), (120, 70, 40), (90, 100, 120)
AT, BOX = (150, 240), (30, 22)
"""Upper left corner x, y and size of a part of several makers."""


def board(seed: int, colour: tuple[int, int, int] | None = None) -> np.ndarray:
    frame = render_board(7, seed, SIZE).frame_rgb.copy()
    if colour is not None:
        (x, y), (w, h) = AT, BOX
        cv2.rectangle(frame, (x, y), (x + w - 1, y + h - 1), colour, -1)
        cv2.rectangle(frame, (x, y), (x + w - 1, y + h - 1), (200, 200, 205), 2)
    return frame


@pytest.fixture(scope="module")
def makers():
    """Boards whose part is of two makers, every third of the second."""
    frames = [board(seed, BROWN if seed % 3 == 2 else BEIGE) for seed in range(12)]
    return with_variants(good_boards_from_frames(frames), 4)


def seen_by_line(boards, frames) -> tuple[int, ...]:
    like = variants_like(boards.variants, good_boards_like(boards, frames))
    (number,) = [n for n, place in enumerate(boards.variants.places) if over_part(place)]
    return tuple(like.variants.looks[:, number].tolist())


def over_part(place: Place) -> bool:
    x, y = AT[0] + BOX[0] // 2, AT[1] + BOX[1] // 2
    m = place.model
    return m.x <= x < m.x + m.width and m.y <= y < m.y + m.height


def test_a_part_of_two_makers_has_two_variants(makers):
    (place,) = [one for one in makers.variants.places if over_part(one)]
    assert place.model.variants == 2
    assert place.model.looks == tuple(int(seed % 3 == 2) for seed in range(12))
    middle = [picture[AT[1] + 11 - place.model.y, AT[0] + 15 - place.model.x] for picture in place.pictures]
    assert np.abs(middle[0].astype(int) - BEIGE).max() < 20
    assert np.abs(middle[1].astype(int) - BROWN).max() < 20
    golden = makers.memory.mean_rgb[AT[1] + 11, AT[0] + 15]
    assert np.abs(golden.astype(int) - BEIGE).max() < 20, "the golden image shows the most common one, not a blur"


def test_the_line_tells_the_makers_apart_on_boards_that_it_has_not_seen(makers):
    frames = [board(100 + n, (BEIGE, BROWN)[n % 2]) for n in range(4)]
    assert seen_by_line(makers, frames) == (0, 1, 0, 1)


def test_a_defect_in_the_place_does_not_turn_the_choice(makers):
    frame = board(104, BROWN)
    cv2.circle(frame, (AT[0] + 8, AT[1] + 8), 5, (250, 40, 230), -1)
    assert seen_by_line(makers, [frame]) == (1,)


def test_three_makers_are_three_variants_and_most_is_kept():
    frames = [board(seed, (BEIGE, BROWN, SLATE)[seed % 3]) for seed in range(15)]
    boards = good_boards_from_frames(frames)
    for most, wanted in ((4, 3), (2, 2)):
        (place,) = [one for one in with_variants(boards, most).variants.places if over_part(one)]
        assert place.model.variants == wanted
    assert with_variants(boards, 1).variants.places == ()


@pytest.mark.parametrize("bad", [1, 2])
def test_what_one_or_two_boards_show_is_no_variant(bad):
    frames = [board(seed, BROWN if seed < bad else BEIGE) for seed in range(14)]
    boards = with_variants(good_boards_from_frames(frames), 4)
    assert not [one for one in boards.variants.places if over_part(one)]


def test_three_photos_of_one_bad_board_are_one_board():
    frames = [board(seed, BEIGE) for seed in range(11)] + [board(40, BROWN)] * 3
    boards = replace(good_boards_from_frames(frames), boards=(*range(11), 11, 11, 11))
    assert not [one for one in with_variants(boards, 4).variants.places if over_part(one)]
    twice = [board(seed % 6, BROWN if seed % 6 >= 3 else BEIGE) for seed in range(12)]
    boards = replace(good_boards_from_frames(twice), boards=tuple(seed % 6 for seed in range(12)))
    (place,) = [one for one in with_variants(boards, 4).variants.places if over_part(one)]
    assert place.model.looks == tuple(int(seed % 6 >= 3) for seed in range(12))


@pytest.mark.parametrize("count", [4, 5, 8, 9])
def test_a_median_without_one_is_that_of_the_others(count):
    values = np.random.default_rng(count).integers(0, 6, (count, 40, 3)).astype(np.float32)
    for n in range(count):
        found = _median_without(np.sort(values, 0), values[n])
        assert np.array_equal(found, np.median(np.delete(values, n, 0), 0).astype(np.float32))


def test_boards_that_look_alike_have_no_variants():
    boards = with_variants(good_boards_from_frames([board(seed) for seed in range(12)]), 8)
    assert boards.variants.places == ()
    few = good_boards_from_frames([board(seed, (BEIGE, BROWN)[seed % 2]) for seed in range(5)])
    assert with_variants(few, 4).variants.places == (), "of five boards nobody can say"


def test_a_defect_at_a_place_with_variants_is_odd(makers):
    """The deviation of both makers together would hide it."""
    frames = [board(seed, BROWN if seed % 3 == 2 else BEIGE) for seed in range(12)]
    cv2.circle(frames[4], (AT[0] + 15, AT[1] + 11), 6, BROWN, -1)
    boards = with_variants(good_boards_from_frames(frames), 4)
    found = [(number, piece.box_xywh) for number, piece in odd_pieces(differing_boards(boards))]
    assert [number for number, _ in found] == [4]


def test_training_tiles_have_the_variant_of_their_own_board(makers, tmp_path):
    stream = CorruptedTiles(tmp_path / "frames.npy", makers, 128, 4, 1)
    y, x = AT[1] - 50, AT[0] - 40
    for number, wanted in ((0, BEIGE), (2, BROWN)):
        cue = stream.cue[y : y + 128, x : x + 128].copy()
        makers.variants.put_into(cue, (y, x), number)
        assert np.abs(cue[61, 55, :3].astype(int) - wanted).max() < 20
    only_brown = replace(makers, frames=[makers.frames[2]], poses=[makers.poses[2]], lights=[makers.lights[2]])
    looks = makers.variants.looks[2:3]
    shown = replace(only_brown, variants=Variants(makers.variants.places, looks))
    one, other = (
        CorruptedTiles(tmp_path / name, boards, 128, 32, 1).batch_of(0)
        for name, boards in (("a", shown), ("b", replace(only_brown, variants=Variants())))
    )
    assert (one.cue != other.cue).any(), "the golden image shows the beige one"
    brown = np.abs(one.cue[:, :3].astype(int) - np.reshape(BROWN, (1, 3, 1, 1))).max(1) < 12
    beige = np.abs(other.cue[:, :3].astype(int) - np.reshape(BEIGE, (1, 3, 1, 1))).max(1) < 12
    changed = (one.cue != other.cue).any(1)
    assert (changed & brown).sum() > 0.6 * (changed & beige).sum() > 0


def test_a_board_of_a_small_group_learns_from_the_others_of_it():
    frames = [board(seed, BROWN if seed < 3 else BEIGE) for seed in range(14)]
    cv2.circle(frames[0], (AT[0] + 15, AT[1] + 11), 4, SLATE, -1)
    boards = with_variants(good_boards_from_frames(frames), 4)
    (number,) = [n for n, place in enumerate(boards.variants.places) if over_part(place)]
    assert {board for board, place in boards.variants.own if place == number} == {0, 1, 2}
    model = boards.variants.places[number].model
    own = boards.variants.own[0, number][AT[1] + 11 - model.y, AT[0] + 15 - model.x]
    assert np.abs(own.astype(int) - BROWN).max() < 25, "nothing of its own spot"


def places(rng: np.random.Generator, boxes, variants, looks) -> tuple[Place, ...]:
    found = []
    for (x, y, w, h), k, look in zip(boxes, variants, looks, strict=True):
        model = PlaceModel(x=x, y=y, width=w, height=h, variants=k, looks=look, usual_levels=5.0)
        pictures = rng.integers(0, 256, (k, h, w, 3), np.uint8)
        pictures[:, 0] = 7
        found.append(Place(model=model, pictures=pictures, deviation=rng.integers(0, 256, (h, w), np.uint8)))
    return tuple(found)


def test_an_atlas_is_read_as_it_was_written():
    rng = np.random.default_rng(1)
    made = places(rng, [(3, 4, 20, 30), (50, 9, 64, 17), (0, 40, 5, 5)], (2, 4, 3), ((0, 1), (3, 2), (0, 2)))
    read = places_from_atlas(atlas_from_places(made), tuple(one.model for one in made), (200, 120))
    for one, other in zip(made, read, strict=True):
        assert np.array_equal(one.pictures, other.pictures)
        assert np.array_equal(one.deviation, other.deviation)
        assert not other.inside[0].any()
        assert other.inside[1:].all()


@pytest.mark.parametrize("wrong", ["cut", "off the image", "look", "boards", "overlapping", "all alike"])
def test_an_atlas_that_does_not_fit_is_refused(wrong):
    made = places(np.random.default_rng(2), [(3, 4, 20, 30), (30, 4, 20, 30)], (2, 2), ((0, 1), (1, 0)))
    atlas, models = atlas_from_places(made), [one.model for one in made]
    if wrong == "all alike":
        atlas[:30, 20:40] = atlas[:30, :20]
    changes: dict[str, dict[str, Any]] = {
        "look": {"looks": (0, MOST_LOOKS)},
        "boards": {"looks": (0, 1, 0)},
        "overlapping": {"x": 20},
    }
    models[1] = models[1].model_copy(update=changes.get(wrong, {}))
    with pytest.raises(BundleError, match="build the bundle again"):
        places_from_atlas(
            atlas[:-1] if wrong == "cut" else atlas, tuple(models), (33 if wrong == "off the image" else 200, 120)
        )


def test_pasting_reaches_exactly_what_a_crop_shows():
    (place,) = places(np.random.default_rng(3), [(10, 20, 16, 12)], (2,), ((0, 1),))
    whole = np.zeros((64, 64, 4), np.uint8)
    paste(whole, (0, 0), place, place.pictures[1])
    for y, x in ((0, 0), (24, 14), (15, 3), (40, 40), (27, 21)):
        crop = np.zeros((20, 20, 4), np.uint8)
        paste(crop, (y, x), place, place.pictures[1])
        assert np.array_equal(crop, whole[y : y + 20, x : x + 20])


def test_neighbours_settle_what_a_place_cannot_tell():
    """Half a label says nothing by itself; the other half does, and good boards show both halves of one label."""
    rng = np.random.default_rng(4)
    left, right = places(rng, [(0, 0, 16, 16), (16, 0, 16, 16)], (2, 2), ((0, 1) * 6, (0, 1) * 6))
    frame = np.zeros((16, 32, 3), np.uint8)
    half = (left.pictures[0].astype(int) + left.pictures[1]) // 2
    frame[:, :16] = half + np.sign(left.pictures[0].astype(int) - half)  # a little nearer to the first
    frame[:, 16:] = right.pictures[1]
    alone = Chooser((left,), (16, 32)).choose(crop_of(frame), None)
    together = Chooser((left, right), (16, 32)).choose(crop_of(frame), None)
    assert alone == (0,)
    assert together == (1, 1)


def test_shown_memory_is_what_was_chosen_and_the_base_stays():
    made = places(np.random.default_rng(5), [(3, 4, 20, 30), (40, 9, 24, 17)], (2, 3), ((0, 1), (2, 1)))
    planes = np.full((4, 64, 80), 9, np.uint8)
    shown = ShownMemory(Chooser(made, (64, 80)), planes)
    assert (planes == 9).all()
    assert shown.show_variants((1, 0)) == [0]
    assert shown.show_variants((1, 2)) == [1]
    assert shown.show_variants((1, 2)) == []
    for place, look in zip(made, (1, 2), strict=True):
        here = shown.planes[:, place.rows, place.columns].transpose(1, 2, 0)
        assert np.array_equal(here[place.inside][:, :3], place.pictures[look][place.inside])
        assert np.array_equal(here[place.inside][:, 3], place.deviation[place.inside])
    assert (shown.planes[:, 60:] == 9).all()
    assert ShownMemory(Chooser((), (64, 80)), planes).planes is planes


def test_the_padding_goes_with_a_place_at_the_edge():
    (place,) = places(np.random.default_rng(7), [(56, 20, 20, 30)], (2,), ((0, 1),))
    shown = ShownMemory(Chooser((place,), (50, 76)), np.full((4, 64, 80), 9, np.uint8))
    for look in (1, 0):
        shown.show_variants((look,))
        assert (shown.planes[:, 50:, :76] == shown.planes[:, 49:50, :76]).all()
        assert (shown.planes[:, :, 76:] == shown.planes[:, :, 75:76]).all()
        assert np.array_equal(shown.planes[:3, 49, 60], place.pictures[look][29, 4])


@pytest.mark.parametrize("seed", range(12))
def test_tiles_of_what_is_shown_are_those_of_the_whole_memory(seed):
    """Places that touch, lie at the edges and in the corner; whatever is shown, and whatever then."""
    rng = np.random.default_rng(seed)
    h, w = 83, 101
    boxes = [(0, 0, 16, 16), (16, 0, 9, 20), (w - 20, h - 30, 20, 30), (w - 40, h - 12, 20, 12), (30, 30, 25, 25)]
    made = places(rng, boxes, (3, 2, 2, 4, 2), ((0, 1),) * 5)
    plan = plan_from_size((h, w), 32, 16)
    around = ((0, 0), (0, plan.padded_hw[0] - h), (0, plan.padded_hw[1] - w))
    planes = np.pad(rng.integers(0, 255, (4, h, w), np.uint8), around, mode="edge")
    before = planes.copy()
    chooser, numbers = Chooser(made, (h, w)), np.arange(len(plan.origins_yx))
    whole, cut = ShownMemory(chooser, planes), ShownTiles(chooser, planes)
    wanted, found = np.empty((2, len(numbers), 4, 32, 32), np.uint8)
    for _ in range(6):
        tiles_from_planes(plan, whole.planes, numbers, wanted)
        cut.tiles_into(plan, numbers, found)
        assert np.array_equal(found, wanted)
        assert np.array_equal(cut.whole(), whole.planes)
        some = rng.permutation(numbers)[:5]
        cut.tiles_into(plan, some, found)
        assert np.array_equal(found[:5], wanted[some])
        chosen = tuple(int(rng.integers(one.model.variants)) for one in made)
        assert whole.show_variants(chosen) == cut.show_variants(chosen)
    assert np.array_equal(planes, before), "the memory itself stays as it was"


@pytest.mark.parametrize("kind", [ShownMemory, ShownTiles])
def test_what_could_not_be_shown_is_put_anew_with_the_next_frame(kind, monkeypatch):
    """Memory runs out between two places of a frame: the next one is not compared with half of it."""
    rng = np.random.default_rng(9)
    made = places(rng, [(0, 0, 16, 16), (20, 0, 16, 16), (40, 30, 16, 16)], (3, 3, 3), ((0, 1),) * 3)
    plan, h, w = plan_from_size((64, 80), 32, 16), 64, 80
    planes = rng.integers(0, 255, (4, *plan.padded_hw), np.uint8)
    shown, fresh = kind(Chooser(made, (h, w)), planes), kind(Chooser(made, (h, w)), planes)
    lay, calls = kind._lay, []

    def runs_out(self, number, target):
        calls.append(number)
        if len(calls) == 2:
            raise MemoryError
        lay(self, number, target)

    monkeypatch.setattr(kind, "_lay", runs_out)
    with pytest.raises(MemoryError):
        shown.show_variants((1, 1, 1))
    monkeypatch.setattr(kind, "_lay", lay)
    assert shown.show_variants((0, 2, 1)) == [0, 1, 2]
    fresh.show_variants((0, 2, 1))
    found, wanted = (one.whole() if isinstance(one, ShownTiles) else one.planes for one in (shown, fresh))
    assert np.array_equal(found, wanted)


def test_places_that_nobody_looks_at_keep_their_first_variant():
    made = places(np.random.default_rng(8), [(0, 0, 16, 16), (16, 0, 16, 16)], (2, 2), ((0, 1) * 6, (0, 1) * 6))
    frame = np.hstack([one.pictures[1] for one in made])
    assert Chooser(made, (16, 32)).choose(crop_of(frame), None) == (1, 1)
    assert Chooser(made, (16, 32), [0]).choose(crop_of(frame), None) == (1, 0)


def test_the_tiles_of_a_place_are_those_that_show_some_of_it():
    made = places(np.random.default_rng(6), [(30, 30, 4, 4), (0, 0, 1, 1)], (2, 2), ((0, 1), (0, 1)))
    origins = ((0, 0), (0, 32), (32, 0), (32, 32), (30, 34))
    found = [set(numbers.tolist()) for numbers in tiles_of_places(made, origins, 32)]
    assert found == [{0, 1, 2, 3}, {0}]
    assert tiles_of_places((), origins, 32) == []


def test_a_place_is_shown_to_a_person(makers):
    picture = place_picture(makers.variants.places[0])
    assert picture.shape[0] >= 100


def test_boards_that_are_not_found_have_no_variants():
    frames = [np.random.default_rng(i).integers(0, 255, (160, 160, 3), np.uint8) for i in range(8)]
    boards = good_boards_from_frames(frames, "off")
    assert with_variants(boards, 4).variants.places == ()


def test_a_fifth_of_the_tiles_came_through_a_jpeg(makers, tmp_path, monkeypatch):
    """What the network is to give back did not, and all else of the stream is as it is without."""
    stream = CorruptedTiles(tmp_path / "frames.npy", makers, 128, 8, 0)
    some = [stream.batch_of(number) for number in range(12)]
    monkeypatch.setattr(tiles, "JPEG_SHARE", 0.0)
    none = [stream.batch_of(number) for number in range(12)]
    changed = np.concatenate([(a.tile != b.tile).any((1, 2, 3)) for a, b in zip(some, none, strict=True)])
    assert 0.1 < changed.mean() < 0.3
    for a, b in zip(some, none, strict=True):
        for part in ("cue", "clean", "mask", "weight"):
            assert np.array_equal(getattr(a, part), getattr(b, part)), part
        difference = np.abs(a.tile.astype(int) - b.tile)
        assert difference.mean() < 6
