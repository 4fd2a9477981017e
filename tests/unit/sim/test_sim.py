"""The renderer: same numbers same pixels, layout fixed by the product, masks exactly where pixels changed."""

from __future__ import annotations

import hashlib
import json

import cv2
import numpy as np
import pytest

from hisir_edge.errors import InputError
from hisir_edge.images import read_mask, read_rgb
from hisir_edge.sim.camera import fixture_matrix, shot_from_seed
from hisir_edge.sim.defects import DEFECTS, MIN_DEFECT_PX, VISIBLE_LEVELS, plant_defect
from hisir_edge.sim.layout import layout_from_product
from hisir_edge.sim.render import board_from_seed, draw_board
from hisir_edge.sim.synth import render_board, write_dataset

SIZE = (1100, 900)


def test_the_same_numbers_give_the_same_pixels_and_others_do_not():
    a, b = render_board(7, 3, (512, 400)), render_board(7, 3, (512, 400))
    assert np.array_equal(a.frame_rgb, b.frame_rgb)
    assert not np.array_equal(a.frame_rgb, render_board(7, 4, (512, 400)).frame_rgb)


def test_the_layout_belongs_to_the_product():
    assert layout_from_product(7, SIZE) == layout_from_product(7, SIZE)
    places = {p: {(q.kind, q.x, q.y) for q in layout_from_product(p, SIZE).parts} for p in (7, 8)}
    assert places[7] != places[8]
    assert len(places[7]) > 20


def test_good_boards_vary_but_within_the_fixture_limits():
    frames = [render_board(7, seed, (512, 400)).frame_rgb.astype(int) for seed in range(4)]
    assert all(np.abs(frames[0] - f).mean() > 1 for f in frames[1:])
    for seed in range(200):
        shot = shot_from_seed(seed)
        assert max(map(abs, shot.shift_xy_px)) <= 3 and abs(shot.turn_deg) <= 0.3
        assert np.allclose(np.linalg.det(fixture_matrix(shot, SIZE)[:, :2]), 1)


@pytest.mark.parametrize("kind", list(DEFECTS))
def test_a_mask_is_where_the_defect_changed_the_board(kind):
    for seed in (11, 12, 13):
        board = board_from_seed(7, seed, SIZE)
        canvas = draw_board(board)
        clean, mask = canvas.copy(), np.zeros(canvas.shape[:2], np.uint8)
        changed, defect = plant_defect(board, kind, np.random.default_rng(seed), canvas, mask)
        difference = np.abs(canvas.astype(int) - clean).max(2)
        assert not difference[cv2.dilate(mask, np.ones((3, 3))) == 0].max(initial=0) >= VISIBLE_LEVELS
        assert (mask[difference >= VISIBLE_LEVELS] == 255).all()
        assert np.array_equal(draw_board(changed), canvas), (
            "the defect drawn in place differs from the board drawn anew"
        )
        x, y, w, h = cv2.boundingRect(mask)
        assert defect.box_xywh == (x, y, w, h) and max(w, h) >= MIN_DEFECT_PX


def test_a_defective_frame_differs_from_its_good_twin_at_the_mask_alone():
    good, bad = render_board(7, 21, SIZE), render_board(7, 21, SIZE, ("missing",))
    difference = np.abs(good.frame_rgb.astype(int) - bad.frame_rgb).max(2)
    near = cv2.dilate(bad.mask, np.ones((15, 15), np.uint8)) > 0
    assert difference[bad.mask > 0].mean() > 10
    assert difference[~near].max() <= VISIBLE_LEVELS
    assert good.mask.max() == 0


def test_small_foreign_objects_come_down_to_four_pixels():
    sizes = []
    for seed in range(60):
        board = board_from_seed(7, seed, (400, 320))
        canvas = draw_board(board)
        _, defect = plant_defect(
            board, "foreign_object", np.random.default_rng(seed), canvas, np.zeros(canvas.shape[:2], np.uint8)
        )
        sizes.append(max(defect.box_xywh[2:]))
    assert 4 <= min(sizes) <= 6 and max(sizes) > 25


@pytest.mark.parametrize("size", [(256, 256), (257, 301), (8192, 256), (256, 8192)])
def test_awkward_sizes_render(size):
    board = render_board(2, 1, size)
    assert board.frame_rgb.shape == (size[1], size[0], 3) and board.frame_rgb.dtype == np.uint8


@pytest.mark.parametrize("size", [(255, 400), (400, 8193), (0, 0)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(InputError, match=r"256\.\.8192"):
        render_board(2, 1, size)


def test_a_data_set_has_the_mvtec_layout_and_a_record_of_what_was_planted(tmp_path):
    out = tmp_path / "set"
    written = write_dataset(7, 1, (320, 256), out, (3, 2, 4), classes=("scratch", "foreign_object"), workers=2)
    assert written == 9
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*.png"))
    assert names == sorted(
        [f"train/good/{i:03d}.png" for i in range(3)]
        + [f"test/good/{i:03d}.png" for i in range(2)]
        + [f"{top}/{kind}/{i:03d}{tail}.png" for kind in ("scratch", "foreign_object") for i in range(2)
           for top, tail in (("test", ""), ("ground_truth", "_mask"))]
    )  # fmt: skip
    record = json.loads((out / "synth.json").read_text())
    assert [b["class"] for b in record["boards"]] == ["good"] * 5 + ["scratch", "foreign_object"] * 2
    mask = read_mask(out / "ground_truth" / "scratch" / "000_mask.png")
    assert mask.any() and mask.shape == read_rgb(out / "test" / "scratch" / "000.png").shape[:2]


def test_a_folder_with_files_in_it_is_not_touched(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="new or empty"):
        write_dataset(7, 1, (320, 256), tmp_path, (1, 1, 1))
    with pytest.raises(InputError, match="chipped"):
        write_dataset(7, 1, (320, 256), tmp_path / "new", (1, 1, 1), classes=("chipped",))


def test_every_product_has_parts_inside_the_board():
    for product in range(6):
        layout = layout_from_product(product, (1400, 1000))
        x0, y0, x1, y1 = layout.outline_xyxy
        assert len({p.kind for p in layout.parts}) >= 8
        assert all(x0 < p.x < x1 and y0 < p.y < y1 for p in layout.parts)


@pytest.mark.parametrize(
    ("product", "size_wh", "digest"),
    [
        (7, (4096, 3000), "7c009f51ae801fb9"),  # the boards that engines/demo knows
        (3, (512, 384), "61be68be877915e7"),
        (11, (2048, 1536), "0abf4b998706f1f7"),
    ],
)
def test_a_product_is_the_same_on_every_processor(product, size_wh, digest):
    """A bundle that was trained on rendered boards elsewhere must meet the same boards here."""
    layout = layout_from_product(product, size_wh)
    facts = repr((layout.parts, layout.traces, layout.vias))
    assert hashlib.sha256(facts.encode()).hexdigest()[:16] == digest
