"""Score by age, so that the newest slots stay (StreamingLLM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowmm.context import Evidence, LayerCache


@dataclass(frozen=True)
class Recency:
    """The later the token, the higher (StreamingLLM, arXiv 2309.17453; its sinks are always protected)."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        return layer.position.float()
