"""Which pictures show the same board: rendered boards, each photographed once or several times."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hisir_edge.images import jpeg_bytes
from hisir_edge.learn.data.distinct import boards_among, boards_of_looks, difference, look_of, same_boards
from hisir_edge.sim.camera import frame_from_board, shot_from_seed
from hisir_edge.sim.render import board_from_seed, draw_board

SIZE = (640, 480)


@pytest.fixture(scope="module", params=[3, 7])
def photos(request) -> list[tuple[int, np.ndarray]]:
    """(board, photo): seven boards, 1 to 3 photos of each, in another light and place each time."""
    out = []
    for board in range(7):
        drawn = draw_board(board_from_seed(request.param, board, SIZE))
        out += [(board, frame_from_board(drawn, shot_from_seed(100 * board + i))) for i in range(1 + board % 3)]
    return out


def test_photos_of_one_board_are_one_board_and_others_are_not(photos):
    found = boards_of_looks([look_of(photo) for _, photo in photos])
    wanted = [board for board, _ in photos]
    pairs = [(a, b) for a in range(len(photos)) for b in range(a)]
    assert [found[a] == found[b] for a, b in pairs] == [wanted[a] == wanted[b] for a, b in pairs]


@pytest.mark.parametrize("change", ["none", "jpeg", "noise", "brighter", "moved"])
def test_a_copy_is_no_other_board(photos, change):
    photo = photos[0][1]
    rng = np.random.default_rng(1)
    copies = {
        "none": photo,
        "jpeg": cv2.imdecode(np.frombuffer(jpeg_bytes(photo, 70), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy(),
        "noise": np.clip(photo + rng.normal(0, 3, photo.shape), 0, 255).astype(np.uint8),
        "brighter": np.clip(photo * 1.08, 0, 255).astype(np.uint8),
        "moved": cv2.warpAffine(photo, np.float64([[1, 0.004, 9.3], [-0.004, 1, -7.6]]), SIZE, borderMode=1),  # type: ignore[arg-type, call-overload]
    }
    others = [photo for board, photo in photos if board > 4]
    found = boards_of_looks([look_of(p) for p in (photo, *others, copies[change])])
    assert found[-1] == found[0] and set(found[1:-1]).isdisjoint({found[0]})


def test_a_plain_picture_does_not_break_it():
    flat = np.full((200, 300, 3), 128, np.uint8)
    other = flat.copy()
    other[20:60, 30:90] = 20
    assert len(boards_of_looks([look_of(flat), look_of(flat.copy()), look_of(other)])) == 3
    assert (
        difference(np.zeros((6, 400), np.float32), np.zeros((6, 400), np.float32), np.eye(2, 3, dtype=np.float32)) > 1
    )


def test_boards_are_counted_by_their_groups(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    groups = same_boards(paths, [0, 1, 0, 3, 1])
    assert groups == ((str(paths[0]), str(paths[2])), (str(paths[1]), str(paths[4])))
    assert boards_among(tuple(map(str, paths)), groups) == [0, 1, 0, 2, 1]
