"""What allocation rules share: how many slots a share is, how a head's slots are chosen, how layers share a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil

import torch
from torch import Tensor

from flowmm.context import Evidence, LayerCache

OUT_OF_SIGHT = torch.finfo(torch.float32).min  # score of a slot that no later token sees
_HALVINGS = 100  # of the interval that holds a scale; more than float64 can tell apart


def slots_to_keep(num_slots: int, keep: float) -> int:
    """At least one; nearest integer, so 10 slots at 0.1 keep 1 and 200 at 0.2 keep 40."""
    return max(1, min(num_slots, round(num_slots * keep)))


@dataclass(frozen=True)
class Ranking:
    """One layer before selection."""

    scores: Tensor  # [H_kv, S] float32, higher is kept
    layer: LayerCache
    count: int  # slots to keep per head, protected ones included; a rule may shift them between heads and layers
    evidence: Evidence | None = None  # there when the rule's ``needs`` name something
    head_counts: Tensor | None = None  # [H_kv] int64: ``count`` by the profile's head budget, when it has one
    head_weights: Tensor | None = None  # [H_kv] float32 of the profile, when it has them

    @property
    def living(self) -> Tensor:
        """``[H_kv, S]`` bool, False on padding."""
        return ~self.layer.padding

    @property
    def protected(self) -> Tensor:
        """``[H_kv, S]`` bool, living slots that must be kept."""
        return self.layer.protected

    @property
    def free(self) -> Tensor:
        """``[H_kv, S]`` bool, slots that compete: neither protected nor out of sight."""
        return self.living & ~self.protected & (self.scores > OUT_OF_SIGHT)


def choose(order: Tensor, tier: Tensor, count: int | Tensor) -> Tensor:
    """Keep ``count`` slots per head: those of the highest tier first, within a tier by ``order``, then the earliest.

    Args:
        order: ``[H_kv, S]``, higher is kept.
        tier: ``[H_kv, S]`` integer; slots of a negative tier are never kept.
        count: slots per head, or ``[H_kv]`` of each head; a head with fewer keeps all it has.

    Returns:
        ``[H_kv, S]`` bool.
    """
    by_order = order.argsort(dim=1, descending=True, stable=True)
    by_tier = tier.gather(1, by_order).argsort(dim=1, descending=True, stable=True)
    limit = count[:, None] if isinstance(count, Tensor) else count
    first = torch.arange(order.shape[1], device=order.device).expand_as(tier) < limit
    return torch.zeros_like(first).scatter_(1, by_order.gather(1, by_tier), first) & (tier >= 0)


def fill(ranking: Ranking, count: int | Tensor, recent: float = 0.0, guarded: Tensor | None = None) -> Tensor:
    """Protected slots, then the newest, then the highest scores: ``[H_kv, S]`` bool, ``count`` slots of each head.

    Args:
        ranking: the layer.
        count: slots per head, or ``[H_kv]`` of each head.
        recent: share of them that goes to the newest slots.
        guarded: ``[H_kv, S]`` bool, slots that come before all but the newest.
    """
    counts = torch.as_tensor(count).to(ranking.scores.device).expand(ranking.scores.shape[0])
    slot = torch.arange(ranking.scores.shape[1], device=ranking.scores.device)  # [S]
    living = ranking.living
    newest = living & (slot >= (living.sum(1) - (recent * counts.double()).round())[:, None])
    tier = living.int() - 1
    if guarded is not None:
        tier = torch.where(guarded & living, 1, tier)
    tier = torch.where(newest, 2, tier).masked_fill(ranking.protected, 3)
    return choose(torch.where(newest, slot.float(), ranking.scores), tier, counts)


def fill_layers(
    rankings: Sequence[Ranking], wanted: Sequence[float], *, recent: float = 0.0, least: float = 0.0
) -> Iterator[Tensor]:
    """Share the budget of all layers out in proportion to ``wanted``, then :func:`fill` each layer.

    Args:
        rankings: of all layers.
        wanted: what each layer asks for, on any scale.
        recent: share of a layer's slots that goes to the newest ones.
        least: share of its slots that a layer keeps whatever it asks for.
    """
    high = [int(ranking.living.sum(1).max()) for ranking in rankings]
    protected = [int(ranking.protected.sum(1).max()) for ranking in rankings]
    protected = [min(max(1, needed), most) for needed, most in zip(protected, high, strict=True)]
    low = [max(needed, ceil(least * most)) for needed, most in zip(protected, high, strict=True)]
    total = sum(ranking.count for ranking in rankings)
    low = low if sum(low) <= total else protected
    for ranking, count in zip(rankings, share_out(wanted, total, low, high), strict=True):
        yield fill(ranking, count, recent)


def count_by_head(layers: Sequence[LayerCache], wanted: Sequence[Sequence[float]], count: int) -> list[Tensor]:
    """Share ``count`` slots a head out over the heads of all layers, in proportion to ``wanted``.

    Args:
        layers: of the whole cache.
        wanted: of each layer, what each of its ``H_kv`` heads asks for, on any scale.
        count: slots per head on average; no head gets fewer than are protected, nor more than it has.

    Returns:
        Per layer ``[H_kv]`` int64.
    """
    high = [most for layer in layers for most in layer.lengths.tolist()]
    protected = [needed for layer in layers for needed in layer.protected.sum(1).tolist()]
    low = [min(max(1, needed), most) for needed, most in zip(protected, high, strict=True)]
    flat = [one for heads in wanted for one in heads]
    counts = iter(share_out(flat, count * len(flat), low, high))
    return [torch.tensor(list(islice(counts, len(heads)))) for heads in wanted]


def share_out(wanted: Sequence[float], total: int, low: Sequence[int], high: Sequence[int]) -> list[int]:
    """Integers within ``low .. high`` that add up to ``total``, elsewhere proportional to ``wanted``.

    Largest remainders are rounded up. A total below all of ``low`` or above all of ``high`` gives these.
    """
    total = min(max(total, sum(low)), sum(high))
    wanted = [max(one, 1e-9 * max(wanted), 1e-30) for one in wanted]

    def at(scale: float) -> list[float]:
        return [min(max(scale * one, least), most) for one, least, most in zip(wanted, low, high, strict=True)]

    below, above = 0.0, max(high) / min(wanted)
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        below, above = (middle, above) if sum(at(middle)) < total else (below, middle)
    amounts = at(above)
    shares = [int(amount) for amount in amounts]
    by_remainder = sorted(range(len(shares)), key=lambda i: shares[i] - amounts[i])
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return shares
