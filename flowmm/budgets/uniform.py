"""The same number of slots for every layer and head, or what the model's profile gives each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from flowmm.budgets.alive import alive, best_of_tokens
from flowmm.budgets.choose import Ranking, fill


@dataclass(frozen=True)
class Uniform:
    """Protected slots, then the newest, then the highest scores.

    Attributes:
        recent: share of the budget that goes to the newest slots (H2O, arXiv 2306.14048: half; LOOK-M, arXiv
            2406.18139: as many as to the important ones, so also half).
        head_budget: give each head its share by the profile's ``head_budget``, measured once per model (attention
            matching, arXiv 2602.16284, does so); a profile without one changes nothing.
        alive: before other scores, this share of the tokens, the highest by their best score in any layer and head,
            keeps that slot (against eviction from every head: Physics of KV compression, arXiv 2603.01426).
    """

    counted: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    recent: Annotated[float, Field(ge=0, le=1)] = 0.0
    head_budget: bool = False
    alive: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer, ``count`` slots of each head, or ``head_counts``."""
        if not self.alive:  # layer by layer: scores of one layer are held at a time
            for ranking in rankings:
                yield fill(ranking, self._counts(ranking), self.recent)
            return
        layers = list(rankings)
        for ranking, guarded in zip(layers, alive(layers, self.alive, best_of_tokens(layers)), strict=True):
            yield fill(ranking, self._counts(ranking), self.recent, guarded)

    def _counts(self, ranking: Ranking) -> int | Tensor:
        by_head = ranking.head_counts if self.head_budget else None
        return ranking.count if by_head is None else by_head
