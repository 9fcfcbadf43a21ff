"""What `flowmm bench refit` found, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """What the layers are like."""

    layers: int
    heads: int  # KV heads
    slots: int
    size: int  # of a head
    group: int  # query heads of a KV head


@dataclass(frozen=True)
class RefitLayer:
    """One layer: seconds of choosing slots and of refitting them, and the refit's errors on held-out queries."""

    select_seconds: float
    refit_seconds: float
    error_before: float | None
    error_after: float | None
    heads_refitted: int


@dataclass(frozen=True)
class RefitReport:
    """All layers; both memories are of the process, the first before any layer was made."""

    method: str
    sizes: Sizes
    references: int  # tokens whose queries were recorded; each has ``group`` of them for a KV head
    keep: float
    layers: tuple[RefitLayer, ...]
    memory_before_bytes: int | None
    peak_memory_bytes: int | None

    @property
    def refit_seconds(self) -> float:
        """Of all layers."""
        return sum(layer.refit_seconds for layer in self.layers)

    @property
    def select_seconds(self) -> float:
        """Of all layers."""
        return sum(layer.select_seconds for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "method": self.method,
            **vars(self.sizes),
            "references": self.references,
            "keep": self.keep,
            "dtype": "bfloat16",
            "refit_seconds": self.refit_seconds,
            "select_seconds": self.select_seconds,
            "memory_before_bytes": self.memory_before_bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
            "per_layer": [dict(vars(layer)) for layer in self.layers],
        }
