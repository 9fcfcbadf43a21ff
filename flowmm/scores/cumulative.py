"""Score by all the attention a slot received while the context was read (H2O)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowmm.context import Evidence, LayerCache


@dataclass(frozen=True)
class Cumulative:
    """Column sums of the attention map, mean over the query heads of the group (H2O, arXiv 2306.14048)."""

    needs: ClassVar[frozenset[str]] = frozenset({"cumulative"})

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        assert evidence is not None  # compress checks what a rule needs
        assert evidence.cumulative is not None
        return evidence.cumulative.to(layer.keys.device)
