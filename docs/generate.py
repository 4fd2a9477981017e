"""Write docs/reference/line-toml.md, fleet.md and the command pages from the code, so that they cannot differ from it.

    python docs/generate.py [--check]

``--check``: exit code 1 where a page is not what would be written.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from enum import EnumType
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hisir_edge.by_name import part
from hisir_edge.cli.main import app
from hisir_edge.config.sockets import MetricsTable
from hisir_edge.config.sources import SourceTable
from hisir_edge.config.tables import Settings, ViewTable
from hisir_edge.fleet.layout import TYPES as SQL_TYPES
from hisir_edge.fleet.rows import KEYS, TABLES
from hisir_edge.fleet.settings import FleetLine, StoreTable
from hisir_edge.fleet.views import WORDS
from hisir_edge.line.reporting.prometheus import REASONS, Metrics
from hisir_edge.registry import CAMERAS

COLUMNS = 100
REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Made by docs/generate.py from the code. Change the descriptions there. -->"
LINE_COMMANDS = (
    "run", "status", "control", "watch", "forward", "fleet", "opcua", "plc", "keygen", "camera", "install-service",
    "check",
)  # fmt: skip
PEOPLE_COMMANDS = ("view", "view-user", "decide", "revision", "boards")
LEARNING_COMMANDS = ("synth", "pretrain", "teach", "train", "build-engine", "evaluate")


def pages() -> dict[str, str]:
    """Each page's name and text."""
    found = dict(_commands(typer.main.get_command(app), ""))
    line = {name: command for name, command in found.items() if name in LINE_COMMANDS}
    people = {name: command for name, command in found.items() if name in PEOPLE_COMMANDS}
    learning = {name: command for name, command in found.items() if name in LEARNING_COMMANDS}
    elsewhere = (*LINE_COMMANDS, *PEOPLE_COMMANDS, *LEARNING_COMMANDS)
    others = {name: command for name, command in found.items() if name not in elsewhere}
    return {
        "line-toml.md": "\n".join(_line_toml()),
        "line-toml-source.md": "\n".join(_line_toml_source()),
        "metrics.md": "\n".join(_metrics()),
        "fleet.md": "\n".join(_fleet()),
        "commands-line.md": "\n".join(_command_page("Commands of the line PC", line)),
        "commands-people.md": "\n".join(_command_page("Commands of operators and engineers beside the line", people)),
        "commands-learning.md": "\n".join(_command_page("Commands that teach, train and build", learning)),
        "commands-engineering.md": "\n".join(_command_page("More commands of the engineering PC", others)),
    }


FILES = ("replay", "calls")
"""Types of source that are no cameras: each has keys of its own alone."""


def _line_toml() -> Iterator[str]:
    yield from (
        "# line.toml", "", NOTE, "",
        "Unknown keys and wrong types are refused before anything is opened. Relative paths count from the",
        "file's folder. [Configure a camera](../how-to/configure-a-camera.md) has examples.", "",
    )  # fmt: skip
    for name, field in Settings.model_fields.items():
        if name == "source":
            yield from ("## [source]", "", "The camera, or what stands for one: [its keys](line-toml-source.md).", "")
        elif name == "also":
            yield from (
                "## [[also]]", "",
                "One more camera that looks at the same board, up to seven:",
                "[several cameras](../how-to/configure-a-camera.md#several-cameras-for-one-board).", "",
            )  # fmt: skip
            yield from _table("also", ViewTable.model_fields)
        else:
            yield from (f"## [{name}]", "")
            yield from _table(name, _model_of(field).model_fields)


def _line_toml_source() -> Iterator[str]:
    yield from (
        "# line.toml: [source]", "", NOTE, "",
        "The other tables: [line.toml](line-toml.md). Every type has:", "",
    )  # fmt: skip
    yield from _table("source", SourceTable.model_fields)
    models: dict[str, type[BaseModel]] = {name: part(camera.settings) for name, camera in CAMERAS.items()}
    shared = set.intersection(*(set(model.model_fields) for name, model in models.items() if name not in FILES))
    shared -= set(SourceTable.model_fields)
    genicam = models["genicam"].model_fields
    yield from ('`type = "genicam"`, `"aravis"` and `"viva"`:', "")
    yield from _table("source", {name: genicam[name] for name in genicam if name in shared})
    own = {name: _own(model, set() if name in FILES else shared) for name, model in models.items()}
    for name in FILES:
        yield from (f'`type = "{name}"`:', "")
        yield from _table("source", own.pop(name))
    yield from ("Of one type of camera each:", "", "| key | default | meaning |", "|---|---|---|")
    for name, fields in own.items():
        for key, field in fields.items():
            words = _cell(field.description or "")
            of = "" if words.startswith(f"`{name}`:") else f"`{name}`: "
            yield f"| `source.{key}` | {_default(field)} | {of}{words} |"
    yield ""


def _own(model: type[BaseModel], shared: set[str]) -> dict[str, FieldInfo]:
    others = {*SourceTable.model_fields, *shared}
    return {key: field for key, field in model.model_fields.items() if key not in others}


