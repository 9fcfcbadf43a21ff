"""Train the slots of a small cache through the model, on the full cache's own answers (self-study, Cartridges)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from flowmm.context import ContextCache, LayerCache
from flowmm.held_out import HeldOut, agreement, ask_held_out, divergence
from flowmm.hf.decoding import placed
from flowmm.hf.learning import answer_logits
from flowmm.hf.loading import LoadedModel
from flowmm.layer_tensors import rounded
from flowmm.observe.probes import names
from flowmm.packing import Packing
from flowmm.profiles import Distil, Method
from flowmm.training import Slots, moved

_ROWS = 16  # answers of a step


def lessons(full: ContextCache, text: str, method: Method, loaded: LoadedModel) -> HeldOut | None:
    """The full cache's answers to the method's probes about names and numbers of the text; None without any."""
    probes = method.observe.probes
    if method.distil is None or probes is None:
        return None
    items = names(text, probes.words)
    asked = [form.replace("{item}", item) for item in items for form in probes.about_item]
    return ask_held_out(full, asked, loaded) if asked else None


def distilled(
    small: ContextCache,
    known: HeldOut,
    held: HeldOut,
    loaded: LoadedModel,
    settings: Distil,
    packing: Packing,
    seed: int = 0,
    *,
    bias: bool = True,
) -> ContextCache:
    """The small cache with trained keys, biases and values, if held-out questions diverge less with them.

    ``KL(full || small)`` at the tokens of the full cache's answers, by Adam (after Cartridges, arXiv 2506.06266).
    Protected slots stay verbatim.

    Args:
        small: after compression.
        known: what to train on.
        held: what to judge by, as both caches come back from a file.
        loaded: the model.
        settings: of the method.
        packing: of the file.
        seed: of the draw of each step's answers.
        bias: whether biases move too; a file has to store them.

    Returns:
        ``small`` itself where training does not help.
    """
    cache = placed(small, loaded)
    moving = _Moving.of(cache, bias)
    optimizer = torch.optim.Adam([move for one in moving.moves for move in one], lr=settings.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(settings.steps):
        chosen = torch.randperm(len(known.rows), generator=generator)[:_ROWS].tolist()
        optimizer.zero_grad()
        with torch.enable_grad():
            torch.autograd.backward(_lost(known, chosen, moving.layers(), cache.next_position, loaded))
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = [_back(*pair) for pair in zip(small.layers, moving.layers(), strict=True)]
    trained = replace(small, layers=tuple(found))
    before, after = (agreement(held, rounded(one, packing), loaded).kl for one in (small, trained))
    return trained if after < before else small


def _lost(
    known: HeldOut, chosen: Sequence[int], layers: Sequence[LayerCache], next_position: int, loaded: LoadedModel
) -> Tensor:
    """Mean ``KL(full || small)`` over the tokens of the answers ``chosen``, in nats."""
    lengths = [len(row) - start for row, start in zip(known.rows, known.starts, strict=True)]
    first = [0, *accumulate(lengths)]
    at = torch.cat([torch.arange(first[row], first[row + 1]) for row in chosen])
    rows, starts = [known.rows[row] for row in chosen], [known.starts[row] for row in chosen]
    log_probs = answer_logits(loaded, layers, next_position, rows, starts).log_softmax(-1).cpu()
    return divergence(known.log_probs[at], log_probs.gather(1, known.top[at])).mean()


@dataclass(frozen=True)
class _Moving:
    """The layers of a cache, and how far their free slots have moved."""

    before: tuple[LayerCache, ...]
    start: list[Slots]
    free: list[Tensor]  # each [H_kv, K] bool
    moves: list[list[Tensor]]  # for each layer those of keys, weights and values
    bias: bool  # False: the weights stay what they are

    @classmethod
    def of(cls, cache: ContextCache, bias: bool) -> _Moving:
        """Nothing has moved yet."""
        weights = [torch.ones(layer.position.shape, device=layer.keys.device) for layer in cache.layers]
        start = [Slots(layer.keys, one, layer.values) for layer, one in zip(cache.layers, weights, strict=True)]
        free = [~(layer.protected | layer.padding) for layer in cache.layers]
        moves = [
            [torch.zeros_like(slots, dtype=torch.float32, requires_grad=True) for slots in vars(one).values()]
            for one in start
        ]
        return cls(cache.layers, start, free, moves, bias)

    def layers(self) -> list[LayerCache]:
        """As they are now, in float32."""
        found = []
        for layer, slots, free, moves in zip(self.before, self.start, self.free, self.moves, strict=True):
            new = moved(slots, moves, free)
            if self.bias:
                added = new.weight.log()
                layer = replace(layer, bias=added if layer.bias is None else layer.bias + added)
            found.append(replace(layer, keys=new.keys, values=new.values))
        return found


def _back(old: LayerCache, new: LayerCache) -> LayerCache:
    """The new slots where the old ones were, in their dtype."""
    like = old.keys
    bias = None if new.bias is None else new.bias.to(like.device)
    return replace(old, keys=new.keys.to(like), values=new.values.to(like), bias=bias)
