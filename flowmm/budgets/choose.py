"""What allocation rules share: how many slots a share is, and how a head's slots are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def slots_to_keep(num_slots: int, keep: float) -> int:
    """At least one; nearest integer, so 10 slots at 0.1 keep 1 and 200 at 0.2 keep 40."""
    return max(1, min(num_slots, round(num_slots * keep)))


@dataclass(frozen=True)
class Ranking:
    """One layer before selection."""

    scores: Tensor  # [H_kv, S] float32, higher is kept
    living: Tensor  # [H_kv, S] bool, False on padding
    protected: Tensor  # [H_kv, S] bool, living slots that must be kept
    count: int  # slots to keep per head, protected ones included; a rule may shift them between heads and layers


def choose(order: Tensor, tier: Tensor, count: int) -> Tensor:
    """Keep ``count`` slots per head: those of the highest tier first, within a tier by ``order``, then the earliest.

    Args:
        order: ``[H_kv, S]``, higher is kept.
        tier: ``[H_kv, S]`` integer; slots of a negative tier are never kept.
        count: slots per head; a head with fewer keeps all it has.

    Returns:
        ``[H_kv, S]`` bool.
    """
    by_order = order.argsort(dim=1, descending=True, stable=True)
    by_tier = tier.gather(1, by_order).argsort(dim=1, descending=True, stable=True)
    kept = torch.zeros_like(tier, dtype=torch.bool).scatter_(1, by_order.gather(1, by_tier)[:, :count], True)
    return kept & (tier >= 0)
