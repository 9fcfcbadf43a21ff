"""Score by what passes of their own have seen: the largest attention that anything fed behind the context pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from flowmm.context import Evidence, LayerCache
from flowmm.scores.value_norm import value_norm


@dataclass(frozen=True)
class Observed:
    """``max over passes of max over queries of alpha``: KVzip's score (arXiv 2505.23416) over any passes.

    A slot is worth what the query that needs it most pays to it, so several passes are joined by the element-wise
    largest: one that does not ask for a slot then does not count against it.

    Attributes:
        passes: whose observations: "reconstruct", "reconstruct_relative", "probes", "gate", "scout".
        times_value_norm: weigh by ``|W_O v|``, as KVzip+ does.
    """

    passes: Annotated[list[str], Field(min_length=1)]
    times_value_norm: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """One need for each pass."""
        return frozenset(f"observed.{name}" for name in self.passes)

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        assert evidence is not None  # compress checks what a rule needs
        seen = torch.stack([evidence.observed[name].to(layer.keys.device) for name in self.passes]).amax(0)
        return seen * value_norm(layer, evidence) if self.times_value_norm else seen
