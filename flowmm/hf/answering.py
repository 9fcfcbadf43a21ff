"""Attention while a context is questioned: a stored prefix that all questions share, and a short tail for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from flowmm.context import LayerCache
from flowmm.hf.attention import join, partial_attention


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

    def __init__(self, layers: Sequence[LayerCache], batch: int, capacity: int, watcher: Watcher | None = None) -> None:
        """Args:
        layers: the stored context, on the devices and in the dtype of the model's layers.
        batch: questions answered side by side.
        capacity: tokens a question and its answer may have together.
        watcher: looks on.
        """
        self._layers = layers
        self._watcher = watcher
        self._prefix_bias = [layer.logit_bias for layer in layers]
        self._tail_keys: list[Tensor | None] = [None] * len(layers)  # each [B, H_kv, capacity, D]
        self._tail_values: list[Tensor | None] = [None] * len(layers)
        self._position = torch.zeros(batch, capacity, dtype=torch.int64)  # rotary position of every tail token
        self._real = torch.zeros(batch, capacity, dtype=torch.bool)  # False: padding between question and answer
        self._tail_bias: dict[tuple[int | None, torch.device], Tensor] = {}
        self._start = self._end = 0

    def begin(self, position: Tensor, real: Tensor) -> None:
        """The next forward call brings these tokens.

        Args:
            position: ``[B, n]`` int64 rotary positions.
            real: ``[B, n]`` bool, False for padding.
        """
        self._start, self._end = self._end, self._end + position.shape[1]
        self._position[:, self._start : self._end] = position
        self._real[:, self._start : self._end] = real
        self._tail_bias.clear()
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
        keys = self._extend(self._tail_keys, layer, key)
        values = self._extend(self._tail_values, layer, value)
        bias = self._bias_of_tail(stored.window, num_kv, group, query.device)
        tail_out, tail_sum = partial_attention(
            grouped.reshape(batch * num_kv, group * n, -1), keys.flatten(0, 1), values.flatten(0, 1), scale, bias
        )
        by_question = (num_kv, batch, group * n)
        prefix = (prefix_out.view(*by_question, -1).transpose(0, 1), prefix_sum.view(by_question).transpose(0, 1))
        tail = (tail_out.view(batch, num_kv, group * n, -1), tail_sum.view(batch, num_kv, group * n))
        if self._watcher is not None:
            total = torch.logaddexp(prefix[1], tail[1]).transpose(0, 1).reshape(num_kv, batch, group, n)
            self._watcher.see(layer, grouped.transpose(0, 1), total, scale, prefix_bias)
        return join(prefix, tail).to(query.dtype).reshape(batch, num_heads, n, -1)

    def _extend(self, store: list[Tensor | None], layer: int, new: Tensor) -> Tensor:
        """Append to the tail; returns ``[B, H_kv, end, D]``."""
        buffer = store[layer]
        if buffer is None:
            shape = (new.shape[0], new.shape[1], self._position.shape[1], new.shape[3])
            buffer = store[layer] = new.new_empty(shape)
        buffer[:, :, self._start : self._end] = new
        return buffer[:, :, : self._end]

    def _bias_of_prefix(self, layer: int, batch: int, group: int, n: int) -> Tensor | None:
        """``[H_kv, 1 or B * G * n, S]``: what the stored slots carry, and the window of a sliding layer."""
        stored, bias = self._layers[layer], self._prefix_bias[layer]
        if stored.window is None:
            return None if bias is None else bias[:, None]
        query = self._position[:, self._start : self._end].to(stored.keys.device)  # [B, n]
        out = stored.position[:, None, None] <= query[None, :, :, None] - stored.window  # [H_kv, B, n, S]
        hidden = out[:, :, None].expand(-1, -1, group, -1, -1).reshape(out.shape[0], batch * group * n, -1)
        base = torch.zeros((), device=hidden.device) if bias is None else bias[:, None]
        return base.masked_fill(hidden, float("-inf"))

    def _bias_of_tail(self, window: int | None, num_kv: int, group: int, device: torch.device) -> Tensor:
        """``[B * H_kv, G * n, end]``: causal, without padding, within the window; made once a step."""
        if (window, device) not in self._tail_bias:
            slot = torch.arange(self._end)
            query = torch.arange(self._start, self._end)[:, None]
            seen = (slot <= query) & self._real[:, None, : self._end]  # [B, n, end]
            if window is not None:
                position = self._position[:, : self._end]
                seen &= position[:, None] > position[:, self._start :, None] - window
            seen |= slot == query  # a padding query sees itself, so that no row is empty
            bias = torch.zeros(seen.shape).masked_fill(~seen, float("-inf")).to(device)
            bias = bias[:, None, None].expand(-1, num_kv, group, -1, -1)
            self._tail_bias[window, device] = bias.reshape(-1, bias.shape[2] * bias.shape[3], self._end)
        return self._tail_bias[window, device]
