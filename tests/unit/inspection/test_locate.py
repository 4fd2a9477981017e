"""Which part, where in millimetres, how sure: against places known beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import here

from hisir_edge.bundle.manifest import ComponentModel, Manifest
from hisir_edge.engine.components import components_from_csv
from hisir_edge.errors import InputError
from hisir_edge.inspection.locate import confidence_of, located
from hisir_edge.inspection.registration.pose import pose_from_affine
from hisir_edge.records import Region

MANIFEST = Manifest.model_validate_json((Path(__file__).parents[3] / "engines/demo/manifest.json").read_bytes())


def manifest(scale=1.0, **more) -> Manifest:
    return MANIFEST.model_copy(update={"recipe": MANIFEST.recipe.model_copy(update={"scale": scale}), **more})


def part(name, x, y, w, h) -> ComponentModel:
    return ComponentModel(designator=name, x=x, y=y, width=w, height=h)


def region(x, y, w, h, peak=5.0) -> Region:
    return Region(box_xywh=(x, y, w, h), area_px=w * h, peak=peak, contour_xy=((x, y),))


def test_a_region_is_of_the_part_that_it_covers_most():
    parts = (part("U1", 0, 0, 100, 100), part("R1", 40, 40, 20, 10), part("C9", 200, 0, 10, 10))
    boxes = [(41, 41, 5, 5), (5, 5, 10, 10), (205, 5, 30, 30), (150, 150, 4, 4), (90, 0, 112, 5)]
    found = located(tuple(region(*box) for box in boxes), manifest(components=parts), None)
    # within R1 it shares as much with U1 around it: the smaller one is meant
    assert [r.component for r in found] == ["R1", "U1", "C9", "", "U1"]
    assert {r.box_mm for r in found} == {None}


@given(
    st.floats(-1.2, 1.2), st.floats(-12, 12), st.floats(-12, 12), st.sampled_from([1.0, 0.5, 0.25]),
    st.integers(100, 3000), st.integers(100, 2000),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_places_are_the_boards_however_it_lies(turn_deg, dx, dy, scale, x, y):
    """A spot of the golden image, seen through a fixture's turn and shift, is told at its place on the golden image."""
    turned = np.vstack([cv2.getRotationMatrix2D((2000, 1500), turn_deg, 1.0), [0, 0, 1]])
    turned[:2, 2] += dx, dy  # golden to frame, full size
    shrink = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5], [0, 0, 1]])
    pose = pose_from_affine((shrink @ np.linalg.inv(turned))[:2])
    middle = turned @ [x, y, 1]
    box = (round(middle[0]) - 10, round(middle[1]) - 10, 21, 21)
    (found,) = located((region(*box),), manifest(scale, mm_per_px=0.05), pose)
    left, top, w, h = found.box_mm  # type: ignore[misc]
    assert left + w / 2 == pytest.approx((x + 0.5) * 0.05, abs=0.05)
    assert top + h / 2 == pytest.approx((y + 0.5) * 0.05, abs=0.05)
    assert w == pytest.approx(21 * 0.05, abs=0.05)


def test_confidence_is_the_share_of_good_boards_without_such_a_peak():
    t = MANIFEST.thresholds
    one = manifest(thresholds=t.model_copy(update={"false_calls_per_board": 0.1, "tail_scale_logits": 0.5}))
    at = [confidence_of(t.region_peak * factor, one) for factor in (0.5, 1.0, 1.2, 1.5, 3.0, 1e6)]
    assert at[0] == at[1] == round(100 * np.exp(-0.1), 1)
    assert at == sorted(at)
    assert at[-1] == 100.0
    loose = manifest(thresholds=t.model_copy(update={"false_calls_per_board": 1.0}))
    assert confidence_of(t.region_peak, loose) == round(100 * np.exp(-1), 1)


def test_component_lists(tmp_path):
    path = tmp_path / "parts.csv"
    path.write_text("\ufeffdesignator,x_mm,y_mm,width_mm,height_mm,part_number\nR1,10,20,2,1,111\n C2 ,1,1,1,1,\n")
    first, second = components_from_csv(path, 0.1)
    assert (first.designator, first.x, first.y, first.width, first.height) == ("R1", 90.0, 195.0, 20.0, 10.0)
    assert (first.part_number, second.designator, second.part_number) == ("111", "C2", "")
    for text, said in (
        ("a,b\n1,2\n", "with the columns ['a', 'b']"),
        ("", "with the columns []"),
        ("designator,x_px,y_px,width_px,height_px\nR1,1,2,3\n", ":2: "),
        ("designator,x_px,y_px,width_px,height_px\nR1,1,2,0,4\n", ":2: Input should be greater than 0"),
        ("designator,x_px,y_px,width_px,height_px\nR1,1,2,3,4\nR1,1,2,3,4\n", "R1 in"),
        ("designator,x_px,y_px,width_px,height_px\nR1,nan,2,3,4\n", ":2: "),
    ):
        path.write_text(text)
        with pytest.raises(InputError) as error:
            components_from_csv(path, None)
        assert said in str(error.value)
    path.write_text("designator,x_mm,y_mm,width_mm,height_mm\nR1,1,2,3,4\n")
    with pytest.raises(InputError, match="--mm-per-px"):
        components_from_csv(path, None)


def test_a_built_bundle_names_part_and_place(small_run, small_boards, small_bundle, tmp_path):
    """Through build and inspection: a part that is missing is called by its designator, in millimetres."""
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions

    golden = cv2.imread(str(small_bundle / "golden.jpg"))
    h, w = golden.shape[:2]
    path = tmp_path / "tiles.csv"  # the board in 8 x 6 fields
    rows = [f"F{x}{y},{(x + 0.5) * w / 8},{(y + 0.5) * h / 6},{w / 8},{h / 6}" for x in range(8) for y in range(6)]
    path.write_text("\n".join(["designator,x_px,y_px,width_px,height_px", *rows]))
    options = BuildOptions(
        product="p3", precision="fp32", false_calls_per_board=0.2, least_planted_recall=0.5, mm_per_px=0.1,
        components=components_from_csv(path, None),
    )  # fmt: skip
    build_bundle(small_run, tmp_path / "b", options)
    done = here("inspect", small_boards / "test" / "missing", "--bundle", tmp_path / "b", "--out", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    seen = 0
    for file in (tmp_path / "out").glob("*.json"):
        for inspection in json.loads(file.read_text())["InspectedUnits"][0]["Inspections"]:
            for defect in inspection["DefectsFound"]:
                seen += 1
                px, mm = defect["RegionOfInterest"]["px"], defect["RegionOfInterest"]["mm"]
                assert mm["StartPointX"] == pytest.approx(px["x"] * 0.1, abs=1.6)  # a shift of up to 12 px, and turned
                field = (int((px["x"] + px["w"] / 2) * 8 / w), int((px["y"] + px["h"] / 2) * 6 / h))
                name = defect["ComponentOfInterest"]["ReferenceDesignator"]
                assert max(abs(int(name[1]) - field[0]), abs(int(name[2]) - field[1])) <= 1
                assert 81 < defect["ConfidenceLevel"] <= 100
    assert seen
    wrong = BuildOptions(
        least_planted_recall=0.5, product="p3", precision="fp32", components=(part("X", 5000, 0, 5, 5),)
    )
    with pytest.raises(InputError, match="components within a frame"):
        build_bundle(small_run, tmp_path / "c", wrong)
