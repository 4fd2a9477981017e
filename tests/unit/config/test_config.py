"""line.toml: every mistake is one line with the key, what was expected and what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hisir_edge.config.file import settings_from_toml
from hisir_edge.config.from_files import ReplaySource
from hisir_edge.config.sources import GenicamSource
from hisir_edge.errors import ConfigError

GOOD = """
[bundle]
path = "bundles/a"
[source]
type = "replay"
folder = "boards"
"""


def _read(tmp_path: Path, text: str):
    path = tmp_path / "line.toml"
    path.write_text(text)
    return settings_from_toml(path)


def test_defaults_and_relative_paths(tmp_path):
    settings = _read(tmp_path, GOOD)
    assert settings.bundle.path == str(tmp_path / "bundles/a")
    assert isinstance(settings.source, ReplaySource)
    assert settings.source.folder == str(tmp_path / "boards")
    assert settings.publish.endpoint == "tcp://127.0.0.1:5556"
    assert settings.output.overlay_folder == ""


FOLDERS = """
[bundle]
path = "X"
others = ["X"]
[source]
type = "genicam"
cti = "X"
profile = "X"
[[also]]
source = {type = "replay", name = "other", folder = "X"}
bundle = {path = "X", others = ["X"]}
[security]
server_key = "X"
clients = "X"
[output]
overlay_folder = "X"
[journal]
folder = "X/j"
[archive]
folder = "X/a"
[revisions]
folder = "X/r"
"""
NAMES_OF_FILES = re.compile("folder|path|cti|profile|others|server_key|clients")


def test_every_file_and_folder_counts_from_the_files_own_folder(tmp_path):
    dumped = _read(tmp_path, FOLDERS).model_dump()

    def walk(value, name=""):
        if isinstance(value, dict):
            for key, one in value.items():
                yield from walk(one, key)
        elif isinstance(value, tuple):
            for one in value:
                yield from walk(one, name)
        elif NAMES_OF_FILES.fullmatch(name) or name.endswith(("_folder", "_path", "_file")):
            yield name, value

    found = list(walk(dumped))
    assert {value for _, value in found} == {str(tmp_path / one) for one in ("X", "X/j", "X/a", "X/r")}, found
    assert len(found) == FOLDERS.count('"X')


def test_a_camera(tmp_path):
    text = GOOD.replace(
        'type = "replay"\nfolder = "boards"', 'type = "genicam"\ncti = "/opt/x.cti"\npixel_format = "BayerRG8"'
    )
    settings = _read(tmp_path, text)
    assert isinstance(settings.source, GenicamSource)
    assert settings.source.cti == "/opt/x.cti"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda t: t + '[publish]\nendpiont = "tcp://*:1"', ["publish.endpiont", "only known keys"]),
        (lambda t: t + "[publsh]\n", ["publsh", "only known keys"]),
        (lambda t: t.replace('path = "bundles/a"', "path = 3"), ["bundle.path", "text in quotes", "3"]),
        (lambda t: t.replace('folder = "boards"', ""), ["source.folder", "nothing"]),
        (lambda t: t.replace('folder = "boards"', 'folder = "b"\nrate_hz = -1'), ["source.rate_hz", "-1"]),
        (lambda t: t.replace('folder = "boards"', 'folder = "b"\nrate_hz = nan'), ["source.rate_hz", "nan"]),
        (lambda t: t.replace('folder = "boards"', 'folder = "b"\nloop = "yes"'), ["source.loop", "yes"]),
        (lambda t: t.replace('"replay"', '"reply"'), ["source", "reply"]),
        (lambda t: t + '[publish]\nendpoint = "127.0.0.1:5556"', ["publish.endpoint", "tcp://"]),
        (lambda t: t + '[line]\nname = "a b/c"', ["line.name", "a b/c"]),
        (lambda t: t + "[infer]\nthreads = 1.5", ["infer.threads", "1.5"]),
        (lambda t: t + '[control]\nendpoint = "tcp://127.0.0.1:5556"', ["another publish.endpoint", "5556"]),
        (lambda t: t + '[journal]\nfolder = "j"\n[archive]\nfolder = "j"', ["folders of their own", "archive"]),
        (lambda t: t + "[line]\ndeadline_ms = " + "9" * 5001, ["TOML", "digits"]),
        (lambda t: t.replace('"boards"', '"a\\u0000b"'), ["text without NUL"]),
        (lambda t: t + "levels = [1]", ["source.levels", "more values", "[1]"]),
        (lambda t: t + "levels = [1, 2, 3]", ["source.levels", "at most 2 values", "[1, 2, 3]"]),
        (lambda t: t + "levels = [30, 20]", ["0 <= black < white", "[source] in", "others in"]),
        (lambda t: t + "levels = 5", ["source.levels", "a list", "5"]),
        (lambda t: t + "rate_hz = inf", ["source.rate_hz", "a finite number", "inf"]),
        (lambda t: "also = 3\n" + t, ["also", "a list", "3"]),
        (lambda t: 'bundle = "x"\n' + t.partition("path =")[2].partition("\n")[2], ["bundle", "a table", "'x'"]),
        (lambda t: t + "[line]\ndeadline_ms = 5", ["line.deadline_ms", "at least 100", "5"]),
        (lambda t: t + "[infer\n", ["TOML", "line"]),
        (lambda t: "", ["bundle", "nothing"]),
        (lambda t: t + '[publish]\nendpoint = "tcp://127.0.0.1:99999"', ["publish.endpoint", "1 to 65535", "99999"]),
        (lambda t: t + '[publish]\nendpoint = "tcp://127.0.0.1:0"', ["publish.endpoint", "1 to 65535"]),
        (lambda t: t + '[publish]\nendpoint = "tcp://127.0.0.1"', ["publish.endpoint", "1 to 65535"]),
    ],
)
def test_mistakes_are_named(tmp_path, change, parts):
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, change(GOOD))
    text = str(caught.value)
    assert "\n" not in text
    for part in [*parts, "expected", "got"]:
        assert part in text


def test_a_missing_file_and_one_that_is_not_text(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        settings_from_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        settings_from_toml(tmp_path / "bad.toml")


def test_what_other_editors_save(tmp_path):
    (tmp_path / "bom.toml").write_text(GOOD, encoding="utf-8-sig")
    assert settings_from_toml(tmp_path / "bom.toml").source.folder == str(tmp_path / "boards")  # type: ignore[attr-defined]
    (tmp_path / "latin.toml").write_text(GOOD.replace("boards", "gerät"), encoding="latin-1")
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        settings_from_toml(tmp_path / "latin.toml")


@pytest.mark.parametrize(("line", "received"), [('type = "usb"\n', "'usb'"), ("", "nothing"), ("type = 3\n", "3")])
def test_a_camera_type_that_is_none_names_those_that_are(tmp_path, line, received):
    path = tmp_path / "line.toml"
    path.write_text(f'[bundle]\npath = "b"\n[source]\n{line}')
    with pytest.raises(
        ConfigError, match=rf'source.type in .*: "replay", "calls", "genicam", "aravis", "viva"; got {received}; '
    ):
        settings_from_toml(path)
