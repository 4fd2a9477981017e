"""What a machine has already, as ``pip list`` says it there, and what of the locks can be left out for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from zipfile import ZipFile

from installed import STAND_INS
from locks import Pin, Target
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


def installed_from_list(path: Path) -> dict[str, str]:
    """Canonical names and versions from ``pip list`` in any of its formats; a name alone has version "".

    ValueError where a line is none of these.
    """
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        return {canonicalize_name(one["name"]): one["version"] for one in json.loads(text)}
    found = {}
    for line in text.splitlines():
        words = re.split(r"==|\s+", line.strip())
        if not line.strip() or line.startswith(("#", "---", "Package ")) or " @ " in line:
            continue
        if not re.fullmatch(r"[A-Za-z0-9._-]+", words[0]):
            raise ValueError(f"expected lines of 'pip list' in {path}; got {line!r}")
        found[canonicalize_name(words[0])] = words[1] if len(words) > 1 else ""
    return found


def left_out(
    pins: dict[str, Pin], have: dict[str, str], wheels: list[Path], target: Target, extras: list[str]
) -> dict[str, str]:
    """Of ``pins`` those that are there, in a version that all of ``wheels`` are content with: name -> version there.

    A version that is not known ("") is taken as it is; the installer looks at it there.
    """
    wanted = [one for wheel in wheels for one in requirements_of(wheel, target, extras)]
    found = {}
    for name in pins:
        there = next((one for one in (name, *STAND_INS.get(name, ())) if one in have), None)
        if there is None:
            continue
        specifiers = [one.specifier for one in wanted if canonicalize_name(one.name) == name]
        if all(_allows(specifier, have[there]) for specifier in specifiers):
            found[name] = have[there]
    return found


def requirements_of(wheel: Path, target: Target, extras: list[str]) -> list[Requirement]:
    """What a wheel requires on the target, with these extras of its own."""
    with ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        raw, _ = parse_email(archive.read(name))
    found = []
    for text in raw.get("requires_dist", []):
        try:
            one = Requirement(text)
        except InvalidRequirement:
            continue
        environments = [target.markers() | {"extra": extra} for extra in ("", *extras)]
        if one.marker is None or any(one.marker.evaluate(environment) for environment in environments):
            found.append(one)
    return found


def _allows(specifier, version: str) -> bool:
    if not version:
        return True
    try:
        return specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False
