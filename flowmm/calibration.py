"""The rules by which measurements over documents become the numbers of a profile. No number depends on an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean, median, pstdev

_FIGURES = 6  # decimals of a flow or theta in the file

NO_FLOW = "not measured: no document has both images and text"
GAP = "the middle of the widest gap between the layers' mean flows, a quarter of the layers or more on either side"
NO_GAP = "the median of the layers' mean flows: the widest gap between them is within their spread over documents"


@dataclass(frozen=True)
class Flows:
    """The flow of each layer over documents."""

    mean: list[float]
    spread: list[float]  # standard deviation over the documents; 0 for a single one


@dataclass(frozen=True)
class Theta:
    """Where the layers part into those that merge across modalities and those that don't."""

    value: float | None  # None: there is no flow
    rule: str


def flows_over(documents: Sequence[Sequence[float]]) -> Flows:
    """Mean and spread per layer, every document weighing the same.

    Args:
        documents: of each document, the flow of each layer; empty where no document has both modalities.
    """
    layers = list(zip(*documents, strict=True))
    return Flows([_rounded(fmean(layer)) for layer in layers], [_rounded(pstdev(layer)) for layer in layers])


def theta_of(flows: Flows) -> Theta:
    """Theta between the two groups that the layers fall into, or at their median when they fall into none.

    The layers are sorted by mean flow. A gap parts them into two groups; one that leaves less than a quarter of them on
    a side parts off an outlier and does not count. The widest gap is one only if it is wider than what a layer's flow
    varies by from document to document (the mean spread); otherwise chance would decide which layers it parts.
    """
    if not flows.mean:
        return Theta(None, NO_FLOW)
    ordered = sorted(flows.mean)
    least = ceil(len(ordered) / 4)
    parted = [(ordered[below] - ordered[below - 1], below) for below in range(least, len(ordered) - least + 1)]
    width, below = max(parted, key=lambda gap: gap[0], default=(0.0, 0))
    if width <= fmean(flows.spread):
        return Theta(_rounded(median(ordered)), NO_GAP)
    return Theta(_rounded((ordered[below - 1] + ordered[below]) / 2), GAP)


def head_budget_of(documents: Sequence[Sequence[Sequence[int]]]) -> list[list[float]]:
    """Each head's share of a budget, as multiples of an equal share, every document weighing the same.

    Args:
        documents: of each document, per layer, the slots that each KV head kept.

    Returns:
        Per layer, a multiplier for each KV head; their mean over all heads is 1.
    """
    means = [fmean(slots for layer in layers for slots in layer) for layers in documents]
    return [
        [
            float(f"{fmean(slots / mean for slots, mean in zip(head, means, strict=True)):.4g}")
            for head in zip(*layers, strict=True)
        ]
        for layers in zip(*documents, strict=True)
    ]


def head_budget_rule(method: str, keep: float) -> str:
    """How head budgets were measured, for the file."""
    return (
        f"the slots that method {method} leaves each head when it keeps {keep:g} of a document's, over their mean over "
        "all heads, averaged over the documents"
    )


def _rounded(value: float) -> float:
    return round(value, _FIGURES)
