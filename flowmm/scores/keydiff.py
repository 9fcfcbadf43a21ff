"""Score by how far a key is from the usual one (KeyDiff)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from flowmm.context import Evidence, LayerCache


@dataclass(frozen=True)
class KeyDiff:
    """``-cos(k_i, anchor)``, the anchor the mean of the head's keys, each scaled to length 1 (arXiv 2504.15364)."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        keys = F.normalize(layer.keys.float(), dim=-1)
        anchor = keys.masked_fill(layer.padding[..., None], 0).sum(1, keepdim=True)  # [H_kv, 1, D]; cos ignores length
        return -F.cosine_similarity(keys, anchor, dim=-1)
