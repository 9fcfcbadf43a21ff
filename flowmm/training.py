"""Train the kept slots of a layer, keys included, until reference queries get from it what the full one gave them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowmm.context import LayerCache
from flowmm.references import References, attend, logit_blocks

_BATCH = 128  # queries of a step, of each query head; bounds memory
_FARTHEST = 3.0  # that a logarithm of a weight may move


@dataclass(frozen=True)
class Slots:
    """The kept slots of a layer, K of each head."""

    keys: Tensor  # [H_kv, K, D]
    weight: Tensor  # [H_kv, K] float32, above 0; its logarithm is added to the logits
    values: Tensor  # [H_kv, K, D]


def train(
    fit: References, full: LayerCache, small: LayerCache, start: Slots, free: Tensor, steps: int, rate: float, seed: int
) -> Slots:
    """Adam on keys, weights and values: ``|Y - X V|^2 / |Y|^2 + mean (log m - log m')^2`` for each KV head.

    ``X = softmax(q C^T + log w)`` and ``Y`` are the attention of the small layer and the output of the full one, ``m'``
    and ``m`` their sums of exponentials: the second term keeps how much the context as a whole gets beside a
    question. Keys and values move in units of their own size in a head; the rate falls to zero along a cosine.

    Args:
        fit: the queries to fit to; those that see no kept slot count for nothing.
        full: the layer before selection.
        small: the layer after it, whose positions and bias stay.
        start: where its slots begin.
        free: ``[H_kv, K]`` bool, which of them may move.
        steps: of Adam.
        rate: at the start.
        seed: of the draw of each step's queries.

    Returns:
        The slots, in the dtypes of ``start``.
    """
    seen = attend(fit, full)
    log_mass = torch.where(seen.mass > 0, seen.mass.log() + seen.largest, 0)  # [H_kv, G, N]
    power = seen.output[0].square().sum((1, 2, 3)).clamp_min(torch.finfo(torch.float32).tiny)  # [H_kv]
    moves = [torch.zeros_like(one, dtype=torch.float32, requires_grad=True) for one in vars(start).values()]
    optimizer = torch.optim.Adam(moves, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randperm(fit.index.shape[0], generator=generator)[:_BATCH].to(fit.index.device)
        share = rows.shape[0] / fit.index.shape[0]
        optimizer.zero_grad()
        with torch.enable_grad():
            slots = moved(start, moves, free)
            output, total, sees = _attended(fit.at(rows), replace(small, keys=slots.keys), slots)
            missed = ((output - seen.output[0][:, :, rows]).square().sum(-1) * sees).sum((1, 2)) / power / share
            apart = ((total - log_mass[:, :, rows]).square() * sees).sum((1, 2)) / sees.sum((1, 2)).clamp_min(1)
            torch.autograd.backward((missed + apart).sum())
        optimizer.step()
        schedule.step()
    found = moved(start, [one.detach() for one in moves], free)
    return Slots(found.keys.to(start.keys.dtype), found.weight, found.values.to(start.values.dtype))


def moved(start: Slots, moves: list[Tensor], free: Tensor) -> Slots:
    """The slots in float32, those that are free moved."""
    keys, weight, values = moves
    factor = (weight * free).clamp(-_FARTHEST, _FARTHEST).exp()
    return Slots(_shifted(start.keys, keys, free), start.weight * factor, _shifted(start.values, values, free))


def _shifted(slots: Tensor, moves: Tensor, free: Tensor) -> Tensor:
    """``slots`` ``[H_kv, K, D]`` plus what the free ones move, in units of their root mean square in each head."""
    number = (free.sum(1) * slots.shape[2]).clamp_min(1)
    size = ((slots.float() * free[..., None]).square().sum((1, 2)) / number).sqrt()  # [H_kv]
    return slots.float() + moves * (size[:, None] * free)[..., None]


def _attended(found: References, small: LayerCache, slots: Slots) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs ``[H_kv, G, n, D]``, log-sum-exp of the logits ``[H_kv, G, n]``, and which queries see a slot."""
    logits = torch.cat([block for _, _, block in logit_blocks(found, small)], -1)
    sees = (logits > float("-inf")).any(-1)
    logits = logits.masked_fill(~sees[..., None], 0) + slots.weight.log()[:, None, None]
    return logits.softmax(-1) @ slots.values[:, None], logits.logsumexp(-1), sees
