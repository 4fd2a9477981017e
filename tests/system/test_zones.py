"""Zones of a bundle: what is ignored, what is sharper, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.commands import here

from hisir_edge.errors import InputError
from hisir_edge.learn.data.run import load_record


def test_zones_ignore_and_sharpen(small_run, small_boards, tmp_path):
    from hisir_edge.backends import engine_from_bundle
    from hisir_edge.bundle.load import load_bundle
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions
    from hisir_edge.engine.zones import zones_from_json
    from hisir_edge.images import read_mask, read_rgb
    from hisir_edge.inspection.cpu.inspector import CpuInspector
    from hisir_edge.inspection.rops import Rops

    image = min((small_boards / "test" / "missing").iterdir())
    truth = read_mask(small_boards / "ground_truth" / "missing" / f"{image.stem}_mask.png")
    import numpy as np

    ys, xs = np.nonzero(truth)
    x0, x1, y0, y1 = int(xs.min()) - 8, int(xs.max()) + 8, int(ys.min()) - 8, int(ys.max()) + 8
    zone = {"name": "socket", "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], "sensitivity": 0}
    peaks = {}
    for sensitivity in (0, 1, 2):
        file = tmp_path / "zones.json"
        file.write_text(json.dumps([{**zone, "sensitivity": sensitivity}]))
        out = tmp_path / f"b{sensitivity}"
        build_bundle(
            small_run, out, BuildOptions(least_planted_recall=0.5, precision="fp32", zones=zones_from_json(file))
        )
        bundle = load_bundle(out)
        assert bundle.zones[0].name == "socket"
        _, scores = CpuInspector(bundle, engine_from_bundle(bundle), Rops).inspect_with_map(read_rgb(image))
        peaks[sensitivity] = float(scores[truth].max())
    assert peaks[0] == 0
    assert peaks[1] > 1
    assert peaks[2] == pytest.approx(2 * peaks[1], rel=1e-4)


def test_an_ignored_zone_does_not_set_the_threshold(small_run, small_bundle, tmp_path):
    from hisir_edge.backends import engine_from_bundle
    from hisir_edge.bundle.load import load_bundle
    from hisir_edge.bundle.thresholds import Zone
    from hisir_edge.engine.acceptance.derive import derived_from_maps
    from hisir_edge.engine.acceptance.maps import maps_from_inspector
    from hisir_edge.inspection.cpu.inspector import CpuInspector
    from hisir_edge.inspection.rops import Rops

    bundle = load_bundle(small_bundle)
    inspector = CpuInspector(bundle, engine_from_bundle(bundle), Rops)
    maps = maps_from_inspector(inspector, load_record(small_run), tmp_path / "maps")
    square = ((-1.0, -1.0), (600.0, -1.0), (600.0, 600.0), (-1.0, 600.0))
    made = {
        s: derived_from_maps(replace(bundle, zones=(Zone("all", square, s),)), maps, 0.2)[0] for s in (0, 0.5, 1, 50)
    }
    level = {s: d.thresholds.pixel * d.thresholds.region_peak for s, d in made.items()}
    assert level[0] < level[0.5] < level[1] == level[50]
    assert made[50].upper_bound > made[1].upper_bound


def test_a_board_that_is_ignored_whole_is_no_bundle(small_run, tmp_path):
    from hisir_edge.bundle.manifest import ZoneModel
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions

    square = ((-1.0, -1.0), (600.0, -1.0), (600.0, 600.0), (-1.0, 600.0))
    left, right = ((0.0, 0.0), (200.0, 0.0), (200.0, 380.0)), ((300.0, 0.0), (500.0, 0.0), (500.0, 380.0))
    outlines = tuple(
        ZoneModel(name=name, polygon=polygon, sensitivity=0, outside=True)
        for name, polygon in (("left", left), ("right", right))
    )
    for zones in ((ZoneModel(name="all", polygon=square, sensitivity=0),), outlines):
        with pytest.raises(InputError, match="zones that ignore all of it"):
            build_bundle(
                small_run, tmp_path / "b", BuildOptions(least_planted_recall=0.5, precision="fp32", zones=zones)
            )
        assert not (tmp_path / "b").exists()


def test_a_zone_outside_the_picture_is_refused(small_run, tmp_path):
    from hisir_edge.bundle.manifest import ZoneModel
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions

    zone = ZoneModel(name="far", polygon=((900.0, 900.0), (990.0, 900.0), (990.0, 990.0)), sensitivity=0)
    with pytest.raises(InputError, match="far, which covers none"):
        build_bundle(small_run, tmp_path / "b", BuildOptions(least_planted_recall=0.5, precision="fp32", zones=(zone,)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "zones.json"),
        ('[{"name": "a", "polygon": [[0, 0], [1, 1]], "sensitivity": 1}]', "polygon"),
        ('[{"name": "a", "polygon": [[0, 0], [1, 1], [2, 0]], "sensitivity": -1}]', "sensitivity"),
        ("not json", "zones.json"),
    ],
)
def test_bad_zones_are_one_line(small_run, tmp_path, text, words):
    file = tmp_path / "zones.json"
    file.write_text(text)
    done = here("build-engine", small_run, "--zones", file, "--out", tmp_path / "b")
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
