"""Files of another inspection machine's calls, JSON or CSV (docs/reference/calls.md): one board each."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

from hisir_edge.errors import InputError
from hisir_edge.images.folders import IMAGE_SUFFIXES
from hisir_edge.json_once import loads_once
from hisir_edge.records import Call, CallSheet, Crop

SUFFIXES = (".json", ".csv")
PICTURES = IMAGE_SUFFIXES
DONE = "done"
"""The folder within, where what was answered is put."""
MOST_BYTES, MOST_CALLS, MOST_TEXT = 16_000_000, 4096, 200
MOST_PICTURE_BYTES = 1 << 31
FARTHEST_PX = 1e6
TRUTHS = {"real": "real", "true": "real", "defect": "real", "false": "false", "good": "false", "pass": "false", "": ""}
"""What a person has said of a call, in the words that are used."""
CALL_KEYS = frozenset({"id", "x", "y", "w", "h", "class", "part", "truth", "crop", "crop_x", "crop_y"})
BOARD_KEYS = frozenset({"unit", "product", "picture", "calls"})


def content_of_sheet(path: Path) -> bytes:
    """The content of a file of calls; InputError where it cannot be read, or is too long to be one."""
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MOST_BYTES else b""
    except OSError as error:
        raise InputError(
            expected="a file of calls", received=f"{path.name}: {error.strerror}", fix="check it"
        ) from error
    if size > MOST_BYTES:
        raise _wrong(path.name, f"a file of {size} bytes; {MOST_BYTES} at most")
    return data


def hash_of_delivery(calls: bytes | None, pictures: Iterable[tuple[str, bytes | None]]) -> str:
    """What a delivery is known by, besides its name: of hashes of its calls and its pictures (None: not there)."""
    digest = hashlib.sha256(calls or b"-")
    for name, content in sorted(pictures):
        digest.update(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
        digest.update(content or b"-")
    return digest.hexdigest()


def hash_of_file(path: Path) -> bytes | None:
    """SHA-256 of a plain file; None for one that is not there, no plain one, or larger than any picture."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        try:
            facts = os.fstat(handle)
            if not S_ISREG(facts.st_mode) or facts.st_size > MOST_PICTURE_BYTES:
                return None
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.digest()
        except OSError:
            return None


def hash_in_folder(folder: Path, sheet: CallSheet, calls: bytes | None = None) -> str:
    """``hash_of_delivery`` of what lies in a folder now. ``calls``: hash of those that were read, else of the file."""
    pictures = [(name, hash_of_file(folder / name)) for name in files_of(sheet)]
    return hash_of_delivery(calls or hash_of_file(folder / sheet.delivery), pictures)


def is_delivery(name: str) -> bool:
    """Whether a file is one of calls by its name, and its answers can have a name of their own."""
    path = Path(name)
    is_calls = path.suffix.lower() in SUFFIXES and not name.startswith(".")
    return is_calls and len(os.fsencode(name)) <= MOST_TEXT and Path(path.stem).suffix.lower() not in SUFFIXES


def answer_name(delivery: str) -> str:
    """The name of the JSON file with a delivery's answers."""
    return delivery if delivery.endswith(".json") else f"{delivery}.json"


def files_of(sheet: CallSheet) -> tuple[str, ...]:
    """The files beside the calls: the picture that is known, or the crops."""
    names = (sheet.picture, *(crop.file for crop in sheet.crops))
    return tuple(dict.fromkeys(name for name in names if name))


def sheet_from_bytes(name: str, data: bytes) -> CallSheet:
    """The calls of a file's content; ``name``: the file's, by whose suffix it is read. InputError for what is none."""
    try:
        read = _from_json if name.lower().endswith(".json") else _from_csv
        board, rows = read(data)
        calls, crops = _calls(rows)
        stem = Path(name).stem
        picture = picture_name(board["picture"]) if board.get("picture") else ""
        if crops and picture:
            raise ValueError("a picture of the board, or crops, not both")
        return CallSheet(
            delivery=name, sha256="", unit=_text(board, "unit") or stem, is_named=bool(_text(board, "unit")),
            product=_text(board, "product"), picture=picture, calls=calls, crops=crops,
        )  # fmt: skip
    except (ValueError, RecursionError, csv.Error) as error:
        raise _wrong(name, str(error)[:300]) from error


def rejected_sheet(name: str) -> CallSheet:
    """What is answered where a file of calls cannot be read: no call of it is known."""
    return CallSheet(delivery=name, sha256="", unit=Path(name).stem)


def picture_of(sheet: CallSheet, there: Container[str]) -> str:
    """The board's picture: as the calls name it, else that of the same name; empty where none is there.

    InputError where there are several. ``there``: the names of the files beside the calls.
    """
    if sheet.picture or sheet.crops:
        return sheet.picture
    stem = Path(sheet.delivery).stem
    found = [f"{stem}{one}" for one in (*PICTURES, *(one.upper() for one in PICTURES)) if f"{stem}{one}" in there]
    if len(found) > 1:
        raise InputError(
            expected=f"one picture of the name {stem}", received=", ".join(found), fix="name it in the calls: picture"
        )
    return found[0] if found else ""


def _wrong(name: str, what: str) -> InputError:
    return InputError(
        expected="calls as docs/reference/calls.md has them", received=f"{name}: {what}", fix="correct what writes them"
    )


