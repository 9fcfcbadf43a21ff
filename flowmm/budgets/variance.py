"""More slots for layers whose attention is spread evenly (D2O)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowmm.budgets.choose import Ranking, fill_layers


@dataclass(frozen=True)
class Variance:
    """``softmax_l(-F_l)``, F the variance of the column sums of a layer's attention map (D2O, arXiv 2406.13035).

    Where attention is dense, the variance is low and eviction costs most. The sums are the scores, so this goes with
    ``score: cumulative``. Their scale grows with the context, and the softmax would turn into a choice of one layer;
    here each head's sums are scaled to a mean of 1, and F to a mean of 1 over the layers. Protected slots are left
    out: sinks would be nearly all of the variance.

    Attributes:
        recent: share of a layer's slots that goes to the newest ones.
    """

    counted: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    recent: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer; the heads of a layer keep equally many."""
        layers = list(rankings)
        spread = torch.tensor([variance(ranking) for ranking in layers])
        mean = spread.mean().clamp_min(torch.finfo(spread.dtype).tiny)
        yield from fill_layers(layers, (-spread / mean).softmax(0).tolist(), recent=self.recent)


def variance(ranking: Ranking) -> float:
    """The mean over heads of the variance of a head's free scores, scaled to a mean of 1."""
    free = (ranking.living & ~ranking.protected).float()
    scores = ranking.scores.clamp_min(0) * free  # out of sight is the lowest number there is
    number = free.sum(1, keepdim=True).clamp_min(1)
    mean = (scores.sum(1, keepdim=True) / number).clamp_min(torch.finfo(scores.dtype).tiny)
    return float(((scores / mean - 1).square() * free).sum(1).div(number[:, 0]).mean())
