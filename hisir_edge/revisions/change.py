"""What a person changes of a bundle without a training: its zones, and how strong a region must be to be called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from hisir_edge.bundle.manifest import Manifest, ZoneModel
from hisir_edge.bundle.thresholds import OFF_THE_BOARD, Zone
from hisir_edge.errors import InputError
from hisir_edge.inspection.gain import sensitivity_map
from hisir_edge.inspection.score import logit_of_score

MOST_ZONES = 200
COARSE = 8
"""Frame pixels a pixel of the map by which zones are weighed."""
LEAST_FACTOR, MOST_FACTOR = 0.05, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """``zones``: all of the bundle's from then on, None: as they are.

    ``strength``: a region is called from so many times the strength on that it took before; 1 changes nothing.
    """

    zones: tuple[ZoneModel, ...] | None = None
    strength: float = 1.0


def zones_from_raw(raw: object) -> tuple[ZoneModel, ...]:
    """Zones of a request: a list of name, polygon, sensitivity, outside; InputError names the first fault."""
    fix = 'send [{"name": "fiducial", "polygon": [[10, 10], [90, 10], [90, 90]], "sensitivity": 0}]'
    if not isinstance(raw, list) or len(raw) > MOST_ZONES:
        raise InputError(expected=f"a list of up to {MOST_ZONES} zones", received=str(raw)[:80], fix=fix)
    out = []
    for number, one in enumerate(raw):
        try:
            out.append(ZoneModel.model_validate(one))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the zone"
            raise InputError(
                expected="zones of name, polygon and sensitivity",
                received=f"{number}: {where}: {first['msg']}",
                fix=fix,
            ) from error
    names = [zone.name for zone in out]
    if len(set(names)) < len(names):
        raise InputError(expected="zones with different names", received=", ".join(names)[:200], fix="rename one")
    return tuple(out)


def with_change(manifest: Manifest, change: Change) -> Manifest:
    """A manifest with other zones and thresholds; InputError where nothing would change, or where it may not."""
    same = change.zones is None or change.zones == manifest.zones
    if same and change.strength == 1.0:
        raise InputError(expected="other zones, or another strength", received="the same", fix="change one of them")
    limits = manifest.thresholds
    peak = limits.region_peak * change.strength
    if not LEAST_FACTOR <= change.strength <= MOST_FACTOR or peak < 1:
        raise InputError(
            expected=f"strength of {max(1 / limits.region_peak, LEAST_FACTOR):.3g} to {MOST_FACTOR:g} times the "
            "bundle's: below it a region would be called of pixels that are no region",
            received=f"{change.strength:g}",
            fix="correct it, or build the bundle for another rate of false calls",
        )
    zones = manifest.zones if change.zones is None else change.zones
    _check_planted(manifest, change.strength / usual_sensitivity(manifest, zones))
    return manifest.model_copy(
        update={
            "thresholds": limits.model_copy(update={"region_peak": peak}),
            "zones": zones,
            "cascade": None,  # a first look was proven for the thresholds and zones of its build
        }
    )


def strength_of(manifest: Manifest) -> float:
    """The region threshold of a bundle in units of the one that its build derived."""
    return 1.0 if manifest.revision is None else manifest.revision.strength


def expected_calls(manifest: Manifest, strength: float) -> float:
    """False calls on a good board with so many times the present strength.

    By the build's rate, and by how fast the peaks of its held-out good boards thin out; both say nothing of zones.
    """
    limits = manifest.thresholds
    score = limits.pixel * limits.region_peak
    then, built = logit_of_score(np.array([score * strength, score / strength_of(manifest)]))
    return float(limits.false_calls_per_board * np.exp((built - then) / limits.tail_scale_logits))


def planted_found(manifest: Manifest, strength: float) -> float | None:
    """The share of the build's planted defects that is strong enough, where the board is quiet; None: not recorded."""
    if manifest.metrics is None:
        return None
    every = [one for of in manifest.metrics.planted_strengths.values() for one in of]
    return float(np.mean(np.array(every) >= strength * strength_of(manifest))) if every else None


def usual_sensitivity(manifest: Manifest, zones: tuple[ZoneModel, ...]) -> float:
    """The sensitivity that half of the board has at most, of what is inspected of it; 1 where nothing is."""
    recipe = manifest.recipe
    hw = (-(-recipe.frame_height // COARSE), -(-recipe.frame_width // COARSE))
    every = tuple(Zone(z.name, z.polygon, z.sensitivity, z.outside) for z in zones)
    if recipe.board_area is not None:
        every = (Zone(OFF_THE_BOARD, recipe.board_area, 0.0, outside=True), *every)
    inspected = sensitivity_map(hw, 1 / COARSE, every) if every else np.ones(hw, np.float32)
    inspected = inspected[inspected > 0]
    return float(np.median(inspected)) if len(inspected) else 1.0


def _check_planted(manifest: Manifest, strength: float) -> None:
    """InputError where less is found than the bundle was to find at least, or where that is not known."""
    metrics = manifest.metrics
    if metrics is None or strength <= 1:
        return
    found = planted_found(manifest, strength)
    if found is None:
        raise InputError(
            expected="a bundle that says how strong the build's planted defects are, for a higher strength",
            received="one that was built before bundles did",
            fix="build it again, or choose a strength of 1 at most",
        )
    if found < min(metrics.promised_recall, metrics.recall):
        raise InputError(
            expected=f"at least {metrics.promised_recall:.0%} of the build's planted defects to be found",
            received=f"{found:.0%} with {strength:.3g} times the strength over half of the board",
            fix="choose less",
        )