def _table(table: str, fields: dict[str, FieldInfo]) -> Iterator[str]:
    yield from ("| key | default | meaning |", "|---|---|---|")
    for name, field in fields.items():
        yield f"| `{table}.{name}` | {_default(field)} | {_cell(field.description or '')} |"
    yield ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default is None:
        return "not set"
    text = {True: "true", False: "false"}.get(default) if isinstance(default, bool) else None
    if text is None:
        text = f'"{default}"' if isinstance(default, str) else str(list(default)) if isinstance(default, tuple) else ""
    return f"`{_cell(text or str(default))}`".replace("'", '"')


def _model_of(field: FieldInfo) -> type[BaseModel]:
    found = field.annotation
    model = found if isinstance(found, type) else get_args(found)[0]
    found_model: type[BaseModel] = model
    return found_model


def _commands(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        elif not command.deprecated:
            yield f"{before}{name}", command


def _metrics() -> Iterator[str]:
    yield from (
        "# Metrics", "", NOTE, "",
        "With `metrics.port`, on `http://127.0.0.1:PORT/metrics` in the format of Prometheus. No board's name",
        "is ever a label.", "",
        "| metric | labels | meaning |", "|---|---|---|",
    )  # fmt: skip
    metrics = Metrics(MetricsTable())
    for metric in (one for one in vars(metrics).values() if hasattr(one, "describe") and hasattr(one, "_labelnames")):
        (described,) = metric.describe()
        kind = {"counter": "_total"}.get(described.type, "")
        labels = ", ".join(f"`{name}`" for name in metric._labelnames)
        yield f"| `{described.name}{kind}` | {labels} | {_cell(described.documentation)} |"
    reasons = ", ".join(f"`{label}`" for label in dict.fromkeys(label for _, label in REASONS))
    text = f"Values of `reason` in `hisir_frames_lost_total`: {reasons}, `other`."
    yield from ("", *textwrap.wrap(text, COLUMNS))


def _fleet() -> Iterator[str]:
    yield from (
        "# A fleet: fleet.toml, tables, views", "", NOTE, "",
        "Made and read as [collect the verdicts of many lines](../how-to/fleet.md) says. Unknown keys and",
        "wrong types are refused. Relative paths count from the file's folder.", "",
        "## [store]", "",
    )  # fmt: skip
    yield from _table("store", StoreTable.model_fields)
    yield from ("## [[line]]", "", "One of each line.", "")
    yield from _table("line", FleetLine.model_fields)
    yield from (
        "## Tables", "",
        "In PostgreSQL in the schema `hisir_fleet`, a partition for each `day`; as Parquet in",
        "`TABLE/day=.../hour=...` (hours of UTC), without the column `day`, which is the folder's.", "",
    )  # fmt: skip
    for name, columns in TABLES.items():
        yield from (f"### {name}", "", f"Once for each {', '.join(KEYS[name])}.", "")
        yield from ("| column | type | meaning |", "|---|---|---|")
        for column in columns:
            yield f"| `{column.name}` | {SQL_TYPES[column.kind]} | {_cell(column.words)} |"
        yield ""
    yield from (
        "PostgreSQL alone has `line`: `line`, `plant`, `endpoint`, `wrong` (why it is not heard; empty: it",
        "is), `heard_at`; and `cursor`: how far each line is collected.", "",
        "## Views", "", "| view | |", "|---|---|",
    )  # fmt: skip
    for name, words in WORDS.items():
        yield f"| `{name}` | {_cell(words)} |"
    yield ""


def _command_page(title: str, commands: dict[str, Any]) -> Iterator[str]:
    yield from (f"# {title}", "", NOTE, "")
    for name, command in commands.items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        names = " ".join(f"[{p.name.upper()}]" if not p.required else p.name.upper() for p in arguments)
        yield from (
            f"## {name}",
            "",
            *textwrap.wrap(f"`hisir-edge {name}{' ' if names else ''}{names}`: {_cell(command.help or '')}", COLUMNS),
            "",
        )
        for one in arguments:
            kind = one.type_descriptor.annotation
            if isinstance(kind, EnumType):
                values = ", ".join(f"`{choice.value}`" for choice in kind)
                yield from (*textwrap.wrap(f"{one.name.upper()}: {values}", COLUMNS), "")
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        if not options:
            continue
        yield from ("| option | default | meaning |", "|---|---|---|")
        for option in options:
            yield f"| `{option.opts[0]}` | {_option_default(option)} | {_cell(option.help or '')} |"
        yield ""


def _option_default(option: Any) -> str:
    default: Any = option.default
    if option.required:
        return "required"
    if option.is_flag or default in (None, "", ()):
        return ""
    return f"`{getattr(default, 'value', default)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write or compare."""
    wrong = []
    for name, text in pages().items():
        path = REFERENCE / name
        content = text.rstrip() + "\n"
        if "--check" in sys.argv:
            wrong += [name] if not path.exists() or path.read_text() != content else []
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
    if wrong:
        sys.exit(f"not as the code has it: {', '.join(wrong)}; make reference")


if __name__ == "__main__":
    main()
