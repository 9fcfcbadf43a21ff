"""Into the decoder's layers: the hidden states each is given, their sizes, and its output projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from flowmm.context import LayerCache


@contextmanager
def shown_to(model: Any, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Call ``see(layer, states)`` with what each decoder layer is given, ``[B, n, hidden]``, before it runs."""

    def hook(index: int) -> Callable[..., None]:
        def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            see(index, args[0] if args else kwargs["hidden_states"])

        return before

    layers = model.get_decoder().layers
    handles = [layer.register_forward_pre_hook(hook(i), with_kwargs=True) for i, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def num_query_heads(model: Any) -> int:
    """H_q of every layer."""
    return int(model.get_decoder().config.num_attention_heads)


def hidden_bytes(model: Any) -> int:
    """Bytes of the hidden state of one token in one layer."""
    decoder = model.get_decoder()
    return int(decoder.config.hidden_size * next(iter(decoder.layers.parameters())).element_size())


@torch.no_grad()
def output_weight(model: Any, index: int, layer: LayerCache) -> Tensor | None:
    """``|W_O v|`` of every slot: how much its value can move the residual stream (KVzip+, arXiv 2505.23416).

    The query heads of a KV head each project the value with a part of ``W_O`` of their own; the root of their mean
    square is taken.

    Returns:
        ``[H_kv, S]`` float32; None where the architecture does not call its output projection by its usual name.
    """
    project = getattr(getattr(model.get_decoder().layers[index], "self_attn", None), "o_proj", None)
    if project is None:
        return None
    num_kv, _, size = layer.values.shape
    # The projection of unit vectors and not its weight: a quantised layer has no plain weight.
    inputs = int(project.in_features)
    unit = torch.eye(inputs, device=layer.values.device, dtype=layer.values.dtype)
    zero = project(unit[:1] * 0)  # a bias adds the same to all and is no part of a value
    columns = (project(unit) - zero).float().view(num_kv, -1, size, zero.shape[-1])  # [H_kv, G, D, hidden]
    gram = (columns @ columns.mT).mean(1)  # [H_kv, D, D]
    values = layer.values.float()
    squared: Tensor = ((values @ gram) * values).sum(-1)
    return squared.clamp_min(0).sqrt()
