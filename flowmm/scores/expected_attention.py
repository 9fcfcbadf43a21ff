"""Score by the attention that queries still to come are expected to pay (Expected Attention)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.context import Evidence, LayerCache
from flowmm.scores.reference import last_queries
from flowmm.scores.value_norm import value_norm


@dataclass(frozen=True)
class ExpectedAttention:
    """``(softmax_i(mu . k_i s + k_i' Sigma k_i s^2 / 2) + epsilon) |v_i|`` (Expected Attention, arXiv 2510.00636).

    Future queries are taken to be Gaussian, so the expectation of ``exp(s q . k)`` is known; mean over the query heads
    of the group. The paper estimates mu and Sigma before the rotary embedding, and rotates them by the mean rotation
    of the next 512 positions. The rotation is no part of a context cache, so here they are those of the last queries
    as they were used, after their own rotation: right where the next positions turn keys as the last ones did, that
    is for all but the slow frequencies, and as far as the end of the context speaks for what follows.

    Attributes:
        window: how many of the last queries the mean and covariance are of.
        covariance: False leaves Sigma out.
        epsilon: what keeps slots with long values that nobody is expected to look at.
        times_value_norm: weigh by ``|W_O v|``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"queries"})
    window: Annotated[int, Field(ge=1)] = 128
    covariance: bool = True
    epsilon: Annotated[float, Field(ge=0)] = 0.02
    times_value_norm: bool = True

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        assert evidence is not None  # compress checks what a rule needs
        queries, _ = last_queries(evidence, self.window, layer.keys.device)
        heads, slots, size = layer.keys.shape
        scaled = (queries.float() * evidence.scale).view(heads, -1, queries.shape[1], size)  # [H_kv, G, W, D]
        mean = scaled.mean(2, keepdim=True)  # [H_kv, G, 1, D]
        spread = (scaled - mean) / queries.shape[1] ** 0.5
        logits = layer.keys.new_empty(heads, scaled.shape[1], slots, dtype=torch.float32)
        for part in blocks(slots, 4 * queries.shape[0] * queries.shape[1]):
            keys = layer.keys[:, None, part].float().mT  # [H_kv, 1, D, s]
            logits[:, :, part] = (mean @ keys)[:, :, 0]
            if self.covariance:
                logits[:, :, part] += (spread @ keys).square().sum(2) / 2  # k' Sigma k without making Sigma
        if layer.bias is not None:
            logits += layer.bias[:, None]
        # Sinks would take nearly all of the expectation and leave the others to epsilon; the paper takes them out too.
        logits.masked_fill_((layer.padding | layer.protected)[:, None], torch.finfo(torch.float32).min)
        expected = logits.softmax(-1).mean(1)
        return (expected + self.epsilon) * value_norm(layer, evidence) if self.times_value_norm else expected
