"""Attention while a context is read: full keys and values are kept, and an observer may look on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from flowmm.blocks import causal_blocks


class Observer(Protocol):
    """Sees the queries and keys of every layer and chunk (``observe/``)."""

    @property
    def sets(self) -> Tensor | None:
        """``[T, C]`` bool: sets of tokens, the attention mass on which it is told; None: it asks for none."""
        ...

    @property
    def maps(self) -> bool:
        """Whether it wants to see the attention map."""
        ...

    def see_map(self, layer: int, attention: Tensor) -> None:
        """Look at ``[H_kv, G, b, m]`` float32, the attention of the next ``b`` queries on the first ``m`` tokens."""
        ...

    def see(
        self, layer: int, queries: Tensor, keys: Tensor, first: int, scale: float, allowed: Tensor, mass: Tensor | None
    ) -> None:
        """Look at one chunk.

        Args:
            layer: index of the layer.
            queries: ``[H_q, n, D]`` of the tokens ``first .. first+n-1``.
            keys: ``[H_kv, m, D]`` of the tokens ``0 .. m-1``.
            first: index of the chunk's first token.
            scale: what q.k is multiplied with.
            allowed: ``[n, m]`` bool, which keys a query sees.
            mass: ``[H_q, n, C]`` float32, of the sets it asked for.
        """
        ...


class ReadingAttention:
    """Keeps all keys and values of a context that comes in chunks; causal, windowed, or image-wise bidirectional."""

    def __init__(
        self, num_tokens: int, windows: tuple[int | None, ...], image_of: Tensor | None, observer: Observer | None
    ) -> None:
        """Args:
        num_tokens: tokens of the whole context.
        windows: sliding window per layer, None for full attention.
        image_of: ``[T]`` int64, which image a token belongs to, -1 for none; None if images are read causally.
        observer: sees every chunk of every layer.
        """
        self.keys: list[Tensor | None] = [None] * len(windows)  # each [H_kv, T, D]
        self.values: list[Tensor | None] = [None] * len(windows)
        self._num_tokens, self._windows = num_tokens, windows
        self._image_of, self._observer = image_of, observer
        self._start = 0
        self._allowed: dict[tuple[int | None, torch.device], Tensor] = {}

    def begin_chunk(self, start: int) -> None:
        """The next forward call brings the tokens from ``start`` on."""
        self._start = start
        self._allowed.clear()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See :class:`flowmm.hf.attention.Attention`; the batch is 1."""
        end = self._start + query.shape[2]
        keys = self._store(self.keys, layer, key[0])[:, :end]
        values = self._store(self.values, layer, value[0])[:, :end]
        allowed = self._mask(self._windows[layer], end, query.device)
        size, sets = values.shape[-1], None if self._observer is None else self._observer.sets
        if self._observer is not None and self._observer.maps:
            wide = values if sets is None else torch.cat([values, columns_of(sets[:end], values)], -1)
            output = _by_maps(query[0], keys, wide, allowed, scale, partial(self._observer.see_map, layer))
        else:
            given = (query[0], keys, values) if sets is None else widened(query[0], keys, values, sets[:end])
            output = self._output(*given, allowed, scale)
        if self._observer is not None:
            mass = None if sets is None else output[..., size : size + sets.shape[1]].float()
            self._observer.see(layer, query[0], keys, self._start, scale, allowed, mass)
        return output[None, ..., :size]

    def _output(self, query: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, scale: float) -> Tensor:
        """``[H_q, n, D]``."""
        grouped = query.view(keys.shape[0], -1, *query.shape[1:])  # [H_kv, G, n, D]
        # One call per member of the group: K and V are never repeated, and the mask is shared.
        outputs = [
            F.scaled_dot_product_attention(
                grouped[None, :, member], keys[None], values[None], attn_mask=allowed, scale=scale
            )[0]
            for member in range(grouped.shape[1])
        ]
        return torch.stack(outputs, 1).flatten(0, 1)

    def _store(self, store: list[Tensor | None], layer: int, new: Tensor) -> Tensor:
        buffer = store[layer]
        if buffer is None:
            buffer = store[layer] = new.new_empty(new.shape[0], self._num_tokens, new.shape[2])
        buffer[:, self._start : self._start + new.shape[1]] = new
        return buffer

    def _mask(self, window: int | None, end: int, device: torch.device) -> Tensor:
        """``[n, end]`` bool; the same for all layers of one window, so it is made once a chunk."""
        if (window, device) not in self._allowed:
            query = torch.arange(self._start, end, device=device)[:, None]
            key = torch.arange(end, device=device)[None]
            allowed = key <= query
            if self._image_of is not None:
                image = self._image_of[:end].to(device)
                allowed |= (image[self._start :, None] == image[None]) & (image >= 0)
            if window is not None:
                allowed &= key > query - window
            self._allowed[window, device] = allowed
        return self._allowed[window, device]


def _by_maps(
    query: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, scale: float, see_map: Callable[[Tensor], None]
) -> Tensor:
    """``[H_q, n, D]`` through the map itself, in blocks that are shown; as fast on a CPU as a kernel that hides it."""
    outputs = []
    for attention in causal_blocks(query, keys, scale, allowed):
        see_map(attention)
        num_kv, group, rows, seen = attention.shape
        block = attention.flatten(1, 2).to(values.dtype) @ values[:, :seen]  # [H_kv, G * b, D]
        outputs.append(block.view(num_kv * group, rows, -1))
    return torch.cat(outputs, 1)


def columns_of(sets: Tensor, values: Tensor) -> Tensor:
    """``[H_kv, m, C]``: the indicators of ``sets`` ``[m, C]`` as columns of values."""
    return sets.to(values.device, values.dtype).expand(values.shape[0], -1, -1)


def widened(query: Tensor, keys: Tensor, values: Tensor, sets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, keys and values for one attention that also gives the mass on sets of keys, as more columns of its output.

    The sets' indicators become columns of the values; zeros, which change no logit, make the others as wide, since the
    CPU's flash kernel takes no other. A multiple of 8, which GPUs ask for.

    Args:
        query: ``[H_q, n, D]``.
        keys: ``[H_kv, m, D]``.
        values: ``[H_kv, m, D]``.
        sets: ``[m, C]`` bool.

    Returns:
        The same, with more columns.
    """
    width = -(-max(keys.shape[-1], values.shape[-1] + sets.shape[1]) // 8) * 8
    wide = torch.cat([values, columns_of(sets, values)], -1)
    query, keys, values = (F.pad(one, (0, width - one.shape[-1])) for one in (query, keys, wide))
    return query, keys, values
