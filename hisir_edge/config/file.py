"""Read line.toml: one error in one line, paths as the file means them."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import ValidationError

from hisir_edge.config.sources import AnySource
from hisir_edge.config.tables import BundleTable, Settings, ViewTable
from hisir_edge.errors import ConfigError
from hisir_edge.registry import CAMERAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _one_line(error: ValidationError, path: Path) -> ConfigError:
    first = error.errors()[0]
    parts = [str(p) for p in first["loc"] if str(p) not in CAMERAS]
    where = ".".join(parts) or "the file"
    if first["type"] == "extra_forbidden":
        return ConfigError(
            expected=f"only known keys in {path}",
            received=f"{where}",
            fix="remove or correct this key (docs/reference/line-toml.md lists them)",
        )
    if first["type"] == "missing":
        return ConfigError(
            expected=f"{where} in {path}", received="nothing", fix="add it (docs/reference/line-toml.md lists the keys)"
        )
    if first["type"].startswith("union_tag"):
        given = first["input"].get("type") if isinstance(first["input"], dict) else first["input"]
        known = ", ".join(f'"{name}"' for name in CAMERAS)
        return ConfigError(
            expected=f"{where}.type in {path}: {known}",
            received=repr(given) if given else "nothing",
            fix="correct it (docs/reference/line-toml.md lists the keys of each)",
        )
    if first["type"] == "value_error" and not parts:  # what several keys are together
        said = first["msg"].removeprefix("Value error, ")
        return ConfigError(expected=said, received=f"others in {path}", fix="correct one of these keys")
    received = repr(first["input"])
    return ConfigError(
        expected=f"{where} in {path}: {first['msg'].removeprefix('Value error, ')}",
        received=received if len(received) < 120 else received[:117] + "...",
        fix="correct this value",
    )


def settings_from_toml(path: Path) -> Settings:
    """Read and validate a line's configuration; relative paths in it count from the file's folder.

    ConfigError names the key, what was expected and what is there.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            expected="a readable line.toml", received=f"{path} ({error.strerror})", fix="check --config"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            expected=f"{path} in UTF-8", received=f"another encoding ({error.reason})", fix="save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(expected=f"TOML in {path}", received=str(error), fix="correct this line") from error
    try:
        return _with_absolute_paths(Settings.model_validate(raw), path.parent.absolute())
    except ValidationError as error:
        raise _one_line(error, path) from error


def _with_absolute_paths(settings: Settings, base: Path) -> Settings:
    also = tuple(
        ViewTable(source=_absolute_source(view.source, base), bundle=_absolute_bundle(view.bundle, base))
        for view in settings.also
    )
    keys = {key: str(base / value) for key in ("server_key", "clients") if (value := getattr(settings.security, key))}
    folder, kept = settings.output.overlay_folder, settings.journal.folder
    archive = settings.archive.folder
    changed = {
        "source": _absolute_source(settings.source, base),
        "bundle": _absolute_bundle(settings.bundle, base),
        "also": also,
        "security": settings.security.model_copy(update=keys),
        "output": settings.output.model_copy(update={"overlay_folder": str(base / folder) if folder else ""}),
        "journal": settings.journal.model_copy(update={"folder": str(base / kept) if kept else ""}),
        "archive": settings.archive.model_copy(update={"folder": str(base / archive) if archive else ""}),
    }
    return settings.model_copy(update=changed)


def _absolute_source(source: AnySource, base: Path) -> AnySource:
    files = [key for key in source.paths if getattr(source, key, "")]
    return source.model_copy(update={key: str(base / getattr(source, key)) for key in files})


def _absolute_bundle(bundle: BundleTable, base: Path) -> BundleTable:
    return bundle.model_copy(
        update={"path": str(base / bundle.path), "others": tuple(str(base / path) for path in bundle.others)}
    )
