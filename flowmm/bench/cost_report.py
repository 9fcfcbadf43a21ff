"""What `flowmm bench cost` found, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STAGES = ("observe", "passes", "select", "refit", "diagnose", "train", "compare")


@dataclass(frozen=True)
class Cost:
    """One method, once. Stages are seconds and may come out a little below 0 where they take nothing.

    ``observe`` is what the reading takes beyond a plain one, ``passes`` what is run over the model besides it,
    ``select`` is score, budget, selection and merge, ``diagnose`` what :mod:`flowmm.diagnostics` takes, ``train`` what
    training through the model does, and ``compare`` the held-out questions that every prefill asks.
    """

    method: str
    plain: float  # seconds of a plain reading (vision and prefill) just before
    stages: dict[str, float]  # seconds, by the names in STAGES
    peak_memory_bytes: int | None

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.stages.values())

    def share(self, stage: str) -> float:
        """Seconds of a stage over those of the plain reading."""
        return self.stages[stage] / self.plain

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "method": self.method,
            "plain_seconds": self.plain,
            "seconds": {**self.stages, "total": self.total},
            "over_prefill": {**{stage: self.share(stage) for stage in STAGES}, "total": self.total / self.plain},
            "peak_memory_bytes": self.peak_memory_bytes,
        }


@dataclass(frozen=True)
class CostReport:
    """All methods on one model and context."""

    model: str
    device: str
    dtype: str
    tokens: int
    visual_tokens: int
    keep: float
    repeat: int
    plain_memory_bytes: int | None  # at the peak of a plain reading
    costs: tuple[Cost, ...]
    refused: dict[str, str]  # what went wrong with methods that could not be measured

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model": self.model,
            "device": self.device,
            "dtype": self.dtype,
            "tokens": self.tokens,
            "visual_tokens": self.visual_tokens,
            "keep": self.keep,
            "repeat": self.repeat,
            "plain_peak_memory_bytes": self.plain_memory_bytes,
            "methods": [cost.as_dict() for cost in self.costs],
            "refused": dict(self.refused),
        }


def median(runs: Sequence[Cost]) -> Cost:
    """The run whose total over its plain reading is in the middle; the cheaper of two."""
    return sorted(runs, key=lambda run: run.total / run.plain)[(len(runs) - 1) // 2]
