"""Observe through a scout: a smaller model of the family that read the same context scores for the large one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowmm.budgets.choose import slots_to_keep
from flowmm.context import ContextCache, Modality, Prompt
from flowmm.errors import MismatchError
from flowmm.records import ModelIdentity, ScoutRecord
from flowmm.scores.attention import Attention


@dataclass(frozen=True)
class Scouted:
    """What a scout leaves behind once it is freed; all tensors on the CPU."""

    model: ModelIdentity
    token_ids: Tensor  # [T] int64
    modality: Tensor  # [T] uint8
    tail: int  # last queries whose attention heads are matched by
    top: float  # share of the slots, those with most of it, that they are matched by
    favourites: tuple[Tensor, ...]  # per layer of the scout [H_kv, T] bool
    scores: tuple[Tensor, ...]  # per layer of the scout [H_kv, T] float32


@dataclass(frozen=True)
class Match:
    """Which of the scout's heads stands for each KV head of a layer."""

    head: Tensor  # [H_kv] int64, counted through all layers of the scout
    overlap: Tensor  # [H_kv] float32, the Jaccard overlap of their favourites


def favourites(cache: ContextCache, tail: int, top: float) -> tuple[Tensor, ...]:
    """The slots that each head looks at most, which heads of two models are compared by.

    Sinks and template are left out: every head looks at them, and none may evict them.

    Args:
        cache: full, with evidence.
        tail: last queries of the context that look; mean over the query heads of a KV head.
        top: share of the slots.

    Returns:
        Per layer ``[H_kv, T]`` bool, on the CPU; fewer slots where fewer are looked at (sliding layers).
    """
    look, found = Attention(window=tail), []
    for layer, evidence in zip(cache.layers, cache.evidence or (), strict=True):
        received = look(layer, evidence, 0).masked_fill(layer.protected, 0)
        most, slots = received.topk(slots_to_keep(received.shape[1], top), dim=1)
        found.append(torch.zeros_like(received, dtype=torch.bool).scatter(1, slots, most > 0).cpu())
    return tuple(found)


def matched(large: Sequence[Tensor], scout: Sequence[Tensor]) -> list[Match]:
    """The head of the scout whose favourites overlap most with a head's own (SmallKV, arXiv 2508.02751).

    All layers of the scout are looked at, as depth says little across models of different depth, and the overlap is
    itself the measure of a match. Among equals the nearest in relative depth, then in place among the heads, is
    taken, so that a model which scouts for itself gets its own heads.

    Args:
        large: per layer ``[H_kv, T]`` bool.
        scout: the same; numbers of layers and heads may differ.
    """
    theirs = torch.cat(list(scout)).float()  # [N, T]
    matches = []
    for layer, own in enumerate(large):
        shared = own.float() @ theirs.T  # [H_kv, N], whole numbers
        either = own.sum(1)[:, None] + theirs.sum(1) - shared
        overlap = shared / either.clamp_min(1)
        best = overlap.amax(1)
        far = _distance(layer, len(large), own.shape[0], [heads.shape[0] for heads in scout])
        nearest = far.masked_fill(overlap < best[:, None], torch.iinfo(far.dtype).max).argmin(1)
        matches.append(Match(nearest, best))
    return matches


def with_scouted(cache: ContextCache, scouted: Scouted) -> ContextCache:
    """The large model's cache with the scores of the matched heads as what the pass "scout" sees."""
    assert cache.evidence is not None  # a cache that was just read
    matches = matched(favourites(cache, scouted.tail, scouted.top), scouted.favourites)
    scores = torch.cat(scouted.scores)  # [N, T]
    evidence = tuple(
        replace(one, observed={**one.observed, "scout": scores[match.head].to(layer.keys.device)})
        for one, layer, match in zip(cache.evidence, cache.layers, matches, strict=True)
    )
    record = ScoutRecord(scouted.model, tuple(float(match.overlap.mean()) for match in matches))
    return replace(cache, evidence=evidence, provenance=replace(cache.provenance, scout=record))


def check_same_tokens(scouted: Scouted, prompt: Prompt, model: str) -> None:
    """Raise MismatchError, naming the first difference, unless both models read the same tokens.

    Args:
        scouted: what the scout read.
        prompt: what the large model is about to read.
        model: its name.
    """
    mine, theirs = prompt.token_ids, scouted.token_ids
    if mine.shape != theirs.shape:
        raise _mismatch(scouted, model, "number of tokens", str(theirs.shape[0]), str(mine.shape[0]))
    for what, expected, found in (("id", theirs, mine), ("modality", scouted.modality, prompt.modality)):
        differs = (expected != found).nonzero()[:, 0]
        if differs.numel():
            at = int(differs[0])
            names = [str(int(one[at])) if what == "id" else Modality(int(one[at])).name for one in (expected, found)]
            raise _mismatch(scouted, model, f"{what} of token {at}", names[0].lower(), names[1].lower())


def _mismatch(scouted: Scouted, model: str, field: str, expected: str, found: str) -> MismatchError:
    hint = "Take a scout of the same family: with the same tokenizer, chat template and image processor."
    return MismatchError(f"scores of the scout {scouted.model.id}", field, expected, f"{found} in {model}", hint)


def _distance(layer: int, num_layers: int, num_heads: int, scout_heads: Sequence[int]) -> Tensor:
    """``[H_kv, N]`` int64: how far each of the scout's heads is, in relative depth first, in whole numbers."""
    most = max(scout_heads)
    rows = []
    for head in range(num_heads):
        row = []
        for at, count in enumerate(scout_heads):
            depth = abs((2 * layer + 1) * len(scout_heads) - (2 * at + 1) * num_layers)
            row += [
                depth * 2 * num_heads * most + abs((2 * head + 1) * count - (2 * other + 1) * num_heads)
                for other in range(count)
            ]
        rows.append(row)
    return torch.tensor(rows)
