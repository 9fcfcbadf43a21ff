"""Split each layer's slots between text and images by what either is worth to the text after them (HCT-DMG)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowmm.budgets.choose import Ranking
from flowmm.budgets.modality import split
from flowmm.context import Modality
from flowmm.references import attend, references


@dataclass(frozen=True)
class Utility:
    """A gate opens from the modalities' shares of the slots to their shares of the utility (HCT-DMG, arXiv 2305.13583).

    Of a layer's free slots that a question can see, n_v are visual and n_t are not: ``pi = n_v / (n_v + n_t)``.
    What modality m adds to the attention output of query head h, relative to all of that output, is its utility
    ``u_mh = |sum_{i in m} alpha_i v_i| / |o|``, lengths over all queries that look; its measured share is
    ``p = sum_h u_vh / sum_h (u_vh + u_th)``. Heads vote with ``d_h = u_vh - pi (u_vh + u_th)``, the gate is their
    agreement ``g = |sum_h d_h| / sum_h |d_h|``, and ``pi + trust g (p - pi)`` of the free slots are visual.

    Contributions and not attention mass, because much of the mass goes to slots whose values are next to nothing or
    cancel out; relative to the whole output, so that heads that look at sinks hardly vote. [gap] The paper's gate is
    trained, chooses one primary modality for a batch, and knows no cache: here it is measured in each document and
    layer. Those that look stand for the question: reference queries of text after a slot of either kind; without one
    the share is pi. What is added is not what is lost, for attention goes elsewhere when slots are gone; and heads
    count alike whatever W_O does with them.

    Attributes:
        trust: the most that the gate opens; 0 leaves the split to the numbers of slots.
    """

    counted: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"references"})
    trust: Annotated[float, Field(ge=0, le=1)] = 1.0

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer, ``count`` slots of each head."""
        for ranking in rankings:
            visual = ranking.layer.modality == Modality.VISUAL
            number = int(ranking.free.sum())
            prior = int((ranking.free & visual).sum()) / max(1, number)
            yield split(ranking, ranking.count, gated(utility(ranking), prior, self.trust))


def utility(ranking: Ranking) -> Tensor:
    """``[2, H_q]`` what text and what images add to the output of each query head, relative to it; 0 if unknown."""
    layer, free = ranking.layer, ranking.free
    visual = layer.modality == Modality.VISUAL
    unknown = torch.zeros(2, 0, device=layer.keys.device)
    if not bool((free & visual).any()) or not bool((free & ~visual).any()):
        return unknown
    assert ranking.evidence is not None  # compress checks what a rule needs
    found = references(ranking.evidence, layer.position.shape[1], layer.keys.device)
    first = torch.stack([layer.position[free & kind].min() for kind in (~visual, visual)]).max()
    rows = ((found.index >= first) & ~visual[0, found.index]).nonzero()[:, 0]
    if not rows.numel():
        return unknown
    parts = attend(found.at(rows), layer, torch.stack([free & ~visual, free & visual, ~free])).output
    lengths = torch.cat([parts[:2], parts.sum(0, keepdim=True)]).flatten(3).norm(dim=3).flatten(1)  # [3, H_q]
    worth: Tensor = lengths[:2] / lengths[2].clamp_min(torch.finfo(lengths.dtype).tiny)
    return worth


def gated(worth: Tensor, prior: float, trust: float) -> float:
    """The share of the slots that is visual.

    Args:
        worth: ``[2, H_q]`` utility of text and of images.
        prior: pi, the share of the free slots that is visual.
        trust: the most that the gate opens.
    """
    total = worth.sum(0)
    votes = worth[1] - prior * total  # [H_q]
    against = float(votes.abs().sum())
    if against == 0:
        return prior
    gate = abs(float(votes.sum())) / against
    measured = float(worth[1].sum() / total.sum())
    return prior + trust * gate * (measured - prior)
