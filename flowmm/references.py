"""Reference queries of a layer, and what they see of it: attention in blocks of queries and of slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.context import Evidence, LayerCache

LOWEST = torch.finfo(torch.float32).min  # stands for -inf where two of them are subtracted


@dataclass(frozen=True)
class References:
    """Queries that stand for those to come; each sees the slots up to its own token that the next token sees too."""

    queries: Tensor  # [H_q, N, D] after rotary embedding
    index: Tensor  # [N] int64, the token of each; num_tokens for what comes behind the context
    scale: float  # what q.k is multiplied with
    num_tokens: int  # of the context; the next token sees nothing at or before num_tokens - window

    def at(self, rows: Tensor) -> References:
        """Those at ``rows`` ``[n]``."""
        return replace(self, queries=self.queries[:, rows], index=self.index[rows])


@dataclass(frozen=True)
class Attended:
    """What queries get of a layer; N queries, G of each KV head; nothing (zeros) where a query sees no slot."""

    largest: Tensor  # [H_kv, G, N] float32, the largest logit
    mass: Tensor  # [H_kv, G, N] float32, sum of exp(logit - largest)
    output: Tensor  # [C, H_kv, G, N, D] float32, what the slots of each class add to the output
    favourite: Tensor  # [H_kv, G, N] int64, the token of the slot that is looked at most; -1: none


def references(evidence: Evidence, num_tokens: int, device: torch.device) -> References:
    """All reference queries of a layer: from all over the context and its last, each once, and those from behind it."""
    queries, index = evidence.queries, evidence.query_index
    if evidence.sample is not None and evidence.sample_index is not None:
        new = ~torch.isin(evidence.sample_index, index)
        queries = torch.cat([evidence.sample[:, new], queries], dim=1)
        index = torch.cat([evidence.sample_index[new], index])
    if evidence.asking is not None:
        queries = torch.cat([queries, evidence.asking], dim=1)
        index = torch.cat([index, index.new_full((evidence.asking.shape[1],), num_tokens)])
    return References(queries.to(device), index.to(device), evidence.scale, num_tokens)


def split(found: References, most: int, held_out: float, seed: int) -> tuple[References, References]:
    """Draw at most ``most`` queries and part them: those to fit to, and a share ``held_out`` (or one) to judge by.

    The draw depends on the number of queries and the seed alone, so it is the same for all layers.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(found.index.shape[0], generator=generator)[:most].to(found.index.device)
    num_held = max(1, min(drawn.shape[0] - 1, round(held_out * drawn.shape[0])))
    return found.at(drawn[num_held:].sort().values), found.at(drawn[:num_held].sort().values)


def logit_blocks(found: References, layer: LayerCache) -> Iterator[tuple[slice, slice, Tensor]]:
    """Logits of queries on slots in float32, biases added, ``-inf`` where a slot is hidden.

    Yields:
        Slices of the queries and of the slots, and their logits ``[H_kv, G, n, s]``, which the caller may overwrite.
    """
    num_kv_heads, num_slots, head_size = layer.keys.shape
    num_heads, num_queries, _ = found.queries.shape
    grouped = found.queries.reshape(num_kv_heads, -1, num_queries, head_size)
    bias = layer.logit_bias
    for columns in blocks(num_slots, 4 * num_kv_heads * max(head_size, 256)):
        keys = layer.keys[:, columns].float().mT  # [H_kv, D, s]
        for rows in blocks(num_queries, 4 * num_heads * keys.shape[2]):
            block = (grouped[:, :, rows].float() * found.scale).flatten(1, 2) @ keys  # [H_kv, G * n, s]
            logits = block.view(num_kv_heads, grouped.shape[1], -1, keys.shape[2])
            if bias is not None:
                logits += bias[:, None, None, columns]
            logits.masked_fill_(_hidden(found, rows, layer, columns)[:, None], float("-inf"))
            yield rows, columns, logits


def attend(found: References, layer: LayerCache, classes: Tensor | None = None) -> Attended:
    """Attention of queries over a layer; nothing of the size queries x slots is held.

    Args:
        found: the queries.
        layer: full or small.
        classes: ``[C, H_kv, S]`` bool, the slots whose part of the output is wanted apart; None: all together (C = 1).
    """
    num_kv_heads, _, head_size = layer.values.shape
    shape = (num_kv_heads, found.queries.shape[0] // num_kv_heads, found.index.shape[0])
    largest = found.queries.new_full(shape, LOWEST, dtype=torch.float32)
    mass = torch.zeros_like(largest)
    favourite = torch.full_like(largest, -1, dtype=torch.int64)
    output = largest.new_zeros(1 if classes is None else classes.shape[0], *shape, head_size)
    for rows, columns, logits in logit_blocks(found, layer):
        top, slot = logits.max(-1)  # [H_kv, G, n]
        before, after = largest[:, :, rows], largest[:, :, rows].maximum(top)
        token = layer.position[:, columns].gather(1, slot.flatten(1)).view_as(slot).long()
        favourite[:, :, rows] = token.where(top > before, favourite[:, :, rows])
        shrink = (before - after).exp()
        weights = logits.sub_(after[..., None]).exp_()
        mass[:, :, rows] = mass[:, :, rows] * shrink + weights.sum(-1)
        for member, part in enumerate(output):
            within = layer.values[:, columns].float()
            if classes is not None:
                within = within * classes[member][:, columns, None]
            added = (weights.flatten(1, 2) @ within).view(*slot.shape, head_size)
            part[:, :, rows] = part[:, :, rows] * shrink[..., None] + added
        largest[:, :, rows] = after
    output /= mass.clamp_min(torch.finfo(mass.dtype).tiny)[..., None]
    return Attended(largest, mass, output, favourite)


def _hidden(found: References, rows: slice, layer: LayerCache, columns: slice) -> Tensor:
    """``[H_kv, n, s]`` bool: slots behind a query, or out of the window of a query or of the next token."""
    token, position = found.index[rows, None], layer.position[:, None, columns]
    hidden = position > token
    if layer.window is not None:
        hidden |= (position <= token - layer.window) | (position <= found.num_tokens - layer.window)
    return hidden
