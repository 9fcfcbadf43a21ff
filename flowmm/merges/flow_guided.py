"""Merge evicted slots into the nearest pivot that is not sensitive, within one modality where flow is low (FlowMM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from flowmm.context import LayerCache
from flowmm.merges.matching import free_pivots, matches
from flowmm.merges.means import AveragesKeys, Means
from flowmm.merges.selection import Selection, indices, score_weights, take


@dataclass(frozen=True)
class FlowGuided(AveragesKeys):
    """Sensitivity-adaptive matching (FlowMM, arXiv 2511.05534): i joins ``argmax_{j: I_j <= tau} cos(k_i, k_j)``.

    In "intra" layers j must have i's modality. An evicted slot without an eligible pivot is gone. The paper leaves
    the merge function and tau's scale open: here tau is a quantile of the scores of a head's pivots (from the model
    profile; protected slots are no pivots). Keys are merged as they are, after the rotary embedding, as the systems
    that it builds on do; ``unrotated`` is the variant.

    Attributes:
        merge: with m slots s joining the pivot c, ``mean`` is ``(c + sum s) / (m + 1)``; ``pivotal`` is
            ``(c + sum (s + c) / 2) / (m + 1)`` (LOOK-M, arXiv 2406.18139); ``weighted`` weighs each by its score.
        mass: add ``log(m + 1)`` to a merged slot's attention logits, so that the mass of m + 1 tokens is not lost.
    """

    merge: Literal["mean", "pivotal", "weighted"] = "pivotal"
    mass: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """The flow, which tells layers apart, and the rotation for keys without it."""
        return super().needs | {"flow"}

    def __call__(self, selection: Selection) -> tuple[LayerCache, int]:
        """The kept slots, some of them merged, and how many slots were merged into them."""
        layer = selection.layer
        pivots, _ = indices(selection.kept)  # [H_kv, P]
        weights = score_weights(selection) if self.merge == "weighted" else torch.ones_like(selection.scores)
        rotation = self.rotation(selection)
        means = Means(take(layer, selection.kept), weights.gather(1, pivots), rotation)
        for match in matches(selection, receivers(selection, pivots), rotation):
            means.add(layer, match.slot, match.pivot, weights.gather(1, match.slot) * match.found)
        towards = 0.5 if self.merge == "pivotal" else 1.0
        return means.layer(towards=towards, bias=means.log_mass if self.mass else None), means.joined


def receivers(selection: Selection, pivots: Tensor) -> Tensor:
    """Which pivots may receive: free, kept, and with a score up to the quantile tau of the head's free pivots.

    Args:
        selection: the layer after selection.
        pivots: ``[H_kv, P]`` slots in the order of the small layer; beyond a head's length they are not kept.

    Returns:
        ``[H_kv, P]`` bool.
    """
    scores = selection.scores.gather(1, pivots).masked_fill(~free_pivots(selection), float("nan"))
    return scores <= scores.nanquantile(selection.tau, dim=1, keepdim=True)  # False where NaN
