"""Train a gate to tell what repeating a context would look at, and see how well it does on what it was not shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from flowmm.errors import UsageError
from flowmm.observe.gate import Gate, LayerGate
from flowmm.profiles import GateReport

RANK, SINKS = 16, 16  # the paper's
_BATCH, _RATE, _DECAY = 1024, 3e-3, 1.0
_PASSES, _FEWEST, _MOST = 20, 200, 2000  # over the tokens; in steps. More fits the documents, not the model
_BY_DOCUMENT = 3  # documents from which on a whole one is held out
_HELD_OUT = 5  # one in so many tokens, the last ones, where documents are too few
_LEAST = 1e-4  # keeps a target's mean from the ends, where it has no logit


@dataclass(frozen=True)
class Lesson:
    """Tokens of one document: what each layer was given, and what repeating the document then looked at."""

    states: tuple[Tensor, ...]  # per layer [n, hidden]
    targets: tuple[Tensor, ...]  # per layer [H_kv, n] float32, between 0 and 1


def train(
    lessons: Sequence[Lesson],
    num_heads: int,
    weights: str,
    *,
    seed: int = 0,
    steps: int | None = None,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Gate, GateReport]:
    """Train each layer's gate by binary cross-entropy against the scores of a reconstruction (KVzip).

    Args:
        lessons: one for each document.
        num_heads: query heads of the model.
        weights: fingerprint of the model's weights.
        seed: of the beginning and of the batches.
        steps: of AdamW, for each layer; None goes by the number of tokens.
        device: to train on; None is where the states are.
        progress: called with layers done and layers there are.

    Raises:
        UsageError: there are too few tokens.
    """
    shown, kept_back, held_out = _split(lessons)
    tokens, unseen_tokens = (sum(one.states[0].shape[0] for one in part) for part in (shown, kept_back))
    if min(tokens, unseen_tokens) < 1:
        what = f"{tokens} tokens to train a gate on and {unseen_tokens} to judge it by are too few"
        raise UsageError(what, "Give longer documents, or more of them.")
    layers, rows = [], []
    count = len(lessons[0].states)
    for index in range(count):
        if progress is not None:
            progress(index, count)
        states, targets = _joined(shown, index, device)
        layer = _stored(_trained(states, targets, num_heads, steps, seed + index))
        layers.append(layer)
        unseen_states, unseen = _joined(kept_back, index, device)
        rows.append(_judged(layer, targets, unseen_states, unseen))
    if progress is not None:
        progress(count, count)
    bce, constant, correlation = (list(row) for row in zip(*rows, strict=True))
    gate = Gate(tuple(layer.to(torch.device("cpu")) for layer in layers), weights)
    report = GateReport(
        tokens=tokens,
        held_out=held_out,
        held_out_tokens=unseen_tokens,
        bce=bce,
        bce_constant=constant,
        correlation=correlation,
    )
    return gate, report


def drawn(
    num_heads: int, num_kv: int, hidden: int, generator: torch.Generator, odds: Tensor | None = None
) -> LayerGate:
    """A gate that knows nothing yet.

    Args:
        num_heads: H_q.
        num_kv: H_kv.
        hidden: length of a hidden state, whose numbers are of size 1.
        generator: of the draw.
        odds: ``[H_kv]``, logits of what it answers on average; None is 0.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    level = torch.zeros(num_kv) if odds is None else odds
    return LayerGate(
        query=normal(num_heads, RANK, hidden) / math.sqrt(hidden),
        query_bias=torch.zeros(num_heads, RANK),
        query_norm=torch.ones(RANK),
        key=normal(num_kv, RANK, hidden) / math.sqrt(hidden),
        key_norm=torch.ones(RANK),
        sinks=normal(num_kv, SINKS, RANK) / 4,  # not equal: equal sinks would have equal gradients, and remain so
        bias=(level + math.log(SINKS)).repeat_interleave(num_heads // num_kv),
    )


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's, of two ``[N]``; equal values share the mean of their ranks. 0 where one of them is constant."""
    first, second = (_ranks(values) for values in (one, other))
    first, second = first - first.mean(), second - second.mean()
    length = float(first.norm() * second.norm())
    return float(first @ second) / length if length else 0.0


def _split(lessons: Sequence[Lesson]) -> tuple[list[Lesson], list[Lesson], str]:
    """What to train on, what to hold out, and which that is, in words."""
    if len(lessons) >= _BY_DOCUMENT:
        return list(lessons[:-1]), [lessons[-1]], "the last context"
    shown, held_out = [], []
    for lesson in lessons:
        end = lesson.states[0].shape[0] * (_HELD_OUT - 1) // _HELD_OUT
        shown.append(_cut(lesson, slice(None, end)))
        held_out.append(_cut(lesson, slice(end, None)))
    return shown, held_out, "the last fifth of each context"


def _cut(lesson: Lesson, part: slice) -> Lesson:
    return Lesson(tuple(one[part] for one in lesson.states), tuple(one[:, part] for one in lesson.targets))


def _joined(lessons: Sequence[Lesson], layer: int, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """``[N, hidden]`` states and ``[H_kv, N]`` targets of one layer: only one is in float32 at a time."""
    states = torch.cat([lesson.states[layer] for lesson in lessons]).to(device).float()
    return states, torch.cat([lesson.targets[layer] for lesson in lessons], 1).to(states.device)


@torch.enable_grad()
def _trained(states: Tensor, targets: Tensor, num_heads: int, steps: int | None, seed: int) -> LayerGate:
    steps = steps or max(_FEWEST, min(_MOST, _PASSES * states.shape[0] // _BATCH))
    generator = torch.Generator().manual_seed(seed)
    # A few of a hidden state's numbers are often a thousand times the others; folded back into the weights below.
    size = states.square().mean(0).sqrt().clamp_min(1e-6)
    rows = states / size
    odds = targets.mean(1).clamp(_LEAST, 1 - _LEAST).logit().cpu()
    gate = drawn(num_heads, targets.shape[0], states.shape[1], generator, odds).to(states.device)
    values = {field.name: getattr(gate, field.name).requires_grad_() for field in fields(gate)}
    large = [values.pop("query"), values.pop("key")]
    groups = [{"params": large, "weight_decay": _DECAY}, {"params": list(values.values()), "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.randint(rows.shape[0], (min(_BATCH, rows.shape[0]),), generator=generator).to(rows.device)
        loss = _bce(gate(rows[batch]), targets[:, batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    gate = LayerGate(**{field.name: getattr(gate, field.name).detach() for field in fields(gate)})
    return replace(gate, query=gate.query / size, key=gate.key / size)


def _stored(layer: LayerGate) -> LayerGate:
    """As it comes back from its file, so that the report is of what is used."""
    return LayerGate(**{field.name: getattr(layer, field.name).bfloat16().float() for field in fields(layer)})


@torch.no_grad()
def _judged(layer: LayerGate, targets: Tensor, unseen_states: Tensor, unseen: Tensor) -> tuple[float, float, float]:
    """Of what was held out: cross-entropy, that of a constant per head, and the correlation of ranks."""
    found = layer(unseen_states)
    constant = targets.mean(1, keepdim=True).expand_as(unseen)
    correlation = rank_correlation(found.flatten(), unseen.flatten())
    return _short(float(_bce(found, unseen))), _short(float(_bce(constant, unseen))), _short(correlation)


def _short(number: float) -> float:
    """As it is reported."""
    return float(f"{number:.4g}")


def _bce(found: Tensor, wanted: Tensor) -> Tensor:
    return F.binary_cross_entropy(found, wanted.clamp(0, 1))


def _ranks(values: Tensor) -> Tensor:
    """``[N]`` float64."""
    ordered = values.sort().values
    first, last = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (first + last + 1).double() / 2
