"""Score by what was seen: the largest attention that anything fed behind the context pays, or is expected to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from flowmm.blocks import attention_blocks, visible
from flowmm.context import Evidence, LayerCache
from flowmm.scores.leverage import Leverage
from flowmm.scores.value_norm import value_norm

_RECORDED = {"tail": "queries", "sample": "sample"}  # what there is of the prefill itself, by pass
_LEVERAGE = "leverage"  # needs nothing


@dataclass(frozen=True)
class Observed:
    """``max over passes of max over queries of alpha``: KVzip's score (arXiv 2505.23416) over any passes.

    A slot is worth what the query that needs it most pays to it, so several passes are joined by the element-wise
    largest: one that does not ask for a slot then does not count against it.

    Attributes:
        passes: whose observations: "reconstruct", "reconstruct_relative", "probes", "gate", "scout"; or of the one
            pass there always is the queries of its last tokens, "tail", or of tokens all over the context, "sample";
            and like one more the "leverage" of a key (Compactor, arXiv 2507.08143), for which nothing is observed.
        if_made: further ones that count where they were made: a gate is only where the profile names one.
        times_value_norm: weigh by ``|W_O v|``, as KVzip+ does.
    """

    passes: Annotated[list[str], Field(min_length=1)]
    if_made: list[Literal["gate"]] = field(default_factory=list)
    times_value_norm: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """One need for each pass that must have been made, and the weights of the values, if they count."""
        passes = {_RECORDED.get(name, f"observed.{name}") for name in self.passes if name != _LEVERAGE}
        return frozenset(passes | {"value_weight"}) if self.times_value_norm else frozenset(passes)

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        assert evidence is not None  # compress checks what a rule needs
        names = [*self.passes, *(name for name in self.if_made if name in evidence.observed)]
        largest = torch.stack([_seen(name, layer, evidence) for name in names]).amax(0)
        return largest * value_norm(layer, evidence) if self.times_value_norm else largest


def _seen(name: str, layer: LayerCache, evidence: Evidence) -> Tensor:
    """``[H_kv, S]`` float32: the largest attention that a pass pays to each slot."""
    if name == _LEVERAGE:
        return Leverage()(layer, evidence, seed=0)
    if name == "tail":
        return largest_attention(layer, evidence.queries, evidence.query_index, evidence.scale)
    if name == "sample":
        assert evidence.sample is not None
        assert evidence.sample_index is not None
        return largest_attention(layer, evidence.sample, evidence.sample_index, evidence.scale)
    return evidence.observed[name].to(layer.keys.device)


def largest_attention(layer: LayerCache, queries: Tensor, index: Tensor, scale: float) -> Tensor:
    """The largest attention that queries of the context pay to each slot.

    Args:
        layer: the slots.
        queries: ``[H_q, N, D]`` post-RoPE.
        index: ``[N]`` the token of each; it sees the slots up to its own.
        scale: what ``q . k`` is multiplied with.

    Returns:
        ``[H_kv, S]`` float32, the largest over the queries and the query heads of the group.
    """
    device = layer.keys.device
    allowed = visible(layer.position, index.to(device), layer.window)
    found = torch.zeros(layer.position.shape, device=device)
    for _, attention in attention_blocks(queries.to(device), layer.keys, scale, allowed, layer.logit_bias):
        found = found.maximum(attention.amax((1, 2)))
    return found
