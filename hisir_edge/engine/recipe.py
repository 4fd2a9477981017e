"""A build recipe: what one backbone needs in the build stage, as a TOML file (``engines/*.toml``)."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hisir_edge.bundle.manifest import Target
from hisir_edge.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Precision = Literal["fp32", "fp16", "int8"]
Method = Literal["minmax", "percentile", "entropy", "mse"]
Arch = Annotated[str, Field(pattern=r"^sm\d{2,3}$")]


class _RecipeTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Int8Table(_RecipeTable):
    """``[int8]``: calibration. ``keep_float``: patterns of nodes that are never quantised."""

    methods: tuple[Method, ...] = Field(default=("minmax", "percentile", "entropy", "mse"), min_length=1)
    tiles: int = Field(default=96, ge=8, le=512)
    keep_float: tuple[str, ...] = ()


class Fp16Table(_RecipeTable):
    """``[fp16]``: ``keep_float32``: patterns of nodes for which half precision is too coarse."""

    keep_float32: tuple[str, ...] = ()


class TensorRtTable(_RecipeTable):
    """``[tensorrt]``: how engines are compiled. The profile is in tiles a call: least, usual, most.

    ``version_compatible`` lets other TensorRT releases of the same major version load the engine;
    ``hardware_compatible`` lets other GPUs run it: "ampere+" or "same-compute-capability" (classic TensorRT only).
    """

    profile_tiles: tuple[int, int, int] = (1, 16, 32)
    workspace_mib: int = Field(default=2048, ge=16, le=65536)
    version_compatible: bool = False
    hardware_compatible: Literal["none", "ampere+", "same-compute-capability"] = "none"
    timing_cache: str = ""
    optimization_level: int = Field(default=3, ge=0, le=5)
    gpu_arch: tuple[Arch, ...] = ()


class BuildItem(_RecipeTable):
    """One of the bundles that ``build-engine --recipe`` without a RUN makes; ``cascade``: with a first look."""

    target: Target
    precision: Precision
    cascade: bool = False


class EngineRecipe(_RecipeTable):
    """A whole recipe. ``run`` and ``builds`` are used where the command line names no RUN."""

    backbone: str = ""
    run: str = ""
    builds: tuple[BuildItem, ...] = ()
    int8: Int8Table = Int8Table()
    fp16: Fp16Table = Fp16Table()
    tensorrt: TensorRtTable = TensorRtTable()


def recipe_from_toml(path: Path) -> EngineRecipe:
    """Read a recipe; InputError names the first fault."""
    try:
        recipe = EngineRecipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            expected="a readable recipe", received=f"{path} ({error.strerror})", fix="check --recipe"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(expected=f"TOML in {path}", received=str(error), fix="correct this line") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            expected=f"a recipe as in engines/README.md, {path}",
            received=f"{where}: {first['msg']}",
            fix="correct this key",
        ) from error
    least, usual, most = recipe.tensorrt.profile_tiles
    if not 1 <= least <= usual <= most:
        raise InputError(
            expected="tensorrt.profile_tiles as least, usual and most tiles, rising from 1",
            received=str(list(recipe.tensorrt.profile_tiles)),
            fix=f"correct it in {path}",
        )
    return recipe


def recipes_to_build(paths: list[Path]) -> dict[Path, EngineRecipe]:
    """Recipes that say themselves what to build, and from which run; InputError for one that does not."""
    if len({path.stem for path in paths}) < len(paths):
        raise InputError(
            expected="recipes with different file names (bundles are called after them)",
            received=", ".join(map(str, paths)),
            fix="rename one",
        )
    read = {path: recipe_from_toml(path) for path in paths}
    for path, one in read.items():
        if not one.run or not one.builds:
            raise InputError(
                expected=f"run and builds in {path} (no RUN is given)", received="neither or one", fix="add them"
            )
    return read


def matching_nodes(patterns: tuple[str, ...], names: list[str], key: str) -> list[str]:
    """Names of nodes that match a shell pattern (``*`` also crosses ``/``); InputError for one that matches none."""
    idle = [p for p in patterns if not any(fnmatchcase(name, p) for name in names)]
    if idle:
        raise InputError(
            expected=f"patterns that match nodes of the network in {key}",
            received=f"{idle[0]}, which matches none",
            fix="correct the recipe; bundle show --nodes lists the names of a built network",
        )
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]
