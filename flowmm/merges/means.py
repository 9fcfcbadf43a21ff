"""Running sums of what goes into each pivot, and the layer of their means; whether keys are averaged un-rotated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowmm.context import LayerCache
from flowmm.merges.selection import Selection, bare_keys, gather
from flowmm.rotation import Rotation


@dataclass(frozen=True)
class AveragesKeys:
    """What rules that make means of keys have in common.

    Attributes:
        unrotated: compare and average keys as they were before the rotary embedding, and turn the mean to where its
            pivot is. Else the same content at two places has two keys, whose mean is short and points at neither.
    """

    unrotated: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """The rotation, to undo it."""
        return frozenset({"rotation"}) if self.unrotated else frozenset()

    def rotation(self, selection: Selection) -> Rotation | None:
        """What is undone before keys are compared and averaged; None: they are taken as they are."""
        return selection.rotation if self.unrotated else None


class Means:
    """Weighted means of pivots and the slots that join them, in float32; keys and values share one assignment.

    Args:
        pivots: the layer of kept slots.
        weight: ``[H_kv, P]`` float32, what each pivot itself counts, above 0; None is 1.
        rotation: of the keys of all slots; the means are of the keys before it. None takes them as they are.
    """

    def __init__(self, pivots: LayerCache, weight: Tensor | None = None, rotation: Rotation | None = None) -> None:
        weight = torch.ones(pivots.position.shape, device=pivots.keys.device) if weight is None else weight
        self._pivots, self._rotation = pivots, rotation
        self._bare = pivots.keys.float() if rotation is None else rotation.undone(pivots.keys, pivots.position)
        self._keys = self._bare * weight[..., None]
        self._values = pivots.values.float() * weight[..., None]
        self._own, self._weight = weight, weight.clone()
        self._count = torch.zeros_like(weight)
        self._mass = torch.ones_like(weight) if pivots.bias is None else pivots.bias.exp()

    def add(self, layer: LayerCache, slot: Tensor, pivot: Tensor, weight: Tensor) -> None:
        """Let slots join pivots.

        Args:
            layer: where the slots are.
            slot: ``[H_kv, n]`` index of each slot in ``layer``.
            pivot: ``[H_kv, n]`` index of the pivot it joins.
            weight: ``[H_kv, n]`` float32, what it counts; 0 for a slot that joins none.
        """
        keys, values = bare_keys(layer, slot, self._rotation), gather(layer.values, slot).float()
        for sums, slots in ((self._keys, keys), (self._values, values)):
            joining = slots * weight[..., None]
            sums.scatter_add_(1, pivot.unsqueeze(-1).expand_as(joining), joining)
        joins = (weight > 0).float()
        self._weight.scatter_add_(1, pivot, weight)
        self._count.scatter_add_(1, pivot, joins)
        self._mass.scatter_add_(1, pivot, joins if layer.bias is None else joins * layer.bias.gather(1, slot).exp())

    @property
    def joined(self) -> int:
        """How many slots joined a pivot, all heads together."""
        return int(self._count.sum())

    @property
    def log_mass(self) -> Tensor | None:
        """``[H_kv, P]`` logarithm of the number of tokens that a slot stands for; None when nothing was joined."""
        return self._mass.log() if self.joined else self._pivots.bias

    @property
    def log_weight(self) -> Tensor | None:
        """``[H_kv, P]`` what a pivot's bias becomes when it takes over the weights of those that joined it."""
        if not self.joined:
            return self._pivots.bias
        gained = (self._weight / self._own).log()
        return gained if self._pivots.bias is None else gained + self._pivots.bias

    def layer(self, *, towards: float = 1.0, bias: Tensor | None = None, keys: bool = True) -> LayerCache:
        """The pivots, each that was joined moved from itself (0) ``towards`` the mean (1).

        Args:
            towards: 1 gives the mean; 0.5 gives LOOK-M's pivotal merge.
            bias: ``[H_kv, P]``; None leaves that of the pivots.
            keys: False leaves the keys as they are and moves the values alone.
        """
        pivots = self._pivots
        joined = (self._count > 0)[..., None]  # all others stay as they are, to the bit

        def moved(own: Tensor, sums: Tensor) -> Tensor:
            return own.lerp(sums / self._weight[..., None], towards)

        def instead(own: Tensor, new: Tensor) -> Tensor:
            return torch.where(joined, new.to(own.dtype), own)

        merged = moved(self._bare, self._keys) if keys else pivots.keys
        if keys and self._rotation is not None:
            merged = self._rotation.applied(merged, pivots.position)
        values = moved(pivots.values.float(), self._values)
        return replace(
            pivots,
            keys=instead(pivots.keys, merged),
            values=instead(pivots.values, values),
            bias=pivots.bias if bias is None else bias,
        )
