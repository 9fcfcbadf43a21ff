"""Merge evicted slots that are similar enough to a kept one, weighed by similarity (D2O)."""

from __future__ import annotations

from dataclasses import dataclass
from math import e

import torch
from torch import Tensor

from flowmm.context import LayerCache
from flowmm.merges.matching import Match, free_pivots, matches
from flowmm.merges.means import AveragesKeys, Means
from flowmm.merges.selection import Selection, take


@dataclass(frozen=True)
class D2O(AveragesKeys):
    """Slots s whose largest cosine u to a kept key reaches tau join it: ``(e c + sum exp(u) s) / (e + sum exp(u))``.

    D2O (arXiv 2406.13035): tau starts as the mean of u over a head's evicted slots, and follows them by an
    exponential moving average while answers are decoded. A context is compressed once, so tau is what it starts as.
    """

    def __call__(self, selection: Selection) -> tuple[LayerCache, int]:
        """The kept slots, some of them merged, and how many slots were merged into them."""
        layer, small = selection.layer, take(selection.layer, selection.kept)
        rotation = self.rotation(selection)
        found = list(matches(selection, free_pivots(selection), rotation))
        means = Means(small, torch.full(small.position.shape, e, device=small.keys.device), rotation)
        threshold = mean_similarity(found) if found else 0.0
        for match in found:
            joins = match.found & (match.similarity >= threshold)
            means.add(layer, match.slot, match.pivot, torch.where(joins, match.similarity.exp(), 0.0))
        return means.layer(), means.joined


def mean_similarity(found: list[Match]) -> Tensor:
    """``[H_kv, 1]`` mean cosine of a head's evicted slots to their nearest kept key."""
    similarity, there = (
        torch.cat([getattr(match, name) for match in found], dim=1) for name in ("similarity", "found")
    )
    return similarity.masked_fill(~there, 0).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp_min(1)
