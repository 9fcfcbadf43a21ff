"""Score by chance: what any other rule must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowmm.context import Evidence, LayerCache


@dataclass(frozen=True)
class Random:
    """Uniform in 0..1, drawn anew for each head."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        # Drawn on the CPU, so that every device keeps the same slots.
        drawn = torch.rand(layer.position.shape, generator=torch.Generator().manual_seed(seed))
        return drawn.to(layer.keys.device)
