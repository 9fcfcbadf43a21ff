"""Attention while a context is questioned: a stored prefix that all questions share, and a short tail for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from flowmm.context import LayerCache
from flowmm.hf.attention import join, partial_attention
from flowmm.hf.tail import Tail


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
        self._prefix_bias = [layer.logit_bias for layer in layers]
        self._position = torch.zeros(0, 0, dtype=torch.int64)  # [B, n], rotary, of the tokens at hand

    def begin(self, position: Tensor, real: Tensor) -> None:
        """The next forward call brings these tokens.

        Args:
            position: ``[B, n]`` int64 rotary positions.
            real: ``[B, n]`` bool, False for padding.
        """
        self._position = position
        self._tail.begin(position, real)
        if self._watcher is not None:
            self._watcher.begin(real)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See :class:`flowmm.hf.attention.Attention`."""
        batch, num_heads, n, _ = query.shape
        stored = self._layers[layer]
        num_kv = stored.keys.shape[0]
        grouped = query.reshape(batch, num_kv, -1, n, query.shape[3])  # [B, H_kv, G, n, D]
        group = grouped.shape[2]
        # All questions' queries in one row axis: the prefix is read once for the whole batch.
        rows = grouped.transpose(0, 1).reshape(num_kv, batch * group * n, -1)
        prefix_bias = self._bias_of_prefix(layer, batch, group, n)
        prefix_out, prefix_sum = partial_attention(rows, stored.keys, stored.values, scale, prefix_bias)
        by_question = (num_kv, batch, group * n)
        prefix = (prefix_out.view(*by_question, -1).transpose(0, 1), prefix_sum.view(by_question).transpose(0, 1))
        tail = self._tail.attend(layer, grouped, key, value, scale, stored.window, prefix[1])
        if self._watcher is not None:
            total = torch.logaddexp(prefix[1], tail[1]).transpose(0, 1).reshape(num_kv, batch, group, n)
            self._watcher.see(layer, grouped.transpose(0, 1), total, scale, prefix_bias)
        return join(prefix, tail).to(query.dtype).reshape(batch, num_heads, n, -1)

    def _bias_of_prefix(self, layer: int, batch: int, group: int, n: int) -> Tensor | None:
        """``[H_kv, 1 or B * G * n, S]``: what the stored slots carry, and the window of a sliding layer."""
        stored, bias = self._layers[layer], self._prefix_bias[layer]
        if stored.window is None:
            return None if bias is None else bias[:, None]
        query = self._position.to(stored.keys.device)  # [B, n]
        out = stored.position[:, None, None] <= query[None, :, :, None] - stored.window  # [H_kv, B, n, S]
        hidden = out[:, :, None].expand(-1, -1, group, -1, -1).reshape(out.shape[0], batch * group * n, -1)
        base = torch.zeros((), device=hidden.device) if bias is None else bias[:, None]
        return base.masked_fill(hidden, float("-inf"))
