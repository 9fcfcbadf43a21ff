"""Keep the sensitive slots verbatim and merge the rest among itself into a few gist slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.budgets.choose import choose
from flowmm.context import LayerCache, Modality
from flowmm.merges.matching import matches
from flowmm.merges.means import AveragesKeys, Means
from flowmm.merges.selection import Selection, indices, take


@dataclass(frozen=True)
class Gist(AveragesKeys):
    """Sensitive slots never receive; what is left over becomes a few centroids. Ours, in the spirit of FlowMM.

    Of a head's kept slots that are free, the ``share`` with the lowest scores gives its places to gist slots. All that
    is left over then is parted into as many clusters, and a cluster of m slots becomes one: the mean key and value,
    with the bias ``log m``. Since ``exp(q . mean(k) + log m) <= sum exp(q . k_i)`` (Jensen; of keys as they are), a
    gist slot takes no more attention than its members had: what stays verbatim is answered from as before. In "intra"
    layers (by flow) clusters are of one modality, and each modality gets places by how much of it is left over.

    Attributes:
        share: of the kept free slots, how many become gist slots; the budget stays what it was.
        near: what makes a cluster: ``keys`` (evenly spread slots take those whose keys are nearest by cosine) or
            ``order`` (runs of neighbours in what is left over; on a page they lie along its rows).
    """

    share: Annotated[float, Field(ge=0, le=1)] = 0.1
    near: Literal["keys", "order"] = "keys"

    @property
    def needs(self) -> frozenset[str]:
        """The flow, which tells layers apart, and the rotation for keys without it."""
        return super().needs | {"flow"}

    def __call__(self, selection: Selection) -> tuple[LayerCache, int]:
        """The sensitive slots and the gist slots, as many as were selected, and how many slots went into the gist."""
        layer, rotation = selection.layer, self.rotation(selection)
        paying = selection.kept & selection.free
        places = (self.share * paying.sum(1).double()).round().long()  # [H_kv]
        sensitive = selection.kept & ~choose(-selection.scores, paying.int() - 1, places)
        runs = list(_runs(selection, selection.free & ~sensitive, places))
        middles = torch.stack([run.is_middle for run in runs]).any(0)
        kept = sensitive | middles
        small = take(layer, kept)
        means = Means(small, rotation=rotation)
        if self.near == "keys":
            receives = middles.gather(1, indices(kept)[0])
            for match in matches(replace(selection, kept=kept), receives, rotation):
                means.add(layer, match.slot, match.pivot, match.found.float())
        else:
            into = (kept.long().cumsum(1) - 1).clamp_min(0)  # index in the small layer
            for run in runs:
                joins = run.member & ~run.is_middle & run.is_middle.gather(1, run.middle)
                for rows in blocks(layer.keys.shape[1], 4 * layer.keys.shape[0] * layer.keys.shape[2]):
                    slot = torch.arange(rows.start, rows.stop, device=kept.device).expand(kept.shape[0], -1)
                    means.add(layer, slot, into.gather(1, run.middle[:, rows]), joins[:, rows].float())
        return means.layer(bias=means.log_mass), means.joined


@dataclass(frozen=True)
class _Runs:
    """Slots parted into runs of neighbours, equally many in each as far as that goes."""

    member: Tensor  # [H_kv, S] bool
    middle: Tensor  # [H_kv, S] int64, the middle slot of each member's run
    is_middle: Tensor  # [H_kv, S] bool


def _runs(selection: Selection, rest: Tensor, places: Tensor) -> Iterator[_Runs]:
    """Runs of all that is left over, or in "intra" layers of each modality; ``places`` ``[H_kv]`` runs in all."""
    if selection.strategy != "intra":
        yield runs(rest, places)
        return
    visual = selection.layer.modality == Modality.VISUAL
    share = (rest & visual).sum(1) / rest.sum(1).clamp_min(1).double()
    number = (share * places).round().long()
    yield runs(rest & visual, number)
    yield runs(rest & ~visual, places - number)


def runs(member: Tensor, number: Tensor) -> _Runs:
    """Part the members ``[H_kv, S]`` of each head into ``number`` ``[H_kv]`` runs; no more than there are members."""
    total = member.sum(1, keepdim=True)
    count = number[:, None].clamp_min(1)
    rank = member.long().cumsum(1) - 1  # of a member among the members
    run = rank.clamp_min(0) * count // total.clamp_min(1)
    first, behind = (-(-(at * total) // count) for at in (run, run + 1))  # ceil: run i begins at rank i * total / count
    middle_rank = ((first + behind - 1) // 2).clamp(min=0).minimum((total - 1).clamp_min(0))
    order = member.int().argsort(dim=1, descending=True, stable=True)  # members first
    is_middle = member & (rank == middle_rank) & (number[:, None] > 0)
    return _Runs(member, order.gather(1, middle_rank), is_middle)
