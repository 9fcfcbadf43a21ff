"""Split each head's slots between text and images by what the head looks at, and let layers lend (MadaKV)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowmm.budgets.choose import Ranking, choose
from flowmm.context import Modality


@dataclass(frozen=True)
class ModalitySplit:
    """Modality preference and compression compensation (MadaKV, arXiv 2506.15724).

    psi are the scores, w_v and w_t their sums over a head's visual and text slots: of the head's phi slots
    ``phi w_v / (w_v + w_t)`` are visual. A layer takes what its heads need on average to cover a share of w, and
    ``phi_{l+1} = phi_l - K_l / (L - l)`` lets the layers after it pay or gain, K_l being what it took beyond phi_l.
    Protected slots are kept besides, and left out of w: sinks would be nearly all of it. [gap] the share, and a cap,
    without which the first layers could take everything.

    Attributes:
        cover: share of w that a layer's slots should cover.
        most: a layer takes at most this many times its phi.
    """

    counted: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    cover: Annotated[float, Field(ge=0, le=1)] = 0.9
    most: Annotated[float, Field(ge=1)] = 1.5

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer; the heads of a layer keep equally many."""
        layers = list(rankings)
        low = [int(ranking.protected.sum(1).max()) for ranking in layers]
        high = [int(ranking.living.sum(1).max()) for ranking in layers]
        left = min(sum(ranking.count for ranking in layers), sum(high))
        for index, ranking in enumerate(layers):
            phi = left / (len(layers) - index)
            count = min(round(self._needed(ranking)), int(self.most * phi))
            later = slice(index + 1, None)
            count = min(max(count, low[index], left - sum(high[later])), high[index], left - sum(low[later]))
            left -= count
            yield split(ranking, count, preference(ranking)[1])

    def _needed(self, ranking: Ranking) -> float:
        """Slots, protected ones included, with which a head covers the share; mean over heads."""
        psi, _ = preference(ranking)
        weight = psi.sort(dim=1, descending=True).values
        before = weight.cumsum(1) - weight  # what better slots cover
        slots = (before < self.cover * weight.sum(1, keepdim=True)).sum(1) + ranking.protected.sum(1)
        return float(slots.float().mean())


def preference(ranking: Ranking) -> tuple[Tensor, Tensor]:
    """``[H_kv, S]`` psi of free slots, 0 elsewhere; and ``[H_kv]`` the share of it that is visual."""
    psi = ranking.scores.clamp_min(0) * ranking.free
    visual = psi * (ranking.layer.modality == Modality.VISUAL)
    return psi, visual.sum(1) / psi.sum(1).clamp_min(torch.finfo(psi.dtype).tiny)


def split(ranking: Ranking, count: int, share: Tensor | float) -> Tensor:
    """Protected slots, and of the free ones the best of each modality in proportion.

    Args:
        ranking: the layer.
        count: slots per head.
        share: of the free slots that is visual, or ``[H_kv]`` of each head.

    Returns:
        ``[H_kv, S]`` bool, ``count`` slots of each head; where one modality has too few, the other gets its places,
        and slots out of sight come last.
    """
    visual = ranking.layer.modality == Modality.VISUAL
    seen, unread = ranking.free & visual, ranking.free & ~visual
    places = (count - ranking.protected.sum(1)).clamp_min(0)  # [H_kv]
    phi_visual = (places * share).round().long().maximum(places - unread.sum(1)).minimum(seen.sum(1))
    best = choose(ranking.scores, seen.int() - 1, phi_visual)
    best |= choose(ranking.scores, unread.int() - 1, places - phi_visual)
    tier = torch.where(best, 1, ranking.living.int() - 1).masked_fill(ranking.protected, 2)
    return choose(ranking.scores, tier, count)
