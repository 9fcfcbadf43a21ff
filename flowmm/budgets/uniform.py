"""The same number of slots for every layer and head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowmm.budgets.choose import Ranking, choose


@dataclass(frozen=True)
class Uniform:
    """Protected slots, then the newest, then the highest scores.

    Attributes:
        recent: share of the budget that goes to the newest slots (H2O, arXiv 2306.14048: half).
    """

    counted: ClassVar[bool] = True
    recent: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer, ``count`` slots of each head."""
        for ranking in rankings:
            yield self._kept(ranking)

    def _kept(self, ranking: Ranking) -> Tensor:
        slot = torch.arange(ranking.living.shape[1], device=ranking.living.device)  # [S]
        end = ranking.living.sum(1, keepdim=True)  # [H_kv, 1]
        recent = ranking.living & (slot >= end - round(self.recent * ranking.count))
        tier = torch.where(recent, 1, ranking.living.int() - 1).masked_fill(ranking.protected, 2)
        order = torch.where(recent, slot.float(), ranking.scores)
        return choose(order, tier, ranking.count)
