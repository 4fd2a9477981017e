"""The tree keeps to its rules: who imports by name, how many files a folder has, how long they are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hisir_edge
from hisir_edge.by_name import REGISTRIES, USED_BY, optional_module, part
from hisir_edge.registry import BACKBONES, CAMERAS, SINKS, TARGETS

PACKAGE = Path(hisir_edge.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_FILES = 16
MOST_LINES = 300


def name_of(path: Path) -> str:
    return ".".join(("hisir_edge", *path.relative_to(PACKAGE).with_suffix("").parts))


def imports_by_name(path: Path) -> bool:
    """Whether a file calls import_module or __import__."""
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return any(getattr(one, "attr", getattr(one, "id", "")) in ("import_module", "__import__") for one in calls)


def test_one_file_imports_by_name():
    assert [name_of(path) for path in FILES if imports_by_name(path)] == ["hisir_edge.by_name"]


def test_parts_are_loaded_where_the_table_says_and_lie_in_their_rooms():
    loading = {name_of(path).removesuffix(".__init__") for path in FILES if "import part\n" in path.read_text()}
    assert loading == {user for users in REGISTRIES.values() for user in users}
    rooms = {
        ("config", "camera"): [camera.settings for camera in CAMERAS.values()],
        ("camera",): [camera.source for camera in CAMERAS.values()],
        ("net.backbones",): [backbone.maker for backbone in BACKBONES.values()],
        ("mes.sinks",): SINKS.values(),
        ("backends", "inspection", "cuda"): [target.inspector for target in TARGETS.values()],
        ("engine",): [target.compiler for target in TARGETS.values() if target.compiler],
    }
    for names, wheres in rooms.items():
        for where in wheres:
            assert where.startswith(tuple(f"hisir_edge.{name}" for name in names)), where
            assert callable(part(where)), where


def test_what_is_imported_by_name_is_asked_for_where_the_table_says():
    asking = {name_of(path) for path in FILES if "optional_module(" in path.read_text()} - {"hisir_edge.by_name"}
    assert asking == set(USED_BY.values())
    for module, user in USED_BY.items():
        text = (PACKAGE.parent / f"{user.replace('.', '/')}.py").read_text()
        assert f'"{module}"' in text, module
    with pytest.raises(ValueError, match=r"expected one of pycuda.driver, tensorrt"):
        optional_module("torch")


def test_no_folder_is_a_hall():
    folders = {path.parent for path in FILES}
    counts = {str(folder.relative_to(PACKAGE)): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_files_stay_short():
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_no_two_files_import_each_other():
    """Nor any circle of files, imports within functions counted."""
    names = {name_of(path).removesuffix(".__init__"): path for path in FILES}
    arrows: dict[str, set[str]] = {}
    for name, path in names.items():
        arrows[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for one in node.names:
                    full = f"{node.module}.{one.name}"
                    arrows[name].add(full if full in names else node.module)
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for below in sorted(arrows[name] & names.keys() - {name}):
                visit(below, (*way, name))
            done.add(name)

    for name in sorted(names):
        visit(name, ())
