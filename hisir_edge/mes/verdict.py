"""A verdict as a subscriber reads it, whatever schema version the line writes. Needs the standard library alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hisir_edge.errors import InputError

RESULTS = {"Passed": "PASS", "Failed": "FAIL", "Error": "ERROR", "Aborted": "ERROR", "Skipped": "ERROR"}
"""CFX's OverallResult to ours: what was not judged is an ERROR, whatever it is called."""
MAJORS = (1, 2)
EPOCH, NAME = re.compile("[0-9a-f]{1,32}"), re.compile("[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One region: box in pixels of ``camera``'s frame, area, peak (1.0 = pixel threshold), contour.

    ``confidence``: 1 to 100, None before schema 2; ``component``: reference designator, empty where none is known;
    ``box_mm``: x, y, w, h on the board, None where the bundle knows no scale. ``priority``: 1, 2, ... by its peak, by
    which ``verify`` names it.
    """

    x: int
    y: int
    w: int
    h: int
    area_px: int
    peak: float
    contour: tuple[tuple[int, int], ...] = field(repr=False)
    confidence: float | None = None
    component: str = ""
    camera: str = ""
    box_mm: tuple[float, float, float, float] | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One verdict: frames off the wire, and what they say. ``missed`` of this publisher's did not arrive before it.

    ``text`` is the JSON as it was published, to the byte; ``mask`` a 1-bit PNG (of ``rle/`` topics: run lengths, see
    ``mes.mask``), empty where nothing is marked and for ERROR; ``overlay`` a JPEG, of ``overlay/`` topics alone.
    """

    topic: str
    text: bytes = field(repr=False)
    mask: bytes = field(repr=False)
    body: dict[str, Any] = field(repr=False, compare=False)
    missed: int = 0
    overlay: bytes = field(default=b"", repr=False)

    @property
    def line(self) -> str:
        """The line's name."""
        return str(self.body["line"])

    @property
    def epoch(self) -> str:
        """The life of the line's journal."""
        return str(self.body["epoch"])

    @property
    def seq(self) -> int:
        """1, 2, 3, ... within the epoch."""
        return int(self.body["seq"])

    @property
    def time(self) -> str:
        """When it was given, RFC 3339."""
        return str(self.body["TimeStamp" if "TimeStamp" in self.body else "time"])

    @property
    def unit(self) -> str:
        """The board."""
        return str(self._unit["UnitIdentifier"] if self._unit else self.body["unit"])

    @property
    def result(self) -> str:
        """PASS, FAIL or ERROR: of several units the worst, and ERROR for what this reader does not know."""
        units = self.body.get("InspectedUnits")
        of_units = [RESULTS.get(unit["OverallResult"], "ERROR") for unit in units] if units else [self.body["result"]]
        if all(result == "PASS" for result in of_units):
            return "PASS"
        return "FAIL" if set(of_units) <= {"PASS", "FAIL"} else "ERROR"

    @property
    def reason(self) -> str:
        """Why FAIL or ERROR; empty for PASS."""
        return str(self._vision["reason"])

    @property
    def score(self) -> float | None:
        """Peak of the anomaly map, 1.0 = pixel threshold; None for ERROR."""
        value = self._vision["score"]
        return None if value is None else float(value)

    @property
    def product(self) -> str:
        """The product it was inspected as."""
        return str(self.body["RecipeName" if "RecipeName" in self.body else "product"])

    @property
    def bundle_sha256(self) -> str:
        """SHA-256 of the bundle's manifest."""
        return str(self.body["RecipeRevision" if "RecipeRevision" in self.body else "bundle_sha256"])

    @property
    def camera(self) -> str:
        """The camera, the first where several look at a board."""
        return str(self._unit["Inspections"][0]["InspectionName"] if self._unit else self.body["source"])

    @property
    def frame_id(self) -> int:
        """The first camera's own number of its frame."""
        return int(self._first["frame_id"])

    @property
    def frame_wh(self) -> tuple[int, int] | None:
        """Size of the first camera's frame; None where none came."""
        size = self._first["frame"]
        return None if size is None else (int(size["width"]), int(size["height"]))

    @property
    def defects_total(self) -> int:
        """How many regions there are; ``defects`` holds the 256 strongest."""
        return int(self._vision["defects_total" if self._unit else "regions_total"])

    @property
    def defects(self) -> tuple[Defect, ...]:
        """The regions, the strongest first."""
        if not self._unit:
            return tuple(_defect_of_1(n, region, self.camera) for n, region in enumerate(self.body["regions"], 1))
        inspections = self._unit["Inspections"]
        found = [(d, one["InspectionName"]) for one in inspections for d in one["DefectsFound"]]
        return tuple(_defect(d, camera) for d, camera in sorted(found, key=lambda one: int(one[0]["Priority"])))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was unusual in how frames were taken, each behind its camera's name; from schema 2.3 on."""
        return tuple(f"{one['camera']}: {one['text']}" for one in self._vision.get("warnings", ()))

    @property
    def optics(self) -> dict[str, Any]:
        """How the first camera's frame was taken (blur_px, brightness, white_share); empty before 2.3."""
        found: dict[str, Any] = self._first.get("optics") or {}
        return found

    @property
    def looked_share(self) -> float | None:
        """The share of the first camera's tiles that the whole network saw; None where none was, or before 2.4."""
        share = self._first.get("looked_share")
        return None if share is None else float(share)

    @property
    def times_s(self) -> dict[str, float]:
        """Seconds in each stage, and ``total``."""
        times: dict[str, float] = self._vision["times_s"]
        return times

    @property
    def total_s(self) -> float:
        """Seconds from frame to judgement."""
        return float(self.times_s["total"])

    @property
    def _unit(self) -> dict[str, Any]:
        units: list[dict[str, Any]] = self.body.get("InspectedUnits") or [{}]
        return units[0]

    @property
    def _vision(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["vision"] if self._unit else self.body
        return found

    @property
    def _first(self) -> dict[str, Any]:
        found: dict[str, Any] = self._unit["Inspections"][0]["vision"] if self._unit else self.body
        return found


def verdict_from_frames(frames: list[bytes], missed: int = 0) -> Verdict:
    """Decode ``topic | JSON [| mask [| overlay]]``; InputError for anything that is no verdict of a version known."""
    try:
        topic, text, mask, overlay = [*frames, b"", b""][:4] if 2 <= len(frames) <= 4 else frames[:0]
        body = json.loads(text)
        family, _, version = str(body["schema"]).rpartition("/")
        if family != "hisir-edge/verdict" or int(version.split(".")[0]) not in MAJORS:
            raise ValueError(f"schema {body['schema']}")
        found = Verdict(topic=topic.decode(), text=text, mask=mask, body=body, missed=missed, overlay=overlay)
        _check(found)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise InputError(
            expected="a verdict (topic, JSON, mask) of schema 1 or 2",
            received=f"{len(frames)} frame(s) that are none: {type(error).__name__} {error}"[:200],
            fix="check the address, and that this program is no older than the line's",
        ) from error
    return found


def _check(found: Verdict) -> None:
    """ValueError, or what its parts raise, where it does not hold what every verdict does."""
    if not EPOCH.fullmatch(found.epoch) or not 0 < found.seq < 2**63 or not NAME.fullmatch(found.line):
        raise ValueError("epoch, seq or line")
    texts = (found.unit, found.reason, found.product, found.bundle_sha256, found.camera, found.time, found.result)
    "".join(texts).encode()
    datetime.fromisoformat(found.time.replace("Z", "+00:00"))
    _ = (found.score, found.defects_total, found.defects, found.frame_id, found.frame_wh, found.total_s)


def _defect_of_1(number: int, region: dict[str, Any], camera: str) -> Defect:
    points = tuple((int(x), int(y)) for x, y in region["contour"])
    return Defect(
        x=region["x"],
        y=region["y"],
        w=region["w"],
        h=region["h"],
        area_px=region["area_px"],
        peak=region["peak"],
        contour=points,
        camera=region.get("view", camera),
        priority=number,
    )


def _defect(defect: dict[str, Any], camera: str) -> Defect:
    region, vision = defect["RegionOfInterest"], defect["vision"]
    px, mm = region["px"], region.get("mm")
    box_mm = None
    if mm is not None:
        xs = [mm["StartPointX"], *(point["X"] for point in mm["RegionSegments"])]
        ys = [mm["StartPointY"], *(point["Y"] for point in mm["RegionSegments"])]
        box_mm = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    part = defect.get("ComponentOfInterest") or {}
    points = tuple((int(x), int(y)) for x, y in px["contour"])
    return Defect(
        x=px["x"],
        y=px["y"],
        w=px["w"],
        h=px["h"],
        area_px=vision["area_px"],
        peak=vision["peak"],
        contour=points,
        confidence=defect["ConfidenceLevel"],
        component=part.get("ReferenceDesignator", ""),
        camera=camera,
        box_mm=box_mm,
        priority=int(defect["Priority"]),
    )
