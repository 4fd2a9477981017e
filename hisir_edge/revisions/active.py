"""Which revisions a line uses instead of its configured bundles: ``active.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hisir_edge.errors import BundleError
from hisir_edge.json_once import loads_once

SCHEMA = "hisir-edge/revisions/1.0"
ACTIVE = "active.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """A revision that is used instead of the configured bundle of a product and camera.

    ``configured_sha256``: manifest of that bundle when it was activated: where another one is configured meanwhile,
    that one counts. ``before``: number of what was in use before, 0: the configured bundle.
    """

    product: str
    camera: str
    number: int
    configured_sha256: str
    before: int


Actives = tuple[Active, ...]


def active_of(actives: Actives, product: str, camera: str) -> Active | None:
    """The active revision of a product and camera; None: the configured bundle."""
    return next((one for one in actives if (one.product, one.camera) == (product, camera)), None)


def activated(actives: Actives, product: str, camera: str, number: int, configured_sha256: str, now: int) -> Actives:
    """With this revision in use, 0: the configured bundle; ``now``: what is in use at present."""
    others = tuple(one for one in actives if (one.product, one.camera) != (product, camera))
    if not number:
        return others
    new = Active(product=product, camera=camera, number=number, configured_sha256=configured_sha256, before=now)
    return (*others, new)


def read_active(path: Path) -> tuple[int, Actives]:
    """The last number that was given, and what is active; BundleError for a damaged file."""
    try:
        raw = loads_once(path.read_bytes())
        if raw.pop("schema") != SCHEMA:
            raise ValueError(f"another schema than {SCHEMA}")
        last, actives = raw["last"], tuple(Active(**one) for one in raw["active"])
        numbers = (last, *(n for one in actives for n in (one.number, one.before)))
        texts = (text for one in actives for text in (one.product, one.camera, one.configured_sha256))
        if not all(type(n) is int and n >= 0 for n in numbers) or not all(isinstance(text, str) for text in texts):
            raise ValueError("numbers and texts of another kind")
        return last, actives
    except FileNotFoundError:
        return 0, ()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(
            expected=f"{path} as the line wrote it",
            received=f"{type(error).__name__}: {error}"[:200],
            fix="remove it to inspect with the configured bundles, then activate a revision again",
        ) from error
