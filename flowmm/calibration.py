"""The rules by which measurements over documents become the numbers of a profile. No number depends on an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise
from math import ceil, log, sqrt
from statistics import fmean, median, pstdev

_FIGURES = 6  # decimals of a flow or theta in the file
_LEAST_LOSS = 1e-3  # of the largest; smaller ones are as small as that

NO_FLOW = "not measured: no document has both images and text"
GAP = "the middle of the widest gap between the layers' mean flows, a quarter of the layers or more on either side"
NO_GAP = "the median of the layers' mean flows: the widest gap between them is within their spread over documents"


NO_PRECISION = "not measured: no document has text to tell again and fits into a share of its bytes"


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


def precision_rule(method: str) -> str:
    """How precisions were compared, for the file."""
    return (
        f"each share of a document's bytes was filled with the slots that method {method} keeps, in each precision, "
        "and its text told again behind them; the least divergence of the next tokens from the full cache's, over that "
        "without the context, averaged over the documents, decides"
    )


def head_weight_of(documents: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """What a slot of each head is worth beside one of another head that gets as much attention.

    The root of what is lost without the head, which parts heads less than the loss itself: how little a head that
    hardly matters loses is mostly noise, and what comes of two heads is in neither's loss alone.

    Args:
        documents: of each document, per layer and KV head, what answers lose when the head forgets the context.

    Returns:
        Per layer, a weight for each KV head, above 0; the largest is 1.
    """
    losses = [[fmean(head) for head in zip(*layers, strict=True)] for layers in zip(*documents, strict=True)]
    most = max(max(layer) for layer in losses)
    if most <= 0:
        return [[1.0] * len(layer) for layer in losses]
    return [[float(f"{sqrt(max(loss / most, _LEAST_LOSS)):.4g}") for loss in layer] for layer in losses]


def head_weight_rule(contexts: int) -> str:
    """How head weights were measured, for the file."""
    asked = f" and to the questions of {contexts} contexts of a suite" if contexts else ""
    return (
        "the divergence of the full cache's own answers to questions about names and numbers of each document"
        f"{asked} when one head forgets the context, its mean over the largest of any head, the root of that"
    )


@dataclass(frozen=True)
class PrecisionErrors:
    """What each precision loses at each share of the bytes, in one document or in the mean of several."""

    shares: tuple[float, ...]  # of the full cache's bytes in 16 bits, ascending
    by_name: Mapping[str, tuple[float, ...]]  # precisions of fewer bits first; an error a share, 1: nothing is left


def mean_errors(documents: Sequence[PrecisionErrors]) -> PrecisionErrors:
    """The mean over documents, every one weighing the same, at the shares that all of them have."""
    shares = [share for share in documents[0].shares if all(share in one.shares for one in documents)]
    by_name = {
        name: tuple(
            _rounded(fmean(one.by_name[name][one.shares.index(share)] for one in documents)) for share in shares
        )
        for name in documents[0].by_name
    }
    return PrecisionErrors(tuple(shares), by_name)


def precisions_of(errors: PrecisionErrors) -> dict[str, float]:
    """Up to which share of the bytes which precision loses least.

    More bytes never mean fewer bits: of all such assignments of precisions to the shares, the one with the least
    product of errors is taken. Precisions part where shares do, at their geometric mean; and a whole cache in 16 bits
    (the last of the precisions) loses nothing, so that is best at a share of 1.

    Returns:
        By name the largest share; none for 16 bits, which are taken above all others.
    """
    names = list(errors.by_name)
    logs = {name: [log(max(error, 1e-9)) for error in errors.by_name[name]] for name in names}
    best = min(
        combinations_with_replacement(names, len(errors.shares)),
        key=lambda taken: sum(logs[name][at] for at, name in enumerate(taken)),
    )
    borders = [sqrt(one * other) for one, other in pairwise((*errors.shares, 1.0))]
    return {name: float(f"{border:.4g}") for name, border in zip(best, borders, strict=True) if name != names[-1]}


def _rounded(value: float) -> float:
    return round(value, _FIGURES)
