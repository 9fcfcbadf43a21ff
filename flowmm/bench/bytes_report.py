"""What `flowmm bench bytes` found, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowmm.bench.quality_report import Result
from flowmm.bench.quality_rows import SCHEMA_VERSION


@dataclass(frozen=True)
class Level:
    """What was measured at one number of bytes."""

    left: float  # share of the full cache's bytes in 16 bits that a file may have
    results: tuple[Result, ...]  # one a precision
    best: Result | None  # of these; the first one of equals
    planner: Result | None
    score: str

    @property
    def behind(self) -> float | None:
        """Points (0 to 100) by which the best precision scores above what the planner took."""
        if self.best is None or self.planner is None:
            return None
        return 100 * (self.best.scores.marks[self.score] - self.planner.scores.marks[self.score])

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "left": self.left,
            "reduce": round(1 - self.left, 9),
            "best": None if self.best is None else self.best.key.kv_dtype,
            "best_retention": None if self.best is None else self.best.retention,
            "planner": None if self.planner is None else list(self.planner.stored),
            "planner_retention": None if self.planner is None else self.planner.retention,
            "planner_behind_points": self.behind,
        }


@dataclass(frozen=True)
class BytesReport:
    """A whole run."""

    model: str
    device: str
    dtype: str
    suite: str
    suite_hash: str
    contexts: int
    seed: int
    score: str  # which mark is compared
    method: str
    profile: str
    full: Result
    results: tuple[Result, ...]  # a share of the bytes in a precision each
    planner: tuple[Result, ...]  # a share of the bytes each, the precision being the planner's
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def levels(self) -> list[Level]:
        """The shares of the bytes, largest first."""
        shares = sorted({one.key.keep for one in (*self.results, *self.planner) if one.key.keep}, reverse=True)
        return [self._level(share) for share in shares]

    def _level(self, share: float) -> Level:
        here = tuple(one for one in self.results if one.key.keep == share)
        best = max(here, key=lambda one: one.scores.marks[self.score], default=None)
        chosen = next((one for one in self.planner if one.key.keep == share), None)
        return Level(share, here, best, chosen, self.score)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "device": self.device,
            "dtype": self.dtype,
            "suite": self.suite,
            "suite_hash": self.suite_hash,
            "contexts": self.contexts,
            "seed": self.seed,
            "score": self.score,
            "method": self.method,
            "profile": self.profile,
            "full": self.full.as_dict(),
            "results": [_by_bytes(one) for one in self.results],
            "planner": [_by_bytes(one) for one in self.planner],
            "levels": [one.as_dict() for one in self.levels],
            "refused": dict(self.refused),
        }


def _by_bytes(one: Result) -> dict[str, Any]:
    """A result whose share is one of bytes."""
    found = one.as_dict()
    left = found.pop("keep")
    return {"left": left, **found, "stored": list(one.stored)}
