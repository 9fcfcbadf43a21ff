"""Visual tokens that an early layer's text does not look at go first, in every layer (HAE)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowmm.blocks import attention_blocks, visible
from flowmm.budgets.choose import Ranking, choose
from flowmm.budgets.looking import looking, visual_tokens
from flowmm.errors import UsageError


@dataclass(frozen=True)
class Broadcast:
    """Dual-attention pruning (HAE, arXiv 2602.02197): judged in one layer, broadcast to all.

    A visual token stays when its share of the attention that text queries pay to visual tokens is above ``threshold``,
    or the most that one of them pays to it is; both of attention averaged over heads. The paper takes all text
    queries; here a sample (``observe: sample``). It keeps whatever passes; here the budget is met exactly: among those
    that pass the scores decide, and pruned tokens come back, best first, where a budget is larger than what passes.

    Attributes:
        source: index of the layer that judges.
        threshold: r of the paper.
    """

    counted: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"sample"})
    source: Annotated[int, Field(ge=0)] = 0
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.0015

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer, ``count`` slots of each head."""
        layers = list(rankings)
        if self.source >= len(layers):
            what = f"the allocation rule 'broadcast' judges by layer {self.source}, but the model has {len(layers)}"
            raise UsageError(what, "Lower the rule's source; layers are counted from 0.")
        pruned = unseen(layers[self.source], self.threshold)
        for ranking in layers:
            passes = ~pruned[ranking.layer.position.long()]
            tier = torch.where(passes, 1, 0).masked_fill(ranking.protected, 2).masked_fill(~ranking.living, -1)
            yield choose(ranking.scores, tier, ranking.count)


def unseen(ranking: Ranking, threshold: float) -> Tensor:
    """``[T]`` bool: visual tokens that pass neither criterion."""
    visual, layer = visual_tokens(ranking), ranking.layer
    if not bool(visual.any()):
        return visual
    queries, index = looking(ranking, visual=False)
    assert ranking.evidence is not None
    total, most = torch.zeros(2, len(visual), device=visual.device).unbind()
    allowed = visible(layer.position, index, layer.window)
    for _, attention in attention_blocks(queries, layer.keys, ranking.evidence.scale, allowed, layer.logit_bias):
        mean = attention.mean((0, 1))  # [b, S]
        total += mean.sum(0)
        most = most.maximum(mean.amax(0))
    share = total / total[visual].sum().clamp_min(torch.finfo(total.dtype).tiny)
    return visual & (share <= threshold) & (most <= threshold)
