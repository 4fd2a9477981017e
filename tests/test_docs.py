"""What the documents say exists: commands, options, configuration keys, message fields."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hisir_edge.config.file import settings_from_toml
from hisir_edge.engine.recipe import EngineRecipe, Fp16Table, Int8Table, TensorRtTable
from hisir_edge.fleet.settings import fleet_from_toml

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "engines").glob("*.md"))]


GROUPS = ("bundle", "calls", "parts")
"""Commands that have commands of their own."""


def _commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```(?:sh|console|text)?\n(.*?)```", document.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.match(r"\$?\s*(?:\.venv/bin/)?hisir-edge\s+(.*)", line.split("   #")[0].strip())
                if match:
                    found.append((document.name, match[1].strip()))
    return found


def _options(name: str) -> set[str]:
    help_text = subprocess.run(
        [sys.executable, "-m", "hisir_edge", *name.split(), "--help"],
        capture_output=True, text=True, timeout=60, check=True, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    ).stdout  # fmt: skip
    return set(re.findall(r"--[a-z][a-z0-9-]*", help_text))


def test_commands_in_the_documents_exist_with_their_options():
    commands = _commands()
    assert len(commands) >= 8
    known: dict[str, set[str]] = {}
    for document, text in commands:
        words = text.split()
        if words[0].startswith("--"):
            continue
        name = " ".join(words[: 2 if words[0] in GROUPS else 1])
        known.setdefault(name, _options(name) if name not in known else known[name])
        for option in re.findall(r"(?<=\s)--[a-z][a-z0-9-]*", text):
            assert option in known[name], f"{document}: hisir-edge {name} has no {option}"


def test_every_recipe_key_is_documented():
    text = (ROOT / "engines" / "README.md").read_text()
    for key, info in EngineRecipe.model_fields.items():
        table = {"int8": Int8Table, "fp16": Fp16Table, "tensorrt": TensorRtTable}.get(key)
        for name in [f"{key}.{inner}" for inner in table.model_fields] if table else [key]:  # type: ignore[attr-defined]
            assert f"`{name}`" in text, f"{name} {info}"


def test_the_example_configuration_is_valid(tmp_path):
    texts = [page.read_text() for page in DOCUMENTS]
    examples = [example for text in texts for example in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    assert len(examples) >= 4
    for example in examples:
        path = tmp_path / "example.toml"
        path.write_text(example)
        (fleet_from_toml if example.startswith("[store]") else settings_from_toml)(path)


def test_the_example_message_has_the_fields_of_the_schema():
    schema = json.loads((ROOT / "hisir_edge" / "mes" / "verdict.schema.json").read_text())
    example = re.search(r"```json\n(.*?)```", (REFERENCE / "protocol.md").read_text(), re.DOTALL)[1]
    body = json.loads(example.replace(", …", ""))
    inspection = body["InspectedUnits"][0]["Inspections"][0]
    defect = inspection["DefectsFound"][0]
    kinds = schema["$defs"]
    for found, meant in (
        (body, schema), (body["vision"], schema["properties"]["vision"]), (body["InspectedUnits"][0], kinds["unit"]),
        (inspection, kinds["inspection"]), (inspection["vision"], kinds["inspection"]["properties"]["vision"]),
        (defect, kinds["defect"]), (defect["vision"], kinds["defect"]["properties"]["vision"]),
        (defect["RegionOfInterest"], kinds["defect"]["properties"]["RegionOfInterest"]),
    ):  # fmt: skip
        assert set(found) == set(meant["properties"])


def test_every_request_and_limit_is_documented():
    from hisir_edge.line.sockets import commands, control, guard, publish
    from hisir_edge.transport.curve_keys import ROLES

    text = "".join((REFERENCE / name).read_text() for name in ("protocol.md", "control-socket.md"))
    source = (ROOT / "hisir_edge" / "line" / "sockets" / "commands.py").read_text()
    asked = {name for name in re.findall(r'"([a-z]+)": [a-z_]+[,}\n]', source) if len(name) > 2} & {
        "replay", "snapshot", "decisions", "ack", "forget", "verify", "status", "trigger", "announce", "select",
        "pause", "resume", "drain", "reload",
    } | {"archived", "archived_board", "bundle_file"}  # fmt: skip
    for name in asked | {"status", "ack"}:
        assert f'{{"do": "{name}"' in text, name
    for role in ROLES:
        assert f"`{role}`" in text
    limits = (
        f"{control.RATE_A_SECOND:g} requests a second", f"{control.BURST:g} at once", f"{guard.WINDOW_S:g} s",
        f"{publish.MOST_SUBSCRIPTIONS} of", f"{publish.MOST_SUBSCRIPTION_BYTES} bytes", f"{commands.MOST_REPLAYED}",
    )  # fmt: skip
    for limit in limits:
        assert limit in text, limit


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


NO_WORDS = (
    r"^expected |; got (?:Gain is )?|, saved as |\.\.\.|\{\w+\}|[\d.]+(?: ms| s| us)?\b|\b[A-Z]\b|\bFEATURE = VALUE\b"
)
"""What stands between the words of a message: numbers, names, how errors are put together."""


def test_what_faults_quote_is_what_the_line_says():
    """Each phrase in a Seen line, without its numbers and names, stands in the source."""
    source = " ".join(path.read_text() for path in sorted((ROOT / "hisir_edge").rglob("*.py")))
    source = re.sub(r'"\s*\n?\s*f?"|\{[^{}]*\}', "", re.sub(r"\s+", " ", source))
    text = "".join(page.read_text() for page in sorted(REFERENCE.glob("faults-*.md")))
    items = re.findall(r"^\* \*\*Seen\*\*.*?(?=^\* )", text, re.MULTILINE | re.DOTALL)
    seen = [" ".join(item.split()) for item in items]
    assert len(seen) == text.count("\n## ")
    wrong = []
    for line in seen:
        for phrase in re.findall(r"`([^`]+)`", line):
            parts = (part.strip(" ;:,()") for part in re.split(NO_WORDS, phrase))
            wrong += [part for part in parts if len(part) > 3 and part not in source]
    assert not wrong, str(wrong)