def _from_json(data: bytes) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    found = loads_once(data.decode("utf-8-sig"))
    if not isinstance(found, dict) or not isinstance(found.get("calls"), list):
        raise ValueError('no object with "calls", a list')  # noqa: TRY004  # told as such
    if more := set(found) - BOARD_KEYS:
        raise ValueError(f"the unknown key {min(more)[:80]}")
    rows = found["calls"]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a call that is no object")
    return found, rows


def _from_csv(data: bytes) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    text = _text_of_table(data)
    first = text.splitlines()[0] if text.strip() else ""
    mark = max(",;\t", key=first.count)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))
    names = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not {"id", "x", "y", "w", "h"} <= set(names):
        raise ValueError(f"a first line without id, x, y, w, h: {first[:120]}")
    if len(set(names)) < len(names):
        raise ValueError(f"a column twice: {first[:120]}")
    if more := set(names) - CALL_KEYS - BOARD_KEYS:
        raise ValueError(f"the unknown column {min(more)[:80]}")
    found = []
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            raise ValueError(f"line {number} with {len(row)} cells; the first line has {len(names)}")
        found.append(dict(zip(names, (cell.strip() for cell in row), strict=True)))
    board = {}
    for name in ("unit", "product", "picture"):
        said = {row[name] for row in found if row.get(name)}
        if len(said) > 1:
            raise ValueError(f"calls of more than one {name}: {', '.join(sorted(said)[:3])}")
        board[name] = said.pop() if said else ""
    # a comma that ends whole numbers in a table of semicolons
    decimal = (lambda cell: cell.replace(",", ".")) if mark != "," else str
    numbers = {"x", "y", "w", "h", "crop_x", "crop_y"}
    read = [{k: decimal(v) if k in numbers else v for k, v in row.items() if k in CALL_KEYS and v} for row in found]
    return board, list(read)


def _text_of_table(data: bytes) -> str:
    """UTF-8, else what Windows writes; without Excel's line that names the separator."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252")
    first, _, rest = text.partition("\n")
    return rest if first.strip().strip('"').lower().startswith("sep=") else text


def _calls(rows: list[Mapping[str, Any]]) -> tuple[tuple[Call, ...], tuple[Crop, ...]]:
    if len(rows) > MOST_CALLS:
        raise ValueError(f"{len(rows)} calls; {MOST_CALLS} at most")
    calls: dict[str, Call] = {}
    crops: dict[tuple[str, int, int], Crop] = {}
    for row in rows:
        if more := set(row) - CALL_KEYS:
            raise ValueError(f"the unknown key {min(more)[:80]}")
        call = _call(row)
        if call.id in calls:
            raise ValueError(f"the call {call.id} twice")
        calls[call.id] = call
        if row.get("crop"):
            name = picture_name(row["crop"])
            x, y = (
                math.floor(_number(row, key, side))
                for key, side in zip(("crop_x", "crop_y"), call.box_xywh, strict=False)
            )
            known = crops.get((name, x, y), Crop(file=name, calls=(), at_xy=(x, y)))
            crops[(name, x, y)] = replace(known, calls=(*known.calls, call.id))
    on_crops = sum(len(crop.calls) for crop in crops.values())
    if on_crops not in (0, len(calls)):
        raise ValueError("crops of some calls, and none of others")
    return tuple(calls.values()), tuple(crops.values())


def _call(row: Mapping[str, Any]) -> Call:
    identity = row.get("id")
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or not str(identity).strip():
        raise ValueError("a call without its id")
    x, y, w, h = (_number(row, key) for key in ("x", "y", "w", "h"))
    if w <= 0 or h <= 0:
        raise ValueError(f"the call {identity} of {w:g}x{h:g}")
    left, top = math.floor(x), math.floor(y)
    box = (left, top, max(math.ceil(x + w) - left, 1), max(math.ceil(y + h) - top, 1))
    said = _text(row, "truth").lower()
    if said not in TRUTHS:
        raise ValueError(f"the call {identity} with truth {said[:40]}: real or false")
    return Call(
        id=str(identity).strip()[:MOST_TEXT], box_xywh=box, kind=_text(row, "class"), component=_text(row, "part"),
        truth=TRUTHS[said],
    )  # fmt: skip


def _number(row: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = row.get(key, default)
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not abs(found) <= FARTHEST_PX:
        raise ValueError(f"a call with {key} {str(value)[:40]}: a number of pixels")
    return found


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{key} that is no text")  # noqa: TRY004  # told as such
    return str(value).strip()[:MOST_TEXT]


def file_name(value: Any) -> str:
    """The name of a file beside the calls; ValueError for one that lies elsewhere."""
    beside = isinstance(value, str) and Path(value).name == value and not {"\\", "\0"} & set(value)
    if not beside or value.startswith(".") or len(value.encode("utf-8", "replace")) > MOST_TEXT:
        raise ValueError(f"the file {str(value)[:80]}: a name beside the calls, without a folder")
    return str(value)


def picture_name(value: Any) -> str:
    """The name of a picture beside the calls; ValueError for another file."""
    name = file_name(value)
    if Path(name).suffix.lower() not in PICTURES:
        raise ValueError(f"the picture {name}: one of {' '.join(PICTURES)}")
    return name
