"""Pick-and-place files of several programs onto rendered boards: places, sizes, sides, units, and what is refused."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import here
from support.placement_files import (
    PX_PER_MM,
    CadPart,
    altium_csv,
    altium_txt,
    cad_parts,
    eagle_mnt,
    german_table,
    kicad_csv,
    kicad_pos,
)

from hisir_edge.bundle.load import load_bundle
from hisir_edge.engine.components import components_from_csv
from hisir_edge.engine.parts.fit import disc_near, fit_of_points, fitted
from hisir_edge.engine.parts.importing import Wanted, imported
from hisir_edge.engine.parts.packages import size_of_package, sizes_from_csv
from hisir_edge.engine.parts.placements import placements_from_file
from hisir_edge.errors import InputError
from hisir_edge.images import png_bytes
from hisir_edge.sim.layout import layout_from_product
from hisir_edge.sim.render import board_from_seed, draw_board

PARTS = [
    CadPart("R1", 10.25, -20.5, 90, 1.6, 0.8),
    CadPart("C12", 12.7, 5.08, 0, 1.0, 0.5),
    CadPart("U3", -3.175, 0.001, 270, 5.0, 5.0),
    CadPart("D4", 40, 30, 45, 3.2, 1.6, "bottom"),
]
WRITERS = {
    "kicad.pos": kicad_pos, "kicad-inches.pos": lambda parts: kicad_pos(parts, inches=True),
    "kicad.csv": kicad_csv, "altium-mil.csv": altium_csv, "altium-mm.csv": lambda parts: altium_csv(parts, mil=False),
    "altium.txt": altium_txt, "german.csv": german_table,
}  # fmt: skip
SIZE = (1200, 900)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_what_programs_write_is_read_the_same(tmp_path, name, encoding):
    path = tmp_path / name
    path.write_bytes(WRITERS[name](PARTS).replace("10k", "10kΩ" if "utf" in encoding else "10kµ").encode(encoding))
    found, unit = placements_from_file(path)
    assert "nothing" not in unit or name == "kicad.csv"
    assert [(one.designator, one.side, one.package) for one in found] == [(p.name, p.side, p.package) for p in PARTS]
    for one, part in zip(found, PARTS, strict=True):
        assert (one.x_mm, one.y_mm) == pytest.approx((part.x, part.y), abs=0.003), "inches have four digits"
        assert one.rotation_deg == part.angle


@pytest.mark.parametrize(("name", "side"), [("board.mnt", "top"), ("board.mnb", "bottom")])
def test_eagle_has_no_head_and_its_side_in_the_files_name(tmp_path, name, side):
    path = tmp_path / name
    path.write_text(eagle_mnt(PARTS) + "FID1 1.00 2.00 0 FIDUCIAL_1MM\nQ1 1 2 MR90 NPN A SOT23\n")
    found, unit = placements_from_file(path)
    assert "--unit" in unit, "that nobody said so is told"
    assert [one.designator for one in found] == ["R1", "C12", "U3", "D4", "FID1", "Q1"]
    assert found[2].x_mm == pytest.approx(-3.175, abs=0.01)
    assert (found[2].rotation_deg, found[2].side) == (270, side)
    assert (found[4].package, found[4].value) == ("FIDUCIAL_1MM", "")
    assert (found[5].package, found[5].value, found[5].side) == ("SOT23", "NPN A", "bottom")


@given(
    st.lists(
        st.tuples(st.floats(-400, 400), st.floats(-400, 400), st.integers(0, 359)), min_size=1, max_size=20
    ),
    st.sampled_from(sorted(WRITERS)),
)  # fmt: skip
@settings(deadline=None, max_examples=80)
def test_any_places_come_back(tmp_path_factory, places, name):
    parts = [CadPart(f"R{n}", x, y, angle, 1.6, 0.8) for n, (x, y, angle) in enumerate(places)]
    path = tmp_path_factory.mktemp("places") / name
    path.write_text(WRITERS[name](parts), encoding="utf-8")
    found, _ = placements_from_file(path)
    for one, part in zip(found, parts, strict=True):
        assert math.hypot(one.x_mm - part.x, one.y_mm - part.y) < 0.004 and one.rotation_deg == part.angle


HEAD = "Designator,X(mm),Y(mm),Rotation,Layer,Footprint\n"


@pytest.mark.parametrize(
    ("text", "unit", "match"),
    [
        ("", "", "a table of parts"), ("a,b,c\n1,2,3\n", "", "a table of parts"), (HEAD, "", "1 to"),
        (HEAD + "R1,1.0,x2,0,T,0603\n", "", "csv:2: y 'x2'"), (HEAD + "R1,1,2,0,sideways,0603\n", "", "sideways"),
        (HEAD + "R1,1,2,north,T,0603\n", "", "north"), (HEAD + "R1,1ft,2,0,T,0603\n", "", "1ft"),
        (HEAD + "R1,1,2,0,T,0603\nR1,3,4,0,T,0603\n", "", "R1 2 times"),
        (HEAD + ",1,2,0,T,0603\n", "", "no designator"),
        (HEAD + "R1,1e9,2,0,T,0603\n", "", "no place on a board"), (HEAD + "R1,1,2,0,T,0603\n", "furlong", "furlong"),
        (HEAD + "R1,,,0,T,0603\n", "", "x ''"), (HEAD + "R1,1,2,1e400,T,0603\n", "", "rotation '1e400'"),
        (HEAD + "R1,1,2,0,1,0603\n", "", "side '1'"),
        (HEAD + 'R1,"1,234",2.5,0,T,0603\n', "", "other numbers have a point"),
        (HEAD + f"R1,1,2,0,T,{'x' * 200000}\n", "", "1 to|cells|a table"),
        ("remark\n" * 300 + HEAD, "", "a table of parts"),
        (HEAD + "R1,1\n", "", "2 cells"), (HEAD + "R1,nan,2,0,T,0603\n", "", "nan"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_parts_says_what_is_wrong(tmp_path, text, unit, match):
    path = tmp_path / "parts.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        placements_from_file(path, unit)


def test_a_unit_behind_a_number_counts_before_its_columns_and_that_before_the_files(tmp_path):
    path = tmp_path / "mixed.csv"
    path.write_text("Units: inch\nref,x[mil],y,rot\nR1,100,1,0\nR2,2.54mm,25.4 mm,0\nR3,0.1in,1,0\n")
    found, unit = placements_from_file(path)
    assert unit == "mil"
    assert [(round(one.x_mm, 6), round(one.y_mm, 6)) for one in found] == [(2.54, 25.4)] * 3


@pytest.mark.parametrize(
    ("name", "side"), [("robot.csv", "top"), ("feedback.csv", "top"), ("bottom.csv", "bottom"), ("x-bot.pos", "bottom"),
                       ("board_back_side.csv", "bottom"), ("backup.csv", "top")],
)  # fmt: skip
def test_a_files_name_says_the_side_where_no_column_does(tmp_path, name, side):
    (tmp_path / name).write_text("#\nRef,X,Y\nR1,1,2\n")
    assert placements_from_file(tmp_path / name)[0][0].side == side


def test_sides_in_other_words(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("Ref,X,Y,Layer\nR1,1,2,F.Cu\nR2,1,2,底层\nR3,1,2,Bottom Layer\nR4,1,2,顶层\nR5,1,2,\n")
    assert [one.side for one in placements_from_file(path)[0]] == ["top", "bottom", "bottom", "top", "top"]


SIZES = {
    "R_0603_1608Metric": (1.6, 0.8), "C0402": (1.0, 0.5), "Capacitors_SMD:C_0805_2012Metric_Pad1.15x1.4mm": (2.0, 1.2),
    "CAPC2013X70X45NL10T25": (2.0, 1.3), "RESC1005X40N": (1.0, 0.5), "QFN-32-1EP_5x5mm_P0.5mm_EP3.1x3.1mm": (5, 5),
    "TQFP-44_10x10mm_P0.8mm": (12, 12), "SOIC-8_3.9x4.9mm_P1.27mm": (6.0, 4.9), "SOT-23": (3.0, 2.5),
    "SOT-23-5": (3.0, 2.5), "SOT-223-3_TabPin2": (6.7, 7.0), "CP_Radial_D10.0mm_P5.00mm": (10, 10),
    "TSSOP-16": (6.4, 5.6), "SO-8": (6.0, 5.48), "D_SMA": None, "SMA": (5.2, 2.7), "PKG_2.00x1.50mm": (2.0, 1.5),
    "SOIC127P600X175-8N": (6.0, 5.48), "SOP65P640X120-16N": (6.4, 5.6), "TSSOP65P640X120-14": (6.4, 4.95),
    "SOP50P490X110-10N": (4.9, 2.9), "SOIC150-8": (6.0, 5.48), "SMA_Connector": None, "small_box": None,
    "R0603M": (1.6, 0.8), "SOT-23-6": (3.0, 2.5), "DIP-8_W7.62mm": (7.62, 10.56), "SOT323": (2.2, 2.1),
    "BGA-100_10,5x10,5mm": (10.5, 10.5), "unheard-of": None, "": None, "2512": (6.3, 3.2), "JST_12345": None,
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_packages(name):
    found = size_of_package(name, {})
    assert found == (None if SIZES[name] is None else pytest.approx(SIZES[name], abs=0.06))


def test_a_table_of_packages_counts_first(tmp_path):
    path = tmp_path / "sizes.csv"
    path.write_text("package,width_mm,height_mm\nUnheard-of,3,4\nC0402,1.1,0.6\n")
    table = sizes_from_csv(path)
    assert size_of_package("unheard-OF", table) == (3, 4) and size_of_package("C0402", table) == (1.1, 0.6)
    assert size_of_package("LIB:C0402", table) == (1.1, 0.6)
    for text, match in (("a,b\n1,2\n", "package"), ("package,width_mm,height_mm\nx,0,1\n", "above 0"),
                        ("package,width_mm,height_mm\nx,wide,1\n", "wide")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(InputError, match=match):
            sizes_from_csv(path)
    with pytest.raises(InputError, match="a table of packages"):
        sizes_from_csv(tmp_path / "none.csv")


@given(st.floats(2, 80), st.floats(-180, 180), st.floats(-500, 500), st.floats(-500, 500), st.booleans())
@settings(deadline=None)
def test_a_similarity_is_found_again(scale, degrees, dx, dy, mirrored):
    mm = np.array([[0.0, 0.0], [50, 3], [48, 40], [2, 37]])
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    seen = mm * [-1 if mirrored else 1, -1]
    px = seen @ (scale * np.array([[c, -s], [s, c]])).T + [dx, dy]
    fit = fit_of_points(mm, px, not mirrored, is_given=False)
    assert fit.mirrored == mirrored, "three points and more tell"
    assert fit.px_per_mm == pytest.approx(scale) and fit.residual_px.max() < 1e-6 * max(scale, 1) * 1000
    assert fit.to_px(mm) == pytest.approx(px, abs=1e-6 * 1000)
    assert fitted(mm[:2], px[:2], mirrored).to_px(mm) == pytest.approx(px, abs=1e-5 * 1000)
    with pytest.raises(InputError, match="the other way"):
        fit_of_points(mm, px, not mirrored, is_given=True)


def test_points_in_one_place_are_refused():
    same = np.ones((3, 2))
    with pytest.raises(InputError, match="different places"):
        fitted(same, same, False)


@pytest.mark.parametrize("bright", [True, False])
def test_a_fiducials_centre_is_found_beside_the_click(bright):
    picture = np.full((400, 400, 3), 60 if bright else 200, np.uint8)
    big = np.kron(picture[..., 0], np.ones((8, 8), np.uint8))
    cv2.circle(big, (round(203.4 * 8), round(188.7 * 8)), 12 * 8, 220 if bright else 30, -1)
    small = cv2.resize(big, (400, 400), interpolation=cv2.INTER_AREA)
    picture[..., 0] = picture[..., 1] = picture[..., 2] = small
    centre = disc_near(picture, (195, 196))
    assert centre == pytest.approx((203.4, 188.7), abs=0.7)
    assert disc_near(picture, (20, 20)) is None and disc_near(np.zeros((4, 4, 3), np.uint8), (1, 1)) is None
    square = np.full((200, 200, 3), 60, np.uint8)
    square[80:84, 60:140] = 255
    assert disc_near(square, (100, 82)) is None, "a bar is no disc"


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A board's picture with three fiducials, its layout's parts, and the pictures of it."""
    layout = layout_from_product(101, SIZE)
    picture = np.ascontiguousarray(_drawn(layout))
    fiducials = [("FID1", 60, 70), ("FID2", SIZE[0] - 70, 65), ("FID3", 66, SIZE[1] - 72)]
    for _, x, y in fiducials:
        cv2.circle(picture, (x, y), 16, (20, 40, 25), -1, cv2.LINE_AA)
        cv2.circle(picture, (x, y), 9, (230, 215, 170), -1, cv2.LINE_AA)
    origin = (31.0, SIZE[1] - 17.0)
    parts = cad_parts(layout, origin)
    parts += [
        CadPart(name, (x - origin[0]) / PX_PER_MM, (origin[1] - y) / PX_PER_MM, 0, 1, 1, fiducial=True)
        for name, x, y in fiducials
    ]
    path = tmp_path_factory.mktemp("board") / "board.png"
    path.write_bytes(png_bytes(picture))
    truth = {part.designator: (part.x, part.y, part.body_w, part.body_h, part.angle_deg) for part in layout.parts}
    return path, picture, parts, truth


