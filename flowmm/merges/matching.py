"""The nearest kept key of each evicted slot, in blocks: what all rules that merge into pivots share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.merges.selection import Selection, bare_keys, indices
from flowmm.rotation import Rotation

NOBODY = float("-inf")  # similarity to a pivot that a slot may not join


@dataclass(frozen=True)
class Match:
    """A block of evicted slots, each with the pivot it is nearest to."""

    slot: Tensor  # [H_kv, n] index in the layer before selection
    pivot: Tensor  # [H_kv, n] index in the layer of kept slots
    similarity: Tensor  # [H_kv, n] cosine of their keys
    found: Tensor  # [H_kv, n] bool, False where no pivot may receive the slot, or a head has fewer


def free_pivots(selection: Selection) -> Tensor:
    """``[H_kv, P]`` bool: which kept slots, in the order of the small layer, may receive others."""
    pivots, living = indices(selection.kept)
    return selection.free.gather(1, pivots) & living


def matches(selection: Selection, eligible: Tensor, rotation: Rotation | None = None) -> Iterator[Match]:
    """Match the free evicted slots with the pivot whose key has the largest cosine to theirs.

    Args:
        selection: the layer after selection; where its strategy is "intra", a slot's pivot has the slot's modality.
        eligible: ``[H_kv, P]`` bool, which pivots may receive.
        rotation: of the layer's keys; compared are the keys before it. None compares them as they are.
    """
    layer = selection.layer
    pivots, _ = indices(selection.kept)  # [H_kv, P]
    sources, is_source = indices(selection.free & ~selection.kept)  # [H_kv, E]
    directions = F.normalize(bare_keys(layer, pivots, rotation), dim=-1).mT  # [H_kv, D, P]
    widest = max(pivots.shape[1], layer.keys.shape[2], layer.values.shape[2])
    for rows in blocks(sources.shape[1], 4 * sources.shape[0] * widest):
        slot = sources[:, rows]
        similarity = F.normalize(bare_keys(layer, slot, rotation), dim=-1) @ directions  # [H_kv, n, P]
        similarity.masked_fill_(~eligible[:, None], NOBODY)
        if selection.strategy == "intra":
            stranger = layer.modality.gather(1, slot)[:, :, None] != layer.modality.gather(1, pivots)[:, None]
            similarity.masked_fill_(stranger, NOBODY)
        best, nearest = similarity.max(-1)
        yield Match(slot, nearest, best, (best > NOBODY) & is_source[:, rows])
