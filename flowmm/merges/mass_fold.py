"""Let kept keys take over the attention mass of evicted slots, and fold their values in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from flowmm.context import LayerCache
from flowmm.merges.matching import free_pivots, matches
from flowmm.merges.means import Means
from flowmm.merges.selection import Selection, indices, score_weights, take


@dataclass(frozen=True)
class MassFold:
    """Keys stay; each evicted slot s joins the pivot c with the nearest key, with weights w that stand for its mass.

    The value becomes ``(w_c v_c + sum w_s v_s) / (w_c + sum w_s)`` and the bias grows by
    ``log((w_c + sum w_s) / w_c)``: queries that spread their attention as the scored ones did get the same output.

    Attributes:
        weight: ``score``, for scores that are attention; ``count`` weighs all slots alike.
        limit: largest growth of a bias; e^3 is what attention matching (arXiv 2602.16284) allows.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    weight: Literal["score", "count"] = "score"
    limit: Annotated[float, Field(ge=0)] = 3.0

    def __call__(self, selection: Selection) -> tuple[LayerCache, int]:
        """The kept slots, some with values and a bias of their own, and how many slots were merged into them."""
        layer, small = selection.layer, take(selection.layer, selection.kept)
        pivots, _ = indices(selection.kept)  # [H_kv, P]
        weights = score_weights(selection) if self.weight == "score" else torch.ones_like(selection.scores)
        means = Means(small, weights.gather(1, pivots))
        for match in matches(selection, free_pivots(selection)):
            means.add(layer, match.slot, match.pivot, weights.gather(1, match.slot) * match.found)
        bias = means.log_weight
        if bias is not None:
            bias = bias.minimum((0 if small.bias is None else small.bias) + torch.full_like(bias, self.limit))
        return means.layer(bias=bias, keys=False), means.joined