def _drawn(layout) -> np.ndarray:
    return draw_board(board_from_seed(layout.product, 5, SIZE))


def _most_off(found, truth) -> float:
    assert {one.designator for one in found.placed.components} == set(truth)
    return max(
        math.hypot(one.x + one.width / 2 - truth[one.designator][0], one.y + one.height / 2 - truth[one.designator][1])
        for one in found.placed.components
        if min(one.x, one.y) > 0
    )


def test_parts_lie_where_they_are_by_clicked_fiducials(board, tmp_path):
    path, _, parts, truth = board
    file = tmp_path / "board.pos"
    file.write_text(kicad_pos(parts))
    found = imported(file, path, Wanted(at=("FID1=66,64", "fid2=1127,70", "FID3=70,820")))
    assert _most_off(found, truth) < 1.0, "a click that is 6 px off is put right by the disc"
    assert "few" not in found.lines[2]
    wrong = imported(file, path, Wanted(at=("FID1=1100,800", "FID2=1190,805")))
    assert "few: look at the overlay" in wrong.lines[2]
    assert "FID1 found" in found.lines[1] and found.fit.px_per_mm == pytest.approx(PX_PER_MM, rel=0.002)
    for one in found.placed.components:
        _, _, w, h, angle = truth[one.designator]
        w, h = (h, w) if angle % 180 else (w, h)
        if min(one.x, one.y) > 0:
            assert (one.width, one.height) == pytest.approx((w + 6, h + 6), abs=0.5), "with 0.15 mm around it"
    two = imported(file, path, Wanted(at=("FID1=60,70", "FID2=1130,65")))
    assert _most_off(two, truth) < 1.5 and "a third one checks them" in two.lines[1]
    names = [one.designator for one in found.placed.components]
    assert not [name for name in names if name.startswith("FID")], "a fiducial is no part"


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
@pytest.mark.parametrize("bottom", [False, True])
def test_parts_are_found_on_a_picture_that_nobody_clicked_at(board, tmp_path, quarter, bottom):
    _, picture, parts, truth = board
    seen = cv2.flip(picture, 1) if bottom else picture
    seen = np.ascontiguousarray(np.rot90(seen, quarter))
    path, file = tmp_path / "seen.png", tmp_path / "board.csv"
    path.write_bytes(png_bytes(seen))
    side = "bottom" if bottom else "top"
    file.write_text(altium_csv([replace(part, side=side) for part in parts]))
    found = imported(file, path, Wanted(side=side))
    assert found.fit.mirrored == bottom
    w, h = SIZE
    errors = []
    for one in found.placed.components:
        x, y = truth[one.designator][:2]
        x = w - x if bottom else x
        for _ in range(quarter):
            x, y = y, (w if _ % 2 == 0 else h) - x
        errors.append(math.hypot(one.x + one.width / 2 - x, one.y + one.height / 2 - y))
    assert np.median(errors) < 3 and np.quantile(errors, 0.9) < 6


