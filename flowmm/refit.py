"""Refit a small layer so that reference queries get from it what they got from the full one (attention matching)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from flowmm.context import Evidence, LayerCache
from flowmm.references import References, attend, logit_blocks, references, split
from flowmm.training import Slots, train

LARGEST_BIAS = 3.0  # weights are boxed to [e^-3, e^3], as in the paper
NOISE = 1e-5  # of a relative error in float32; a head that lost nothing stays as it is


@dataclass(frozen=True)
class Refitted:
    """A layer after the refit. Errors are relative, of the attention output on held-out queries, means over heads."""

    layer: LayerCache
    error_before: float | None  # None: no held-out query sees a kept slot
    error_after: float | None
    heads: int  # heads that took the new bias and values; the others are as they were
    moved: Tensor  # [H_kv] bool, heads whose keys are others than before


@dataclass(frozen=True)
class Refit:
    """Attention matching (arXiv 2602.16284): first the bias, then the values, per layer and KV head.

    ``bias = log w`` with ``w = argmin |Phi w - m|^2`` in the box, ``Phi = exp(q C^T - max)``, ``m`` the sums of
    ``exp(q K^T - max)``; then ``V_C = argmin |X V_C - Y|^2`` with ``X = softmax(q C^T + bias)``,
    ``Y = softmax(q K^T) V``. Beyond the paper: the values are drawn towards the kept ones by a ridge, protected slots
    stay verbatim, and a head stays as it was unless its error falls on queries held out from the fit. (The bias alone
    seldom passes that: it mends how much attention the context as a whole gets, which this error does not see.)

    Attributes:
        bias: solve for the bias; it is added to one that merging left.
        values: solve for the values.
        ridge: pull towards the kept values, as a share of the mean diagonal of ``X^T X``.
        held_out: share of the reference queries that judge and are not fitted to.
        iterations: steps of the bias solver.
        queries: most reference queries to use of each layer and query head; memory and time grow with them.
        steps: then train keys, bias and values together by so many steps of Adam (:func:`flowmm.training.train`).
        rate: of these, at the start.
    """

    bias: bool = True
    values: bool = True
    ridge: Annotated[float, Field(gt=0)] = 0.1
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    iterations: Annotated[int, Field(ge=1)] = 100
    queries: Annotated[int, Field(ge=2)] = 512
    steps: Annotated[int, Field(ge=0)] = 0
    rate: Annotated[float, Field(gt=0)] = 0.02

    def __call__(self, full: LayerCache, small: LayerCache, evidence: Evidence, num_tokens: int, seed: int) -> Refitted:
        """The small layer with new bias and values.

        Args:
            full: before selection.
            small: after selection and merging.
            evidence: with at least two reference queries.
            num_tokens: of the context.
            seed: of the draw of held-out queries.
        """
        fit, held = split(references(evidence, num_tokens, full.keys.device), self.queries, self.held_out, seed)
        known, test = _problem(fit, full, small), _problem(held, full, small)
        free = ~(small.protected | small.padding)
        plain = torch.ones(free.shape, device=free.device)
        weight = weights(known.phi, known.mass, free, self.iterations) if self.bias else plain
        before, values = _error(test, plain, small.values), small.values
        if self.values:
            share = _attention(known.phi, weight, out=known.phi)
            values = ridge_values(share, known.target, values.float(), free, self.ridge).to(values.dtype)
        slots = Slots(small.keys, weight, values)
        if self.steps:
            slots = train(fit, full, small, slots, free, self.steps, self.rate, seed)
            test = _problem(held, full, replace(small, keys=slots.keys))
        after = _error(test, slots.weight, slots.values)
        better = after < before - NOISE  # False where one is not a number
        layer = _taken(small, slots, better, plain)
        moved = better & (layer.keys != small.keys).flatten(1).any(1)
        return Refitted(layer, _mean(before), _mean(after.where(better, before)), int(better.sum()), moved)


def _taken(small: LayerCache, slots: Slots, better: Tensor, plain: Tensor) -> LayerCache:
    """The layer with the new slots in the heads ``[H_kv]`` that are better off with them."""
    chosen = better[:, None, None]
    bias = small.bias
    if bool((better[:, None] & (slots.weight != plain)).any()):
        added = slots.weight.where(better[:, None], plain).log()
        bias = added if bias is None else bias + added
    return replace(
        small, keys=slots.keys.where(chosen, small.keys), values=slots.values.where(chosen, small.values), bias=bias
    )


@dataclass(frozen=True)
class _Problem:
    """One set of queries; R = G * N rows per KV head. Those that see no kept slot have a target of zero."""

    phi: Tensor  # [H_kv, R, K]
    mass: Tensor  # [H_kv, R]
    target: Tensor  # [H_kv, R, D]


def _problem(found: References, full: LayerCache, small: LayerCache) -> _Problem:
    seen = attend(found, full)
    phi = seen.mass.new_zeros(*seen.mass.shape, small.keys.shape[1])
    for rows, columns, logits in logit_blocks(found, small):
        phi[:, :, rows, columns] = logits.sub_(seen.largest[:, :, rows, None]).exp_()
    sees = (phi.sum(-1) > 0).flatten(1)
    return _Problem(phi.flatten(1, 2), seen.mass.flatten(1), seen.output[0].flatten(1, 2) * sees[..., None])


def weights(phi: Tensor, mass: Tensor, free: Tensor, iterations: int) -> Tensor:
    """``argmin_w |Phi w - m|^2`` over ``e^-3 <= w <= e^3``, with w = 1 where a slot is not free.

    Accelerated projected gradient with restarts, from w = 1, solved for the difference to 1, so that what the fixed
    slots already give is taken off before it drowns the rest. Phi has no negative entries, so the row sums of
    ``Phi^T Phi`` bound its curvature slot by slot: each slot has its own step and no eigenvalue is needed.

    Args:
        phi: ``[H, R, K]`` float32, at least 0.
        mass: ``[H, R]`` float32.
        free: ``[H, K]`` bool.
        iterations: steps.

    Returns:
        ``[H, K]`` float32.
    """

    def times(vector: Tensor) -> Tensor:
        return (phi @ vector[..., None])[..., 0]

    def back(rows: Tensor) -> Tensor:
        return (rows[:, None] @ phi)[:, 0]

    missing = mass - phi.sum(-1)
    curvature = back(times(free.float())).clamp_min(torch.finfo(phi.dtype).tiny)
    low, high = math.exp(-LARGEST_BIAS) - 1, math.exp(LARGEST_BIAS) - 1
    found = ahead = torch.zeros(free.shape, device=phi.device)
    pace = torch.ones(free.shape[0], 1, device=phi.device)
    for _ in range(iterations):
        step = back(times(ahead) - missing) / curvature
        new = (ahead - step).clamp(low, high) * free
        overshot = (curvature * (ahead - new) * (new - found)).sum(1, keepdim=True) > 0
        pace = pace.masked_fill(overshot, 1.0)
        faster = (1 + (1 + 4 * pace.square()).sqrt()) / 2
        ahead = new + (pace - 1) / faster * (new - found)
        found, pace = new, faster
    return 1 + found


def ridge_values(share: Tensor, target: Tensor, values: Tensor, free: Tensor, ridge: float) -> Tensor:
    """``argmin_V |X V - Y|^2 + lambda |V - values|^2``, slots that are not free kept as they are.

    Of the two forms of the normal equations the smaller is solved: ``X^T X`` ``[K, K]``, or ``X X^T`` ``[R, R]`` where
    there are fewer rows than slots. A head whose equations cannot be solved keeps its values.

    Args:
        share: ``[H, R, K]`` float32, X; overwritten.
        target: ``[H, R, D]`` float32, Y.
        values: ``[H, K, D]`` float32.
        free: ``[H, K]`` bool.
        ridge: lambda over the mean diagonal of ``X^T X``.

    Returns:
        ``[H, K, D]`` float32.
    """
    residual = target - share @ values
    share *= free[:, None]
    diagonal = torch.linalg.vector_norm(share, dim=(1, 2)).square() / free.sum(1).clamp_min(1)
    wide = share.shape[1] < share.shape[2]
    normal = share @ share.mT if wide else share.mT @ share
    normal.diagonal(dim1=1, dim2=2).add_((ridge * diagonal).clamp_min(torch.finfo(share.dtype).tiny)[:, None])
    factor, failed = torch.linalg.cholesky_ex(normal)
    if wide:
        step = share.mT @ torch.cholesky_solve(residual, factor)
    else:
        step = torch.cholesky_solve(share.mT @ residual, factor)
    return (values + step).where((failed == 0)[:, None, None], values)


def _attention(phi: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """``[H, R, K]`` softmax over the kept slots; zeros in rows that see none."""
    share = torch.mul(phi, weight[:, None], out=out)
    return share.div_(share.sum(-1, keepdim=True).clamp_min(torch.finfo(phi.dtype).tiny))


def _error(problem: _Problem, weight: Tensor, values: Tensor) -> Tensor:
    """``[H]`` relative error of the attention output, not a number where there is nothing to compare."""
    difference = _attention(problem.phi, weight) @ values.float() - problem.target
    errors: Tensor = difference.flatten(1).norm(dim=1) / problem.target.flatten(1).norm(dim=1)
    return errors


def _mean(errors: Tensor) -> float | None:
    known = errors[errors.isfinite()]
    return float(known.mean()) if known.numel() else None
