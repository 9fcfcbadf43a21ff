"""Attention while a context is questioned: a stored prefix that all questions share, and a short tail for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from flowmm.context import LayerCache
from flowmm.hf.attention import join, partial_attention, shared_attention
from flowmm.hf.tail import Slots, Tail

_MOST_BYTES = (32 * 2**20, 8 * 2**20)  # of logits that are in memory at once; on a CPU, as far as its cache helps


class Watcher(Protocol):
    """Sees what the tokens that are fed behind a context look at in it (``observe/replay.py``)."""

    def begin(self, real: Tensor) -> None:
        """The next forward call brings tokens ``[B, n]``, False for padding."""
        ...

    def hidden(self, layer: int, states: Tensor) -> None:
        """See what a layer is given, ``[B, n, hidden]``, before its attention runs."""
        ...

    def see(self, layer: int, queries: Tensor, total: Tensor, scale: float, bias: Tensor | None) -> None:
        """Look at the attention of one layer.

        Args:
            layer: index of the layer.
            queries: ``[H_kv, B, G, n, D]`` post-RoPE.
            total: ``[H_kv, B, G, n]`` float32, log-sum-exp of each query's logits over all it sees, tail included.
            scale: what ``q . k`` is multiplied with.
            bias: ``[H_kv, 1 or B * G * n, S]``, added to the logits of the stored slots; ``-inf`` hides one.
        """
        ...


class AnsweringAttention:
    """The stored slots are read where they lie, never copied or changed; each question has a tail of its own."""

    def __init__(self, layers: Sequence[LayerCache], tail: Tail, watcher: Watcher | None = None) -> None:
        """Args:
        layers: the stored context, on the devices and in the dtype of the model's layers.
        tail: of the questions answered side by side; empty.
        watcher: looks on.
        """
        self._layers = layers
        self._tail = tail
        self._watcher = watcher
        biases = [layer.logit_bias for layer in layers]
        self._bias = [None if bias is None else bias[:, None] for bias in biases]
        self._zero = [torch.zeros(1, 1, 1, device=layer.keys.device) for layer in layers]
        self._position = torch.zeros(0, 0, dtype=torch.int64)  # [B, n], rotary, of the tokens at hand
        self._widened: tuple[Tensor, Tensor] | None = None

    def begin(self, position: Tensor, real: Tensor | None, rows: slice) -> None:
        """The next forward call brings these tokens.

        Args:
            position: ``[B, n]`` int64 rotary positions.
            real: ``[B, n]`` bool, False for padding; None: one token a question, no padding.
            rows: of the tail, whose tokens they are.
        """
        self._position = position
        self._tail.begin(position, real, rows)
        if self._watcher is not None:
            self._watcher.begin(torch.ones_like(position, dtype=torch.bool) if real is None else real)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See :class:`flowmm.hf.attention.Attention`."""
        batch, num_heads, n, size = query.shape
        stored = self._layers[layer]
        num_kv, num_slots, _ = stored.keys.shape
        grouped = query.reshape(batch, num_kv, -1, n, size)  # [B, H_kv, G, n, D]
        bias = self._bias[layer] if stored.window is None else self._windowed(layer, grouped, stored.window)
        own = self._tail.take(layer, key, value, stored.window)
        logits = 4 * batch * num_heads * n * (num_slots + own[0].shape[2])  # bytes
        if logits > _MOST_BYTES[query.device.type == "cpu"] or self._watcher is not None or self._tail.scores:
            return self._apart(layer, grouped, bias, own, scale).to(query.dtype).reshape(batch, num_heads, n, -1)
        if n > 1 and own[2].shape[2] > 1:
            own = (*own[:2], own[2][:, :, None].expand(-1, -1, num_heads // num_kv, -1, -1).flatten(2, 3))
        rows = grouped.reshape(batch, num_kv, -1, size)
        shared = (stored.keys, stored.values, self._zero[layer] if bias is None else bias)
        return shared_attention(rows, shared, own, scale).reshape(batch, num_heads, n, -1)

    def _apart(self, layer: int, grouped: Tensor, bias: Tensor | None, own: Slots, scale: float) -> Tensor:
        """Stored slots and tail by themselves, in blocks of queries, and joined: ``[B, H_kv, G * n, D]``."""
        batch, num_kv, group, n, size = grouped.shape
        stored, by_question = self._layers[layer], (num_kv, batch, group * n)
        # All questions' queries in one row axis: the prefix is read once for the whole batch.
        rows = grouped.transpose(0, 1).reshape(num_kv, batch * group * n, size)
        prefix_out, prefix_sum = partial_attention(rows, stored.keys, stored.values, scale, bias)
        prefix = (prefix_out.view(*by_question, -1).transpose(0, 1), prefix_sum.view(by_question).transpose(0, 1))
        keys, values = (one.flatten(0, 1) for one in own[:2])
        wide = self._wide(own[2], grouped.shape)
        out, tail_sum = partial_attention(grouped.reshape(-1, group * n, size), keys, values, scale, wide)
        tail = out.view(batch, num_kv, group * n, -1), tail_sum.view(batch, num_kv, group * n)
        total = torch.logaddexp(prefix[1], tail[1])
        if self._tail.scores:
            self._tail.looked(layer, grouped, total, scale)
        if self._watcher is not None:
            seen = total.transpose(0, 1).reshape(num_kv, batch, group, n)
            self._watcher.see(layer, grouped.transpose(0, 1), seen, scale, bias)
        return join(prefix, tail)

    def _wide(self, bias: Tensor, shape: torch.Size) -> Tensor:
        """``[B * H_kv, G * n, W]``, kept for the next layer if that has the same."""
        if self._widened is None or self._widened[0] is not bias:
            batch, num_kv, group, n, _ = shape
            wide = bias[:, :, None].expand(batch, num_kv, group, n, -1).reshape(batch * num_kv, group * n, -1)
            self._widened = (bias, wide)
        return self._widened[1]

    def _windowed(self, layer: int, grouped: Tensor, window: int) -> Tensor:
        """``[H_kv, B * G * n, S]``: what the stored slots of a sliding layer carry, and its window."""
        batch, _, group, n, _ = grouped.shape
        stored = self._layers[layer]
        query = self._position.to(stored.keys.device)  # [B, n]
        out = stored.position[:, None, None] <= query[None, :, :, None] - window  # [H_kv, B, n, S]
        hidden = out[:, :, None].expand(-1, -1, group, -1, -1).reshape(out.shape[0], batch * group * n, -1)
        bias = self._bias[layer]
        return (self._zero[layer] if bias is None else bias).masked_fill(hidden, float("-inf"))
