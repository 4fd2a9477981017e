"""What a person may change of a bundle, and what that says of false calls and planted defects."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisir_edge.bundle.load import manifest_from_folder
from hisir_edge.bundle.manifest import Manifest, ZoneModel
from hisir_edge.bundle.revised import RevisionModel
from hisir_edge.errors import BundleError, InputError
from hisir_edge.revisions.active import activated, active_of
from hisir_edge.revisions.change import Change, expected_calls, planted_found, with_change, zones_from_raw
from hisir_edge.revisions.store import RevisionStore

DEMO = Path(__file__).parents[3] / "engines" / "demo"
ZONE = ZoneModel(name="label", polygon=((0, 0), (9, 0), (9, 9)), sensitivity=0)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    found = manifest_from_folder(DEMO)
    assert found.metrics is not None
    planted = {"missing": (0.5, 1.2, 3.0), "moved": (0.9, 1.05)}
    figures = {"planted_strengths": planted, "least_planted_recall": 0.6, "recall": 0.6}
    return found.model_copy(update={"metrics": found.metrics.model_copy(update=figures)})


def of_strength(manifest: Manifest, strength: float) -> Manifest:
    record = RevisionModel(number=1, camera="c", of_sha256="0" * 64, at="", who="a", why="b", strength=strength)
    limits = manifest.thresholds
    other = limits.model_copy(update={"region_peak": limits.region_peak * strength})
    return manifest.model_copy(update={"revision": record, "thresholds": other})


def test_zones_and_strength_are_changed_and_nothing_else(manifest):
    found = with_change(manifest, Change(zones=(ZONE,), strength=0.8))
    assert found.zones == (ZONE,)
    assert found.thresholds.region_peak == pytest.approx(0.8 * manifest.thresholds.region_peak)
    assert found.cascade is None, "the first look was proven for other ones"
    same = {"zones": manifest.zones, "thresholds": manifest.thresholds, "cascade": manifest.cascade}
    assert found.model_copy(update=same) == manifest
    assert with_change(manifest, Change(zones=(ZONE,))).thresholds == manifest.thresholds


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change(), "change one of them"),
        (Change(strength=0.01), "strength of"),
        (Change(strength=21), "strength of"),
        (Change(strength=1.1), "40% with 1.1 times"),
    ],
)
def test_what_may_not_be_changed_is_refused(manifest, change, words):
    with pytest.raises(InputError, match=words):
        with_change(manifest, change)


def test_insensitive_zones_over_half_of_the_board_are_a_higher_strength(manifest):
    h, w = manifest.recipe.frame_height, manifest.recipe.frame_width
    most = ((-9, -9), (w, -9), (w, h * 0.7), (-9, h * 0.7))
    little = ((-9, -9), (w, -9), (w, h * 0.3), (-9, h * 0.3))
    faint = ZoneModel(name="z", polygon=most, sensitivity=0.5)
    with pytest.raises(InputError, match="20% with 2 times the strength over half of the board"):
        with_change(manifest, Change(zones=(faint,)))
    with_change(manifest, Change(zones=(faint.model_copy(update={"polygon": little}),)))
    ignored = faint.model_copy(update={"sensitivity": 0.0})
    with_change(manifest, Change(zones=(ignored,)))
    sharp = faint.model_copy(update={"sensitivity": 2.0})
    with_change(manifest, Change(zones=(sharp,), strength=1.9))


def test_a_bundle_that_does_not_say_how_strong_its_planted_defects_are_gets_no_higher_strength(manifest):
    assert manifest.metrics is not None
    older = manifest.model_copy(update={"metrics": manifest.metrics.model_copy(update={"planted_strengths": {}})})
    with pytest.raises(InputError, match="build it again"):
        with_change(older, Change(strength=1.1))
    assert with_change(older, Change(strength=0.9)).metrics == older.metrics


def test_planted_defects_count_against_the_strength_of_the_build(manifest):
    assert [planted_found(manifest, s) for s in (0.4, 1.0, 1.1, 3.0, 3.1)] == [1.0, 0.6, 0.4, 0.2, 0.0]
    assert planted_found(of_strength(manifest, 1.1), 1.0) == planted_found(manifest, 1.1)
    assert planted_found(manifest.model_copy(update={"metrics": None}), 1.0) is None


@given(st.floats(0.3, 3), st.floats(0.3, 3))
def test_expected_calls_are_the_builds_at_its_strength_and_fall(a, b):
    manifest = manifest_from_folder(DEMO)
    rate = manifest.thresholds.false_calls_per_board
    assert expected_calls(manifest, 1.0) == pytest.approx(rate)
    assert expected_calls(of_strength(manifest, a), 1 / a) == pytest.approx(rate)
    assert expected_calls(of_strength(manifest, a), b) == pytest.approx(expected_calls(manifest, a * b))
    low, high = sorted((a, b))
    assert expected_calls(manifest, high) <= expected_calls(manifest, low)


def test_zones_of_a_request_are_read_or_refused():
    raw = [{"name": "a", "polygon": [[0, 0], [9, 0], [9, 9]], "sensitivity": 0.5, "outside": True}]
    assert zones_from_raw(raw)[0].outside and zones_from_raw([]) == ()
    for wrong in (None, {}, "zones", [1], [{}], raw * 2, [{**raw[0], "sensitivity": -1}], [{**raw[0], "more": 1}],
                  [{**raw[0], "polygon": [[0, 0]]}], [{**raw[0], "polygon": [[0, float("nan")]] * 3}],
                  [{**raw[0], "name": str(n)} for n in range(201)]):  # fmt: skip
        with pytest.raises(InputError):
            zones_from_raw(wrong)


def test_what_is_active_is_bound_to_the_configured_bundle(tmp_path):
    store = RevisionStore(tmp_path / "r", 5)
    assert store.chosen("p", "c", "s1") == (None, "")
    store.use(activated(store.actives, "p", "c", 3, "s1", 0))
    assert store.chosen("p", "c", "s1") == (tmp_path / "r" / "000003", "")
    assert store.chosen("p", "other", "s1") == (None, "")
    folder, why = store.chosen("p", "c", "s2")
    assert folder is None and "revision 3" in why
    with pytest.raises(InputError, match="another daemon"):
        RevisionStore(tmp_path / "r", 5)
    store.close()
    again = RevisionStore(tmp_path / "r", 5)
    active = active_of(again.actives, "p", "c")
    assert active is not None and (active.number, active.before) == (3, 0)
    again.use(activated(again.actives, "p", "c", 0, "s1", 3))
    assert again.actives == ()
    numbers = [again.number() for _ in range(3)]
    again.use(())
    again.close()
    third = RevisionStore(tmp_path / "r", 5)
    assert third.number() > max(numbers), "a number is given once"
    third.log("made", number=1)
    with (tmp_path / "r" / "log.jsonl").open("ab") as file:
        file.write(b'{"what": "cut sho')
    third.log("activated", number=1)
    assert [one["what"] for one in third.events(9)] == ["activated", "made"]
    third.close()
    for text in ("{", "[]", "null", "5", '"x"', "[" * 5000,
                 ('{"schema": "hisir-edge/revisions/1.0", "last": 1, "active": [{"product": ["x"], "camera": "c", '
                 '"number": 1, "configured_sha256": "s", "before": 0}]}'),
                 '{"schema": "x"}', '{"schema": "hisir-edge/revisions/1.0", "last": -1, "active": []}',
                 '{"schema": "hisir-edge/revisions/1.0", "last": 1, "active": [{}]}'):  # fmt: skip
        (tmp_path / "r" / "active.json").write_text(text)
        with pytest.raises(BundleError, match=r"active\.json"):
            RevisionStore(tmp_path / "r", 5)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"revisions\.folder"):
        RevisionStore(tmp_path / "file" / "r", 5)