def test_what_does_not_fit_is_refused(board, tmp_path):
    path, _, parts, _ = board
    file = tmp_path / "board.csv"
    three = ("FID1=60,70", "FID2=1130,65", "FID3=66,828")

    def wrong(text: str, match: str, **wanted) -> None:
        file.write_text(text)
        with pytest.raises(InputError, match=match):
            imported(file, path, Wanted(**wanted))

    wrong(kicad_csv(parts), "parts on the bottom side", side="bottom")
    wrong(kicad_csv(parts), "FID9", at=("FID1=60,70", "FID9=1,1"))
    wrong(kicad_csv(parts), "NAME=X,Y", at=("FID1=60;70", "FID2=1,1"))
    wrong(kicad_csv(parts), "NAME=X,Y", at=("FID1=6.0.1,70", "FID2=1,1"))
    wrong(kicad_csv(parts), "two or more", at=("FID1=60,70",))
    wrong(kicad_csv(parts), "the other way", at=three, mirrored=True)
    wrong(kicad_csv(parts), "beside it", at=("FID1=700,70", "FID2=1770,65"))
    inches = [replace(part, x=part.x / 25.4, y=part.y / 25.4) for part in parts]
    wrong(kicad_csv(inches), "--unit", at=three)
    file.write_text(kicad_csv(inches))
    assert imported(file, path, Wanted(at=three, unit="inch")).fit.px_per_mm == pytest.approx(PX_PER_MM, rel=0.002)
    wrong(kicad_csv(parts), "fit each other", at=("FID1=60,70", "FID2=1130,65", "R1=700,700"))
    wrong(kicad_csv(parts), "FID1 twice", at=("FID1=60,70", "FID1=61,70", "FID2=1130,65"))
    plain = tmp_path / "plain.png"
    plain.write_bytes(png_bytes(np.full((200, 300, 3), 90, np.uint8)))
    with pytest.raises(InputError, match="a picture of a board"):
        imported(file, plain, Wanted(unit="inch"))
    elsewhere = cad_parts(layout_from_product(102, SIZE))
    wrong(kicad_csv(elsewhere), "name two or more fiducials")
    wrong(kicad_csv(parts[:5]), "8 parts or more")


