"""The attention function that stands in for transformers' own, while a context is read and while it is questioned.

transformers makes one mask per layer *type*; layers and heads of different lengths need one per layer. So the decoder
is switched to an attention function registered without a mask function (transformers then makes no mask at all), and
an :class:`Attention` object, handed through the forward call's keyword arguments, holds keys and values and decides
who sees what. No transformers cache object takes part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

NAME = "flowmm"
_SCORES_BYTES = 64 << 20  # what the scores of one block of queries may take


class Attention(Protocol):
    """Holds the keys and values of all layers during forward calls."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Take in new keys and values, return the attention output.

        Args:
            layer: index of the layer.
            query: ``[B, H_q, n, D]`` post-RoPE.
            key: ``[B, H_kv, n, D]`` post-RoPE.
            value: ``[B, H_kv, n, D]``.
            scale: what q.k is multiplied with.

        Returns:
            ``[B, H_q, n, D]``.
        """
        ...


@contextmanager
def attention_of(model: Any) -> Iterator[None]:
    """Let the model's text decoder attend through the object passed as ``flowmm=``; restore its own afterwards."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _dispatch)
    decoder = model.get_decoder()
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation(NAME)
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def _dispatch(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # always None: no mask function is registered under NAME
    scaling: float | None = None,
    flowmm: Attention | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    if flowmm is None:
        raise RuntimeError("the decoder was called on the flowmm attention without an Attention object")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = flowmm.attend(module.layer_idx, query, key, value, scale)
    return output.transpose(1, 2).contiguous(), None


def partial_attention(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention over one share of the slots, ready to be joined with that over another share.

    Args:
        query: ``[N, R, D]``.
        keys: ``[N, S, D]``.
        values: ``[N, S, D]``.
        scale: what q.k is multiplied with.
        bias: ``[N, 1 or R, S]`` float32, added to the scaled logits; ``-inf`` hides a slot.

    Returns:
        Output ``[N, R, D]`` and log-sum-exp of the logits ``[N, R]``, both float32. A row that sees no slot has
        output 0 and log-sum-exp ``-inf``.
    """
    rows, num_slots = query.shape[1], keys.shape[1]
    block = max(1, _SCORES_BYTES // (4 * query.shape[0] * max(1, num_slots)))
    outputs, sums = [], []
    for start in range(0, rows, block):
        part = query[:, start : start + block]
        logits = (part @ keys.transpose(1, 2)).float() * scale  # [N, r, S]
        if bias is not None:
            logits += bias if bias.shape[1] == 1 else bias[:, start : start + block]
        total = logits.logsumexp(-1)  # [N, r]
        weights = (logits - total.masked_fill(total == -math.inf, 0.0)[..., None]).exp_()
        outputs.append((weights.to(values.dtype) @ values).float())
        sums.append(total)
    return torch.cat(outputs, 1), torch.cat(sums, 1)


def join(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Join two partial attentions over disjoint slots: ``[..., D]`` float32. The second must see at least one slot."""
    (out_a, sum_a), (out_b, sum_b) = first, second
    total = torch.logaddexp(sum_a, sum_b)[..., None]
    return out_a * (sum_a[..., None] - total).exp() + out_b * (sum_b[..., None] - total).exp()
