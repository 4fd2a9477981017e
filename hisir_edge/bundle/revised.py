"""What a bundle says of people: which reviewed boards it was tried on, and who made it of another one, and why."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
MOST_LISTED = 100


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ReviewedModel(_Record):
    """What became of the places that people had decided on, on the boards that the training was given."""

    boards: int = Field(ge=1)
    false_calls: int = Field(ge=0, description="places that people had called good")
    gone: int = Field(ge=0, description="of these, not called any more")
    defects: int = Field(ge=0, description="places that were confirmed, repaired, or drawn as escapes")
    found: int = Field(ge=0, description="of these, called")
    not_so: tuple[str, ...] = Field(
        default=(), max_length=MOST_LISTED, description="the others, board and place; accepted with --despite-reviewed"
    )


class RevisionModel(_Record):
    """What makes a bundle a revision of another one: the bundle before, who made it of that, and why."""

    number: int = Field(ge=1, description="the line's own, in the order in which they were made")
    camera: str = Field(max_length=200, description="the camera whose frames it inspects")
    of_sha256: Sha256 = Field(description="manifest of the bundle that was in use when it was made")
    at: str = Field(max_length=40, description="when it was made, RFC 3339")
    who: str = Field(min_length=1, max_length=200)
    why: str = Field(min_length=1, max_length=500)
    strength: float = Field(default=1.0, gt=0, description="the region threshold in units of the build's")
    comparison: dict[str, float] = Field(
        default={}, max_length=40, description="figures that who made it had seen: boards tried, false calls gone, ..."
    )