def _unsized(layout) -> list[str]:
    parts = cad_parts(layout)
    return ["Ref,X,Y,Package", *(f"{part.name},{part.x},{part.y}" for part in parts)]


def test_the_command_writes_a_list_that_a_build_reads_and_a_bundle_that_names_parts(
    board, small_bundle, small_boards, tmp_path
):
    path, _, parts, _ = board
    file, out = tmp_path / "b.pos", tmp_path / "out" / "parts.csv"
    file.write_text(kicad_pos([*parts, CadPart("J99", 20, 20, 0, 900, 900)]).replace("PKG_900.00x900.00mm", "odd"))
    done = here("parts", "import", file, "--on", path, "--out", out, "--at", "FID1=60,70", "--at", "FID2=1130,65")
    assert done.returncode == 0, done.stderr
    assert "1 parts of 1 packages of unknown size" in done.stdout and "odd" in done.stdout
    read = components_from_csv(out, None)
    with out.open() as text:
        assert len(read) == len(list(csv.reader(text))) - 1 == len(parts) - 3 + 1
    assert cv2.imread(str(out.with_name("parts.overlay.jpg"))).shape[:2] == (SIZE[1], SIZE[0])
    bundle = load_bundle(small_bundle)
    layout = layout_from_product(3, (bundle.manifest.recipe.frame_width, bundle.manifest.recipe.frame_height))
    file.write_text(kicad_csv(cad_parts(layout)))
    first, last = layout.parts[0], layout.parts[-1]
    clicked = [f"{part.designator}={part.x:.0f},{part.y:.0f}" for part in (first, last)]
    done = here(
        "parts", "import", file, "--on", small_bundle, "--out", out, "--at", clicked[0], "--at", clicked[1],
        "--into", tmp_path / "named",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    named = load_bundle(tmp_path / "named")
    assert len(named.manifest.components) == len(layout.parts)
    assert named.manifest.mm_per_px == pytest.approx(1 / PX_PER_MM, rel=0.05)
    on = tmp_path / "b.overlay.jpg"
    on.write_bytes(path.read_bytes())
    named_ = ("--at", clicked[0], "--at", clicked[1])
    for bad, picture, said in (
        (tmp_path / "list", small_bundle, "NAME.csv"), (tmp_path / "b.csv", on, "elsewhere"),
        (tmp_path / "named" / "x.csv", small_bundle, "outside of bundles"),
        (small_bundle / "golden.csv", small_bundle, "outside of bundles"),
    ):  # fmt: skip
        kept = here("parts", "import", file, "--on", picture, "--out", bad, *named_)
        assert kept.returncode == 2 and said in kept.stderr, "nothing that is read, or of a bundle, is written over"
    for target in (small_bundle, tmp_path / "out"):
        kept = here("parts", "import", file, "--on", small_bundle, "--out", out, *named_, "--into", target)
        assert kept.returncode == 2, kept.stdout
    odd = tmp_path / "odd.csv"
    odd.write_text("\n".join(f"{one}" if n == 0 else f"{one},odd" for n, one in enumerate(_unsized(layout))))
    unsure = here("parts", "import", odd, "--on", small_bundle, "--out", out, *named_, "--into", tmp_path / "unsure")
    assert unsure.returncode == 2 and "three points" in unsure.stderr and not (tmp_path / "unsure").exists()
    once = here("parts", "import", file, "--on", small_bundle, "--out", out, *named_, "--at", clicked[0].lower())
    assert once.returncode == 2 and "twice" in once.stderr
    swapped = [f"{first.designator}={last.x:.0f},{last.y:.0f}", f"{last.designator}={last.x + 90:.0f},{last.y:.0f}"]
    none = here(
        "parts", "import", file, "--on", small_bundle, "--out", out, "--at", swapped[0], "--at", swapped[1],
        "--into", tmp_path / "wrong",
    )  # fmt: skip
    assert none.returncode == 2 and not (tmp_path / "wrong").exists(), none.stdout
    refused = here("parts", "import", file, "--on", path, "--out", out, "--into", tmp_path / "x")
    assert refused.returncode == 2 and "--on BUNDLE" in refused.stderr
