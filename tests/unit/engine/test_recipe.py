"""Recipes: the published ones are read, faults are one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hisir_edge.engine.options import BuildOptions, builds_of_recipes
from hisir_edge.engine.recipe import matching_nodes, recipe_from_toml
from hisir_edge.errors import InputError
from hisir_edge.registry import BACKBONES

ENGINES = Path(__file__).parents[3] / "engines"


def test_each_backbone_has_its_recipe_for_both_targets_and_precisions():
    for name in BACKBONES:
        recipe = recipe_from_toml(ENGINES / f"{name}.toml")
        assert recipe.backbone == name
        made = {(item.target, item.precision) for item in recipe.builds}
        assert {(t, p) for t in ("onnxruntime", "tensorrt-rtx") for p in ("fp16", "int8")} <= made
        builds = builds_of_recipes({ENGINES / f"{name}.toml": recipe}, Path("engines"), BuildOptions())
        looking = {(one.options.target, one.options.precision) for one in builds if one.options.cascade}
        assert looking == {("onnxruntime", "int8")}, "quick ones for processors have a first look"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("backbone = ", "TOML"),
        ("surprise = 1", "surprise"),
        ('[int8]\nmethods = ["guess"]', "int8.methods"),
        ("[int8]\nmethods = []", "int8.methods"),
        ('[tensorrt]\ngpu_arch = ["ampere"]', "tensorrt.gpu_arch"),
        ("[tensorrt]\nprofile_tiles = [4, 2, 8]", "rising"),
        ("[tensorrt]\nprofile_tiles = [0, 2, 8]", "rising"),
        ("[tensorrt]\nworkspace_mib = nan", "workspace_mib"),
        ('builds = [{ target = "cpu", precision = "int8" }]', "builds.0.target"),
    ],
)
def test_a_fault_is_one_line_with_its_key(tmp_path, text, words):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        recipe_from_toml(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="readable recipe"):
        recipe_from_toml(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="TOML"):
        recipe_from_toml(tmp_path / "b.toml")


def test_patterns_match_names_and_an_idle_one_is_refused():
    names = ["/net/gate/Div", "/net/backbone/Conv", "/Softplus"]
    assert matching_nodes(("/net/*",), names, "k") == names[:2]
    assert matching_nodes((), names, "k") == []
    with pytest.raises(InputError, match=r"fp16.keep_float32.*got /nothing\*"):
        matching_nodes(("/net/*", "/nothing*"), names, "fp16.keep_float32")
