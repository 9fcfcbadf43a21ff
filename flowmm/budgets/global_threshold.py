"""One threshold over the slots of all layers and heads (KVzip)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowmm.budgets.alive import alive, best_of_tokens
from flowmm.budgets.choose import OUT_OF_SIGHT, Ranking, choose
from flowmm.context import Modality
from flowmm.errors import UsageError

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class GlobalThreshold:
    """The highest scores of all layers and heads together; heads keep different numbers (KVzip, arXiv 2505.23416).

    Only for scores that mean the same everywhere, such as attention; the guards come before the threshold.

    Attributes:
        floor: a head keeps at least this share of the ``count`` that a uniform budget would give it.
        modality_floor: in each head, text and images each keep at least this share of what chance would leave them,
            which is ``count`` times their share of the head's free slots.
        alive: this share of the tokens, the highest by their best score in any layer and head, keeps that slot
            (against eviction from every head: Physics of KV compression, arXiv 2603.01426).
        head_weight: scores count times the profile's ``head_weight``, if it has one: attention in a head that answers
            hardly need is worth less. Negative scores are refused: a small weight would make them count more.
        shared_tokens: with ``head_weight``, what a token is worth in the head that needs it most, it is worth in every
            head, times that head's weight: where answers take several steps, the heads of the later ones need what no
            probe makes them look at. Without measured weights all heads would keep the same, so then it does nothing.
        head_budget: the floor is a share of what the profile's ``head_budget`` gives each head, if it has one.
    """

    counted: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    floor: Share = 0.0
    modality_floor: Share = 0.0
    alive: Share = 0.0
    head_weight: bool = False
    shared_tokens: bool = False
    head_budget: bool = False

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer; all together exactly as many slots as a uniform budget keeps."""
        layers = [self._weighted(ranking) for ranking in rankings]
        best = best_of_tokens(layers)
        guards = alive(layers, self.alive, best)  # guards go by what each head itself needs
        tiers = [self._tier(ranking, guard).flatten() for ranking, guard in zip(layers, guards, strict=True)]
        if self.shared_tokens:
            layers = [self._shared(ranking, best) for ranking in layers]
        scores = torch.cat([ranking.scores.flatten() for ranking in layers])
        total = sum(ranking.count * ranking.scores.shape[0] for ranking in layers)
        kept = choose(scores[None], torch.cat(tiers)[None], total)[0]
        for ranking, mine in zip(layers, torch.split(kept, [len(tier) for tier in tiers]), strict=True):
            yield mine.view_as(ranking.scores)

    def _weighted(self, ranking: Ranking) -> Ranking:
        if not self.head_weight or ranking.head_weights is None:
            return ranking
        if bool((ranking.scores[ranking.free] < 0).any()):
            what = "head_weight needs scores of at least 0, but the method's scoring rule gives negative ones"
            raise UsageError(what, "Score by attention, or leave head_weight out.")
        weights = ranking.head_weights.to(ranking.scores.device)[:, None]
        scores = torch.where(ranking.scores > OUT_OF_SIGHT, ranking.scores * weights, ranking.scores)
        return replace(ranking, scores=scores)

    def _shared(self, ranking: Ranking, best: Tensor) -> Ranking:
        if not self.head_weight or ranking.head_weights is None:
            return ranking
        anywhere = best[ranking.layer.position.long()] * ranking.head_weights.to(best.device)[:, None]
        seen = ranking.living & (ranking.scores > OUT_OF_SIGHT)
        return replace(ranking, scores=torch.where(seen, ranking.scores.maximum(anywhere), ranking.scores))

    def _tier(self, ranking: Ranking, guarded: Tensor) -> Tensor:
        """``[H_kv, S]``: 2 for protected slots, 1 for guarded ones, 0 for others, -1 for padding."""
        plain = (ranking.living.int() - 1).masked_fill(ranking.protected, 2)
        guarded = guarded | choose(ranking.scores, plain, self._floor(ranking))
        free = ranking.free  # what no later token sees is worth no guard
        for modality in (Modality.TEXT, Modality.VISUAL):
            mine = free & (ranking.layer.modality == modality)
            expected = ranking.count * mine.sum(1) / free.sum(1).clamp_min(1)  # [H_kv]
            guarded = guarded | choose(ranking.scores, mine.int() - 1, (self.modality_floor * expected).round())
        return torch.where(guarded & free, 1, plain)

    def _floor(self, ranking: Ranking) -> int | Tensor:
        """Slots that a head keeps whatever the threshold, or ``[H_kv]`` of each head."""
        if not self.head_budget or ranking.head_counts is None:
            return round(self.floor * ranking.count)
        return (self.floor * ranking.head_counts.double()).round().long().to(ranking.scores.device)
