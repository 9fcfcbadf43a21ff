"""Score by how little the other keys can make up for a key (the query-free part of Compactor)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from flowmm.context import Evidence, LayerCache
from flowmm.scores.value_norm import value_norm


@dataclass(frozen=True)
class Leverage:
    """``k' (K' K + lambda I)^-1 k`` of a head's centred keys (Compactor, arXiv 2507.08143), each in 0..1.

    Computed exactly by a Cholesky factor, where the paper sketches; of keys after the rotary embedding, where the
    paper takes them before it. Nothing is recorded, and nothing of the questions is assumed.

    Attributes:
        ridge: lambda over the mean eigenvalue of ``K' K``.
        times_value_norm: weigh by ``|W_O v|``: a key that no other makes up for and that moves much when it is found.
    """

    ridge: Annotated[float, Field(gt=0)] = 1e-3
    times_value_norm: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """The weights of the values, if they count."""
        return frozenset({"value_weight"}) if self.times_value_norm else frozenset()

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        living = ~layer.padding[..., None]  # [H_kv, S, 1]
        keys = layer.keys.float()
        mean = (keys * living).sum(1, keepdim=True) / layer.lengths[:, None, None]
        keys = (keys - mean) * living
        gram = keys.mT @ keys  # [H_kv, D, D]
        size = gram.shape[-1]
        ridge = (self.ridge * gram.diagonal(dim1=-2, dim2=-1).mean(-1)).clamp_min(1e-30)  # [H_kv]
        factor, _ = torch.linalg.cholesky_ex(gram + ridge[:, None, None] * torch.eye(size, device=gram.device))
        whitened: Tensor = torch.linalg.solve_triangular(factor, keys.mT, upper=False)  # [H_kv, D, S]
        leverage = whitened.square().sum(1)
        if not self.times_value_norm:
            return leverage
        assert evidence is not None  # compress checks what a rule needs
        return leverage * value_norm(layer, evidence)
