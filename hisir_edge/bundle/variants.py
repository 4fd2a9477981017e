"""Places where good boards differ: what each looks like there, stored as one picture of a bundle or of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hisir_edge.arrays import U8, Bool, u8
from hisir_edge.errors import BundleError

MOST_PLACES, MOST_LOOKS, MOST_SIDE_PX = 256, 8, 120


class PlaceModel(BaseModel):
    """A place of the golden image, in the network's pixels, where good boards look in one of several ways.

    ``looks``: which of them each good board that it was learnt from shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(gt=0, le=MOST_SIDE_PX)
    height: int = Field(gt=0, le=MOST_SIDE_PX)
    variants: int = Field(ge=2, le=MOST_LOOKS)
    looks: tuple[int, ...]
    usual_levels: float = Field(ge=0.1, le=255, description="mean difference of a good board from its own variant")


@dataclass(frozen=True, kw_only=True)
class Place:
    """See ``PlaceModel``: ``pictures`` (k, h, w, 3) uint8, ``deviation`` (h, w) of boards of one look, in steps.

    The pictures are alike where the place does not reach.
    """

    model: PlaceModel
    pictures: U8 = field(repr=False)
    deviation: U8 = field(repr=False)

    @cached_property
    def inside(self) -> Bool:
        """The pixels (h, w) of the box that the variants differ in."""
        differs: Bool = (self.pictures != self.pictures[:1]).any((0, 3))
        return differs

    @property
    def rows(self) -> slice:
        """Of the golden image."""
        return slice(self.model.y, self.model.y + self.model.height)

    @property
    def columns(self) -> slice:
        """Of the golden image."""
        return slice(self.model.x, self.model.x + self.model.width)


def atlas_from_places(places: tuple[Place, ...]) -> U8:
    """One picture RGB of all places, one below the other: the variants of each and, at the right, its deviation."""
    strips = [np.hstack([*one.pictures, np.repeat(one.deviation[..., None], 3, 2)]) for one in places]
    out = np.zeros((sum(map(len, strips)), max(strip.shape[1] for strip in strips), 3), np.uint8)
    y = 0
    for strip in strips:
        out[y : y + len(strip), : strip.shape[1]] = strip
        y += len(strip)
    return out


def places_from_atlas(atlas: U8, models: tuple[PlaceModel, ...], golden_hw: tuple[int, int]) -> tuple[Place, ...]:
    """Read ``atlas_from_places`` again; BundleError where the picture does not hold them, or one lies off the image."""
    wanted = sum(one.height for one in models), max((one.variants + 1) * one.width for one in models)
    boards = len(models[0].looks)
    off = [m for m in models if _is_off(m, golden_hw) or len(m.looks) != boards]
    if atlas.shape[:2] != wanted or off:
        raise BundleError(
            expected=f"{wanted[1]}x{wanted[0]} px of pictures of {len(models)} places within the golden image",
            received=f"one of {atlas.shape[1]}x{atlas.shape[0]}, {len(off)} places that are none",
            fix="build the bundle again",
        )
    found, y = [], 0
    for one in models:
        strip = atlas[y : y + one.height, : (one.variants + 1) * one.width]
        stack = np.stack(np.split(strip, one.variants + 1, 1))
        found.append(Place(model=one, pictures=u8(stack[:-1]), deviation=u8(stack[-1, ..., 0].copy())))
        y += one.height
    _check_apart(found, golden_hw)
    return tuple(found)


def _is_off(one: PlaceModel, golden_hw: tuple[int, int]) -> bool:
    unknown = any(not 0 <= look < one.variants for look in one.looks)
    return unknown or one.x + one.width > golden_hw[1] or one.y + one.height > golden_hw[0]


def _check_apart(places: list[Place], golden_hw: tuple[int, int]) -> None:
    """BundleError for places that overlap, or whose variants are one: what a frame shows would not be known."""
    covered: Bool = np.zeros(golden_hw, np.bool_)
    for place in places:
        here = covered[place.rows, place.columns]
        if not place.inside.any() or here[place.inside].any():
            raise BundleError(
                expected="places with variants that lie apart and differ",
                received=f"one at {place.model.x},{place.model.y} that does not",
                fix="build the bundle again",
            )
        here[place.inside] = True


def paste(cue: U8, at_yx: tuple[int, int], place: Place, picture: U8) -> None:
    """Put one look of a place, (h, w, 3), and its deviation into a crop (t, t, 4) of the board memory."""
    model, (y, x), (h, w) = place.model, at_yx, cue.shape[:2]
    top, bottom = max(model.y - y, 0), min(model.y + model.height - y, h)
    left, right = max(model.x - x, 0), min(model.x + model.width - x, w)
    if top >= bottom or left >= right:
        return
    part = (slice(top + y - model.y, bottom + y - model.y), slice(left + x - model.x, right + x - model.x))
    inside, target = place.inside[part], cue[top:bottom, left:right]
    target[inside, :3] = picture[part][inside]
    target[inside, 3] = place.deviation[part][inside]
