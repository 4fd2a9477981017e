"""Read line.toml, and files like it: one error in one line, paths as the file means them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from hisir_edge.config.sources import Table
from hisir_edge.config.tables import Settings
from hisir_edge.errors import ConfigError
from hisir_edge.registry import CAMERAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TableT = TypeVar("TableT", bound=Table)


WORDS = {
    "tuple_type": "a list, [...]",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table",
    "string_type": "text in quotes",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "too_long": "at most {max_length} values",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
"""What TOML calls what pydantic expects, by the kind of its error; of other kinds its own words."""


def _one_line(error: ValidationError, path: Path, page: str) -> ConfigError:
    first = error.errors()[0]
    parts = [str(p) for p in first["loc"] if str(p) not in CAMERAS]
    where = ".".join(parts) or "the file"
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return ConfigError(
            expected=f"only known keys in {path}",
            received=f"{where}",
            fix=f"remove or correct this key ({page} lists them)",
        )
    if first["type"] == "missing" and isinstance(first["loc"][-1], int):
        return ConfigError(
            expected=f"{'.'.join(parts[:-1])} in {path}: more values", received=repr(first["input"]), fix="add them"
        )
    if first["type"] == "missing":
        return ConfigError(expected=f"{where} in {path}", received="nothing", fix=f"add it ({page} lists the keys)")
    if first["type"].startswith("union_tag"):
        given = first["input"].get("type") if isinstance(first["input"], dict) else first["input"]
        known = ", ".join(f'"{name}"' for name in CAMERAS)
        return ConfigError(
            expected=f"{where}.type in {path}: {known}",
            received=repr(given) if given else "nothing",
            fix=f"correct it ({page} lists the keys of each)",
        )
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # what several keys are together
        of = f"[{where}] in {path}: " if parts else ""
        return ConfigError(expected=f"{of}{said}", received=f"others in {path}", fix="correct one of these keys")
    words = WORDS.get(first["type"])
    received = repr(first["input"])
    return ConfigError(
        expected=f"{where} in {path}: {words.format(**first.get('ctx', {})) if words else said}",
        received=received if len(received) < 120 else received[:117] + "...",
        fix="correct this value",
    )


def _strings_of(raw: object) -> str:
    """All strings of a parsed file, one behind the other."""
    if isinstance(raw, dict):
        return "".join(key + _strings_of(value) for key, value in raw.items())
    return "".join(map(_strings_of, raw)) if isinstance(raw, list) else raw if isinstance(raw, str) else ""


def settings_from_toml(path: Path) -> Settings:
    """Read and validate a line's configuration; relative paths in it count from the file's folder.

    ConfigError names the key, what was expected and what is there.
    """
    return table_from_toml(path, Settings, "line.toml", "docs/reference/line-toml.md")


def table_from_toml(path: Path, kind: type[TableT], name: str, page: str) -> TableT:
    """As ``settings_from_toml``, of a file of any kind: what it is called, and the page that lists its keys."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            expected=f"a readable {name}", received=f"{path} ({error.strerror})", fix="check its path"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            expected=f"{path} in UTF-8", received=f"another encoding ({error.reason})", fix="save it as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:  # of tomllib, and numbers of thousands of digits
        raise ConfigError(expected=f"TOML in {path}", received=str(error)[:300], fix="correct this line") from error
    if "\0" in _strings_of(raw):
        raise ConfigError(expected=f"text without NUL in {path}", received="one with it", fix="correct it")
    try:
        return _with_absolute_paths(kind.model_validate(raw), path.parent.absolute())
    except ValidationError as error:
        raise _one_line(error, path, page) from error


def _with_absolute_paths(table: TableT, base: Path) -> TableT:
    """A table, and those in it, with each of its ``paths`` counted from a folder; what is empty stays so."""
    changed: dict[str, Any] = {}
    for name in type(table).model_fields:
        value = getattr(table, name)
        if isinstance(value, Table):
            changed[name] = _with_absolute_paths(value, base)
        elif isinstance(value, tuple) and any(isinstance(one, Table) for one in value):
            changed[name] = tuple(_with_absolute_paths(one, base) for one in value)
        elif name in table.paths and value:
            each = tuple(str(base / one) if one else one for one in (value if isinstance(value, tuple) else (value,)))
            changed[name] = each if isinstance(value, tuple) else each[0]
    return table.model_copy(update=changed)
