"""Merge evicted slots into the nearest pivot that is not sensitive, within one modality where flow is low (FlowMM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.context import LayerCache
from flowmm.errors import UsageError
from flowmm.merges.means import Means
from flowmm.merges.selection import Selection, gather, indices, take

NOBODY = float("-inf")  # similarity to a pivot that a slot may not join


@dataclass(frozen=True)
class FlowGuided:
    """Sensitivity-adaptive matching (FlowMM, arXiv 2511.05534): i joins ``argmax_{j: I_j <= tau} cos(k_i, k_j)``.

    In "intra" layers j must have i's modality. An evicted slot without an eligible pivot is gone. The paper leaves
    the merge function and tau's scale open: here tau is a quantile of the scores of a head's pivots (from the model
    profile; protected slots are no pivots), and keys are merged as they are, after the rotary embedding.

    Attributes:
        merge: with m slots s joining the pivot c, ``mean`` is ``(c + sum s) / (m + 1)``; ``pivotal`` is
            ``(c + sum (s + c) / 2) / (m + 1)`` (LOOK-M, arXiv 2406.18139); ``weighted`` weighs each by its score.
        mass: add ``log(m + 1)`` to a merged slot's attention logits, so that the mass of m + 1 tokens is not lost.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"flow"})
    merge: Literal["mean", "pivotal", "weighted"] = "pivotal"
    mass: bool = False

    def __call__(self, selection: Selection) -> tuple[LayerCache, int]:
        """The kept slots, some of them merged, and how many slots were merged into them."""
        layer, small = selection.layer, take(selection.layer, selection.kept)
        pivots, _ = indices(selection.kept)  # [H_kv, P]
        sources, is_source = indices(selection.free & ~selection.kept)  # [H_kv, E]
        weights = self._weights(selection)
        means = Means(small, weights.gather(1, pivots))
        directions = F.normalize(small.keys.float(), dim=-1).mT  # [H_kv, D, P]
        eligible = receivers(selection, pivots)
        widest = max(small.keys.shape[1], small.keys.shape[2], small.values.shape[2])
        for rows in blocks(sources.shape[1], 4 * sources.shape[0] * widest):
            slot = sources[:, rows]
            nearest, found = _match(selection, pivots, eligible, directions, slot)
            means.add(layer, slot, nearest, weights.gather(1, slot) * (found & is_source[:, rows]))
        return means.layer(towards=0.5 if self.merge == "pivotal" else 1.0, mass=self.mass), means.joined

    def _weights(self, selection: Selection) -> Tensor:
        """``[H_kv, S]`` what each slot counts in a mean."""
        if self.merge != "weighted":
            return torch.ones_like(selection.scores)
        if bool((selection.scores[selection.free] < 0).any()):
            raise UsageError(
                "merge: weighted needs scores of at least 0, but the method's scoring rule gives negative ones",
                "Score by attention, or choose merge: mean or merge: pivotal.",
            )
        return selection.scores.clamp_min(torch.finfo(torch.float16).tiny)  # slots nobody looked at: a plain mean


def receivers(selection: Selection, pivots: Tensor) -> Tensor:
    """Which pivots may receive: free, kept, and with a score up to the quantile tau of the head's free pivots.

    Args:
        selection: the layer after selection.
        pivots: ``[H_kv, P]`` slots in the order of the small layer; beyond a head's length they are not kept.

    Returns:
        ``[H_kv, P]`` bool.
    """
    candidate = (selection.kept & selection.free).gather(1, pivots)
    scores = selection.scores.gather(1, pivots).masked_fill(~candidate, float("nan"))
    return scores <= scores.nanquantile(selection.tau, dim=1, keepdim=True)  # False where NaN


def _match(
    selection: Selection, pivots: Tensor, eligible: Tensor, directions: Tensor, slot: Tensor
) -> tuple[Tensor, Tensor]:
    """The nearest eligible pivot ``[H_kv, n]`` of each slot ``[H_kv, n]``, and whether there is one."""
    similarity = F.normalize(gather(selection.layer.keys, slot).float(), dim=-1) @ directions  # [H_kv, n, P]
    similarity.masked_fill_(~eligible[:, None], NOBODY)
    if selection.strategy == "intra":
        modality = selection.layer.modality
        stranger = modality.gather(1, slot)[:, :, None] != modality.gather(1, pivots)[:, None]
        similarity.masked_fill_(stranger, NOBODY)
    best, nearest = similarity.max(-1)
    return nearest, best > NOBODY
