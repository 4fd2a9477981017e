"""What the acceptance gate saw of an engine, and what may be counted on of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_LEAST_PLANTED_RECALL = 0.8
MOST_LOST_SHARE = 0.05
"""Of the planted defects so many are found or missed by chance."""


class MetricsModel(BaseModel):
    """Figures of the acceptance gate: this engine against float32 on held-out boards with planted defects."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    map_error_max: float
    map_error_p999: float
    pixel_auroc_fp32: float
    pixel_auroc: float
    aupro_fp32: float
    aupro: float
    planted: int
    recall_fp32: float
    recall: float
    clear: int
    clear_missed: int
    seen: int
    standing: float
    held_out_boards: int
    false_regions_fp32: int
    false_regions: int
    max_drop: float
    planted_by_class: dict[str, int] = Field(default={}, description="planted defects of each class")
    recall_by_class: dict[str, float] = Field(default={}, description="the share of each class that this engine finds")
    planted_strengths: dict[str, tuple[float, ...]] = Field(
        default={}, description="of each class: in units of the region threshold; 1 and more is found"
    )
    least_planted_recall: float = Field(
        default=0.0, ge=0, le=1, description="the least share of all planted defects that was asked for"
    )
    least_by_difference: bool = Field(
        default=False, description="less was enough where a golden-image difference finds less"
    )
    difference_recall: float | None = Field(
        default=None, ge=0, le=1, description="the share that a golden-image difference finds; null: not measured"
    )
    usual_planted_recall: float = Field(
        default=DEFAULT_LEAST_PLANTED_RECALL, ge=0, le=1, description="what is asked for where a difference finds more"
    )

    @property
    def promised_recall(self) -> float:
        """What may be counted on: what was asked for, or, where less was enough, nearly what is found."""
        if self.difference_recall is None:
            return self.least_planted_recall
        return max(self.least_planted_recall, self.recall - MOST_LOST_SHARE)
