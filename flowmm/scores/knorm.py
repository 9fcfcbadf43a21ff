"""Score by the length of the key (Knorm)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowmm.context import Evidence, LayerCache


@dataclass(frozen=True)
class KNorm:
    """Short keys attract attention: ``-|k|_2`` (arXiv 2406.11430, section 3)."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        length: Tensor = torch.linalg.vector_norm(layer.keys.float(), dim=-1)
        return -length
