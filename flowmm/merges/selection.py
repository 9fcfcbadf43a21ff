"""One layer after selection, and how its kept slots become a layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowmm.context import LayerCache
from flowmm.errors import UsageError
from flowmm.rotation import Rotation


@dataclass(frozen=True)
class Selection:
    """What a merging rule works on."""

    layer: LayerCache
    scores: Tensor  # [H_kv, S] float32
    kept: Tensor  # [H_kv, S] bool
    free: Tensor  # [H_kv, S] bool: living, not protected, and visible to what comes after; only these may merge
    strategy: str | None = None  # "intra", "cross", or None when the method does not tell layers apart
    tau: float = 1.0  # quantile of the pivots' scores up to which a pivot may receive
    rotation: Rotation | None = None  # of the layer's keys; there when the rule needs "rotation"


def score_weights(selection: Selection) -> Tensor:
    """``[H_kv, S]`` the scores as weights: above 0, so that slots nobody looked at have a plain mean.

    Raises:
        UsageError: there are negative ones.
    """
    if bool((selection.scores[selection.free] < 0).any()):
        raise UsageError(
            "merging by score needs scores of at least 0, but the method's scoring rule gives negative ones",
            "Score by attention, or choose merge: mean or merge: pivotal.",
        )
    return selection.scores.clamp_min(torch.finfo(torch.float16).tiny)


def indices(mask: Tensor) -> tuple[Tensor, Tensor]:
    """``[H_kv, S]`` bool to the slots that are True, in order.

    Returns:
        ``[H_kv, K]`` int64, K being the most of any head, and ``[H_kv, K]`` bool, False where a head has fewer.
    """
    lengths = mask.sum(1)
    longest = int(lengths.max())
    index = mask.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    return index, torch.arange(longest, device=mask.device) < lengths[:, None]


def gather(slots: Tensor, index: Tensor) -> Tensor:
    """``[H_kv, S, D]`` at ``[H_kv, K]`` gives ``[H_kv, K, D]``."""
    return slots.gather(1, index.unsqueeze(-1).expand(-1, -1, slots.shape[-1]))


def bare_keys(layer: LayerCache, index: Tensor, rotation: Rotation | None) -> Tensor:
    """``[H_kv, K, D]`` float32: the keys at ``[H_kv, K]``, before their rotation if one is given."""
    keys = gather(layer.keys, index)
    return keys.float() if rotation is None else rotation.undone(keys, layer.position.gather(1, index))


def take(layer: LayerCache, kept: Tensor) -> LayerCache:
    """A layer of the slots where ``kept`` ``[H_kv, S]`` is True, in order; the padding is zeros."""
    index, living = indices(kept)
    padding = ~living
    return LayerCache(
        keys=gather(layer.keys, index).masked_fill_(padding[..., None], 0),
        values=gather(layer.values, index).masked_fill_(padding[..., None], 0),
        position=layer.position.gather(1, index).masked_fill_(padding, 0),
        modality=layer.modality.gather(1, index).masked_fill_(padding, 0),
        lengths=kept.sum(1),
        bias=None if layer.bias is None else layer.bias.gather(1, index).masked_fill_(padding, 0),
        window=layer.window,
    )
