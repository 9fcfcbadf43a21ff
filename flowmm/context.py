"""The values that travel from stage to stage. Axis letters are those of docs/concepts.md:
L layers, H_q / H_kv heads, G = H_q / H_kv, S slots, T tokens, D head size, B batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor

from flowmm.records import LayerFlow, Provenance, Span
from flowmm.rotation import Rotation

NUM_SINKS = 4  # the first slots, which soak up attention mass; never evicted (StreamingLLM, arXiv 2309.17453)


class Modality(IntEnum):
    """What a token came from. Template tokens are protected; in the flow they count as text."""

    TEXT = 0
    VISUAL = 1
    TEMPLATE = 2


@dataclass(frozen=True)
class Piece:
    """A part as the model takes it in: its tokens, and for an image the processor's tensors."""

    token_ids: Tensor  # [n] int64
    modality: Tensor  # [n] uint8
    pixels: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """The whole context, everything up to the question, as tokens.

    ``pieces`` in order make up ``token_ids``; the question's tokens simply follow (the boundary is token-stable).
    """

    pieces: tuple[Piece, ...]
    spans: tuple[Span, ...]

    @property
    def token_ids(self) -> Tensor:
        """``[T]`` int64."""
        return torch.cat([piece.token_ids for piece in self.pieces])

    @property
    def modality(self) -> Tensor:
        """``[T]`` uint8, values of :class:`Modality`."""
        return torch.cat([piece.modality for piece in self.pieces])


@dataclass(frozen=True)
class LayerCache:
    """Keys and values of one layer, heads padded to the longest.

    Slots ``[h, lengths[h]:]`` are padding. Within a head, slots are in the order of the tokens. ``position`` is the
    index of the token (the pivot's, after a merge) in the context; it is not the rotary position, which the keys
    already carry.
    """

    keys: Tensor  # [H_kv, S, D], after rotary embedding
    values: Tensor  # [H_kv, S, D]
    position: Tensor  # [H_kv, S] int32
    modality: Tensor  # [H_kv, S] uint8
    lengths: Tensor  # [H_kv] int64
    bias: Tensor | None = None  # [H_kv, S] float32, added to the attention logits: log(mass) of a merged slot
    window: int | None = None  # sliding-window layers: a query at position p sees keys at positions > p - window
    important: Tensor | None = None  # [H_kv, S] bool: slots that a file of few bits keeps in 16, besides protected ones

    @property
    def num_slots(self) -> int:
        """Living slots of all heads together."""
        return int(self.lengths.sum())

    @property
    def padding(self) -> Tensor:
        """``[H_kv, S]`` bool, True where a head has no slot."""
        return torch.arange(self.keys.shape[1], device=self.lengths.device) >= self.lengths[:, None]

    @property
    def logit_bias(self) -> Tensor | None:
        """``[H_kv, S]`` float32 with ``-inf`` on the padding; None when every slot is plain and every head full."""
        padding = self.padding
        if self.bias is None and not bool(padding.any()):
            return None
        bias = torch.zeros(padding.shape, device=padding.device) if self.bias is None else self.bias
        return bias.masked_fill(padding, float("-inf"))

    @property
    def protected(self) -> Tensor:
        """``[H_kv, S]`` bool: template tokens and sinks, which no method may evict or merge."""
        return ((self.modality == Modality.TEMPLATE) | (self.position < NUM_SINKS)) & ~self.padding

    @property
    def exact(self) -> Tensor:
        """``[H_kv, S]`` bool: what a file of few bits keeps in 16."""
        return self.protected if self.important is None else self.protected | self.important


@dataclass(frozen=True)
class Evidence:
    """What was observed of one layer's attention while the context was read."""

    queries: Tensor  # [H_q, N, D] post-RoPE reference queries
    query_index: Tensor  # [N] int64, index of each query's token; it sees the keys up to and including its own
    scale: float  # what q.k is multiplied with
    cumulative: Tensor | None = None  # [H_kv, S] float32: attention received from all queries, summed; mean over G
    flow: LayerFlow | None = None
    sample: Tensor | None = None  # [H_q, M, D] post-RoPE queries from all over the context, for refit and diagnostics
    sample_index: Tensor | None = None  # [M] int64, the token of each; None exactly when sample is
    asking: Tensor | None = None  # [H_q, R, D] post-RoPE queries of what was fed behind the context; they see all of it
    observed: Mapping[str, Tensor] = field(default_factory=dict)  # by pass, [H_kv, S] float32: the largest attention
    value_weight: Tensor | None = None  # [H_kv, S] float32: |W_O v|
    rotation: Rotation | None = None  # of the keys; layers that rotate alike share the object

    @property
    def num_references(self) -> int:
        """Queries that were recorded, those of one token counted once."""
        sampled = [] if self.sample_index is None else self.sample_index.tolist()
        asking = 0 if self.asking is None else self.asking.shape[1]
        return len({*self.query_index.tolist(), *sampled}) + asking


@dataclass(frozen=True)
class ContextCache:
    """A context that was read: everything needed to answer questions about it."""

    layers: tuple[LayerCache, ...]
    modality: Tensor  # [T] uint8, of every token that was read
    next_position: int  # the largest rotary position + 1; with mRoPE smaller than T
    provenance: Provenance
    evidence: tuple[Evidence, ...] | None = None  # present in full caches, so that they can be compressed later

    @property
    def num_tokens(self) -> int:
        """Tokens that were read."""
        return int(self.modality.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of the living keys and values, padding left out."""
        return sum(
            layer.num_slots
            * (layer.keys.shape[2] * layer.keys.element_size() + layer.values.shape[2] * layer.values.element_size())
            for layer in self.layers
        )

    @property
    def keep(self) -> float:
        """Living slots over the slots of a full cache."""
        full = sum(layer.keys.shape[0] for layer in self.layers) * self.num_tokens
        return sum(layer.num_slots for layer in self.layers) / full
