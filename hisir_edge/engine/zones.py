"""Zones as an engineer writes them: a JSON list beside the training data."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hisir_edge.bundle.manifest import ZoneModel
from hisir_edge.errors import InputError

_ZONES = TypeAdapter(tuple[ZoneModel, ...])


def zones_from_json(path: Path) -> tuple[ZoneModel, ...]:
    """Read zones; InputError names the first fault, names must differ."""
    fix = 'write [{"name": "fiducial", "polygon": [[10, 10], [90, 10], [90, 90]], "sensitivity": 0}]'
    try:
        zones = _ZONES.validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(expected="a JSON list of zones", received=f"{path} ({error.strerror})", fix=fix) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            expected="a JSON list of zones", received=f"{path}: {where}: {first['msg']}", fix=fix
        ) from error
    names = [zone.name for zone in zones]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(expected="zones with different names", received=", ".join(twice), fix=f"rename them in {path}")
    return zones
