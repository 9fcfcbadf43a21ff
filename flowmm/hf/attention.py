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

from flowmm.blocks import blocks

NAME = "flowmm"
_LEAST, _TINIEST = torch.finfo(torch.float32).min, torch.finfo(torch.float32).tiny  # for rows that see no slot


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
    # Not set_attn_implementation, which goes through all modules, twice a question.
    config = model.get_decoder().config
    before = config._attn_implementation
    if before == NAME:  # somebody around this call has done so, and will restore it
        yield
        return
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


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
    count, num_rows, _ = query.shape
    output = query.new_zeros(count, num_rows, values.shape[2], dtype=torch.float32)
    total = query.new_full((count, num_rows), -math.inf, dtype=torch.float32)
    if keys.shape[1] == 0:
        return output, total
    transposed = keys.mT
    for rows in blocks(num_rows, 4 * count * keys.shape[1], cached=query.device.type == "cpu"):
        logits = (query[:, rows] @ transposed).float().mul_(scale)  # [N, r, S]
        if bias is not None:
            logits += bias if bias.shape[1] == 1 else bias[:, rows]
        largest = logits.amax(-1, keepdim=True).clamp_(min=_LEAST)
        weights = logits.sub_(largest).exp_()
        mass = weights.sum(-1, keepdim=True)  # one exp a logit, not one more for the sum
        some = mass.clamp(min=_TINIEST)
        if values.dtype == torch.float16:  # in which weights that sum to more than 1 overflow
            output[:, rows] = (weights.div_(some).to(values.dtype) @ values).float()
        else:  # normalised behind the product, which is smaller
            output[:, rows] = (weights.to(values.dtype) @ values).float().div_(some)
        total[:, rows] = (largest + mass.log())[..., 0]
    return output, total


def join(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Join two partial attentions over disjoint slots: ``[..., D]`` float32. The second must see at least one slot."""
    (out_a, sum_a), (out_b, sum_b) = first, second
    total = torch.logaddexp(sum_a, sum_b)[..., None]
    return out_a * (sum_a[..., None] - total).exp() + out_b * (sum_b[..., None] - total).exp()


def shared_attention(
    query: Tensor, shared: tuple[Tensor, Tensor, Tensor], own: tuple[Tensor, Tensor, Tensor], scale: float
) -> Tensor:
    """Attention of a batch over slots that all of it shares and slots of each member's own, under one softmax.

    The shared slots are read once: the queries of all members are the rows of one product. All logits are in memory
    at once, so this is for few queries.

    Args:
        query: ``[B, H_kv, G * n, D]``.
        shared: keys ``[H_kv, S, D]``, values, bias ``[1 or H_kv, 1 or B * G * n, 1 or S]`` float32.
        own: keys ``[B, H_kv, W, D]``, values, bias ``[1 or B, 1 or H_kv, 1 or G * n, 1 or W]`` float32.
        scale: what q.k is multiplied with.

    Returns:
        ``[B, H_kv, G * n, D]``.
    """
    batch, num_kv, rows, size = query.shape
    keys, values, bias = shared
    own_keys, own_values, own_bias = own
    stacked = query.transpose(0, 1).reshape(num_kv, batch * rows, size)
    over_shared = torch.add(bias, stacked @ keys.mT, alpha=scale).view(num_kv, batch, rows, -1)
    products = torch.bmm(query.reshape(batch * num_kv, rows, size), own_keys.flatten(0, 1).mT)
    over_own = torch.add(own_bias, products.view(batch, num_kv, rows, -1), alpha=scale)
    weights = torch.cat([over_shared, over_own.transpose(0, 1)], -1).softmax(-1).to(values.dtype)
    count = keys.shape[1]
    output = weights[..., :count].reshape(num_kv, batch * rows, count) @ values
    at_own = weights[..., count:].transpose(0, 1).reshape(batch * num_kv, rows, -1)
    own_output = torch.bmm(at_own, own_values.flatten(0, 1)).view(batch, num_kv, rows, -1)
    return output.view(num_kv, batch, rows, -1).transpose(0, 1) + own_output
