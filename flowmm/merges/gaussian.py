"""Merge runs of neighbours with similar keys, weighed by their distance to the most attended one (KVMerger)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.budgets.choose import choose
from flowmm.context import LayerCache
from flowmm.merges.means import AveragesKeys, Means
from flowmm.merges.selection import Selection, gather, take

LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Gaussian(AveragesKeys):
    """Merging sets and Gaussian weights (KVMerger, arXiv 2407.08454, algorithm 1 and eq. 5-7).

    Neighbours join one set while ``cos(k_i, k_{i+1}) >= eps`` and neither is protected, recent or a heavy hitter. A
    set is kept as its most attended slot p, with keys and values ``sum g_i x_i / sum g_i``,
    ``g_i = exp(-|k_p - k_i|^2 / 2 sigma^2)``, sigma the mean distance of the set's other members to p.

    The paper fixes eps; here each head's eps is the one at which the sets fill the places that the budget leaves, so
    the allocation rule says how many slots a head keeps and this rule which. If protected slots part the context into
    more sets than there are places, those whose pivot scores lowest are gone. The paper leaves the first two layers
    and the last one alone; here they keep to the budget as all others.

    Attributes:
        recent: share of the kept slots that are the newest, verbatim.
        heavy: share of the kept slots with the highest scores, verbatim.
    """

    recent: Annotated[float, Field(ge=0, le=1)] = 0.25
    heavy: Annotated[float, Field(ge=0, le=1)] = 0.25

    def __call__(self, selection: Selection) -> tuple[LayerCache, int]:
        """The verbatim slots and a merged one for each set, and how many slots were merged into these."""
        layer, rotation = selection.layer, self.rotation(selection)
        keys = layer.keys if rotation is None else rotation.undone(layer.keys, layer.position)
        verbatim = self._verbatim(selection)
        places = (selection.kept.sum(1) - verbatim.sum(1)).clamp_min(0)  # [H_kv]
        loose = selection.free & ~verbatim
        pivot = pivots(selection.scores, loose, links(keys, loose, loose.sum(1) - places))
        slot = torch.arange(loose.shape[1], device=loose.device).expand_as(loose)
        is_pivot = choose(selection.scores, (loose & (pivot == slot)).int() - 1, places)
        kept = verbatim | is_pivot
        joins = loose & ~is_pivot & is_pivot.gather(1, pivot)
        weight = gaussian_weights(keys, pivot, joins)
        means = Means(take(layer, kept), rotation=rotation)
        into = (kept.long().cumsum(1) - 1).clamp_min(0).gather(1, pivot)  # index in the small layer
        widest = 4 * max(layer.keys.shape[2], layer.values.shape[2]) * layer.keys.shape[0]
        for rows in blocks(slot.shape[1], widest):
            means.add(layer, slot[:, rows], into[:, rows], weight[:, rows])
        return means.layer(), means.joined

    def _verbatim(self, selection: Selection) -> Tensor:
        """``[H_kv, S]`` bool: kept slots that may not merge, the newest, and the heavy hitters."""
        forced, most = selection.kept & ~selection.free, selection.kept.sum(1)
        slot = torch.arange(forced.shape[1], device=forced.device).float().expand_as(selection.scores)
        newest = choose(slot, selection.free.int() - 1, (self.recent * most).round())
        heavy = choose(selection.scores, (selection.free & ~newest).int() - 1, (self.heavy * most).round())
        tier = torch.where(forced, 1, (newest | heavy).int() - 1)
        return choose(selection.scores, tier, most)


def links(keys: Tensor, loose: Tensor, number: Tensor) -> Tensor:
    """The ``number`` ``[H_kv]`` most similar pairs of neighbours that are both loose.

    Returns:
        ``[H_kv, S]`` bool, True where a slot belongs to the set of the slot before it.
    """
    similarity = F.cosine_similarity(keys[:, 1:].float(), keys[:, :-1].float(), dim=-1)
    pairs = choose(similarity, (loose[:, 1:] & loose[:, :-1]).int() - 1, number)
    return F.pad(pairs, (1, 0))


def pivots(scores: Tensor, loose: Tensor, linked: Tensor) -> Tensor:
    """``[H_kv, S]`` int64: the first of the highest-scored slots of each slot's set; the slot itself if not loose."""
    number = (~(linked & loose)).long().cumsum(1) - 1  # of the set; a slot that is not loose is one by itself
    best = torch.full_like(scores, LOWEST).scatter_reduce(1, number, scores, "amax")
    slot = torch.arange(scores.shape[1], device=scores.device).expand_as(number)
    candidate = torch.where(scores == best.gather(1, number), slot, scores.shape[1] - 1)
    first = torch.full_like(number, scores.shape[1] - 1).scatter_reduce(1, number, candidate, "amin")
    return first.gather(1, number)


def gaussian_weights(keys: Tensor, pivot: Tensor, joins: Tensor) -> Tensor:
    """``[H_kv, S]`` float32: ``exp(-d^2 / 2 sigma^2)`` of the slots that join a pivot, 0 of all others."""
    distance = torch.zeros(joins.shape, device=keys.device)
    for rows in blocks(joins.shape[1], 4 * keys.shape[0] * keys.shape[2]):
        apart = keys[:, rows].float() - gather(keys, pivot[:, rows]).float()
        distance[:, rows] = torch.linalg.vector_norm(apart, dim=-1)
    distance *= joins
    number, total = (torch.zeros_like(distance).scatter_add(1, pivot, one) for one in (joins.float(), distance))
    sigma = (total / number.clamp_min(1)).gather(1, pivot).clamp_min(torch.finfo(torch.float32).tiny)
    return (-(distance / sigma).square() / 2).exp() * joins
