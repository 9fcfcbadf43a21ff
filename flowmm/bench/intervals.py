"""How sure a figure is, and how alike two orders are: bootstrap over contexts, Spearman's rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

_DRAWS = 2000
_OUTSIDE = 2.5  # percent, on each side


def ratio_interval(above: Sequence[float], below: Sequence[float], seed: int) -> tuple[float, float] | None:
    """The 95 % percentile interval of ``sum(above) / sum(below)``, contexts drawn with replacement.

    Both sums are over the same drawn contexts, so that a ratio of two methods is paired.

    Args:
        above: one number a context.
        below: likewise; not negative.
        seed: of the draws.

    Returns:
        Lower and upper end; None where ``below`` is 0 in all draws. Draws in which it is 0 are left out.
    """
    import numpy as np

    if not below:
        return None
    drawn = np.random.default_rng(seed).integers(len(below), size=(_DRAWS, len(below)))
    upper, lower = np.asarray(above, dtype=float)[drawn].sum(1), np.asarray(below, dtype=float)[drawn].sum(1)
    ratios = upper[lower > 0] / lower[lower > 0]
    if not len(ratios):
        return None
    low, high = np.percentile(ratios, (_OUTSIDE, 100 - _OUTSIDE))
    return float(low), float(high)


def ranks(numbers: Sequence[float]) -> list[float]:
    """1 for the smallest; equal ones share the mean of their ranks."""
    order = sorted(numbers)
    return [(2 * order.index(number) + order.count(number) + 1) / 2 for number in numbers]


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation (the correlation of the ranks) of two scores of the same things.

    Returns:
        Between -1 and 1; None for fewer than two things, or where all have the same score.
    """
    one, other = ranks(first), ranks(second)
    if len(one) < 2:
        return None
    middle = (len(one) + 1) / 2
    both = sum((a - middle) * (b - middle) for a, b in zip(one, other, strict=True))
    spread = sum((a - middle) ** 2 for a in one) * sum((b - middle) ** 2 for b in other)
    return None if spread == 0 else both / spread**0.5
