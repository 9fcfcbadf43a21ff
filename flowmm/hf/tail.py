"""The tail of each question: the keys and values of its own tokens, question and answer, behind the shared context."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from flowmm.hf.attention import partial_attention


class Tail(Protocol):
    """Holds the tails of a batch of questions in all layers."""

    def begin(self, position: Tensor, real: Tensor) -> None:
        """The next forward call brings these tokens.

        Args:
            position: ``[B, n]`` int64 rotary positions.
            real: ``[B, n]`` bool, False for padding.
        """
        ...

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, prefix: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take in new keys and values, return the share of the attention that is over the tail.

        Args:
            layer: index of the layer.
            query: ``[B, H_kv, G, n, D]`` post-RoPE.
            key: ``[B, H_kv, n, D]`` post-RoPE.
            value: ``[B, H_kv, n, D]``.
            scale: what q.k is multiplied with.
            window: of a sliding layer.
            prefix: ``[B, H_kv, G * n]`` log-sum-exp of each query's logits over the stored slots.

        Returns:
            As :func:`flowmm.hf.attention.partial_attention`: ``[B, H_kv, G * n, D]`` and ``[B, H_kv, G * n]``.
        """
        ...


class GrowingTail:
    """Nothing is ever evicted. All questions share the columns, so there is padding between question and answer."""

    def __init__(self, batch: int, capacity: int) -> None:
        """Args:
        batch: questions answered side by side.
        capacity: tokens a question and its answer may have together.
        """
        self._keys: dict[int, Tensor] = {}  # by layer, [B, H_kv, capacity, D]
        self._values: dict[int, Tensor] = {}
        self._position = torch.zeros(batch, capacity, dtype=torch.int64)  # rotary position of every tail token
        self._real = torch.zeros(batch, capacity, dtype=torch.bool)  # False: padding between question and answer
        self._bias: dict[tuple[int | None, torch.device], Tensor] = {}
        self._start = self._end = 0

    def begin(self, position: Tensor, real: Tensor) -> None:
        """See :class:`Tail`."""
        self._start, self._end = self._end, self._end + position.shape[1]
        self._position[:, self._start : self._end] = position
        self._real[:, self._start : self._end] = real
        self._bias.clear()

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, prefix: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Tail`."""
        batch, num_kv, group, n, size = query.shape
        keys = self._extend(self._keys, layer, key)
        values = self._extend(self._values, layer, value)
        rows = query.reshape(batch * num_kv, group * n, size)
        bias = self._bias_of(window, num_kv, group, query.device)
        out, total = partial_attention(rows, keys.flatten(0, 1), values.flatten(0, 1), scale, bias)
        return out.view(batch, num_kv, group * n, -1), total.view(batch, num_kv, group * n)

    def _extend(self, store: dict[int, Tensor], layer: int, new: Tensor) -> Tensor:
        """Append to the tail; returns ``[B, H_kv, end, D]``."""
        if layer not in store:
            store[layer] = new.new_empty(new.shape[0], new.shape[1], self._position.shape[1], new.shape[3])
        store[layer][:, :, self._start : self._end] = new
        return store[layer][:, :, : self._end]

    def _bias_of(self, window: int | None, num_kv: int, group: int, device: torch.device) -> Tensor:
        """``[B * H_kv, G * n, end]``: causal, without padding, within the window; made once a step."""
        if (window, device) not in self._bias:
            slot = torch.arange(self._end)
            query = torch.arange(self._start, self._end)[:, None]
            seen = (slot <= query) & self._real[:, None, : self._end]  # [B, n, end]
            if window is not None:
                position = self._position[:, : self._end]
                seen &= position[:, None] > position[:, self._start :, None] - window
            seen |= slot == query  # a padding query sees itself, so that no row is empty
            bias = torch.zeros(seen.shape).masked_fill(~seen, float("-inf")).to(device)
            bias = bias[:, None, None].expand(-1, num_kv, group, -1, -1)
            self._bias[window, device] = bias.reshape(-1, bias.shape[2] * bias.shape[3], self._end)
        return self._bias[window, device]
