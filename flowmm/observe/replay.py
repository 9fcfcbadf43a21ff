"""Observe what is fed behind a context: the largest attention each of its slots receives, and some of the queries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.context import LayerCache


class Replay:
    """A watcher of :class:`flowmm.hf.decoding.Decoder`; keeps one number per slot and not the map.

    Args:
        layers: the slots that are looked at, as the decoder has them.
        relative: also keep the largest attention over the length of the asking token's hidden state (KVzip+).
        draw: ``[R]`` int64, ascending, numbers of the rows whose queries are kept, counted over all that is fed.
    """

    def __init__(self, layers: Sequence[LayerCache], *, relative: bool = False, draw: Tensor | None = None) -> None:
        self._layers = layers
        self._logs = [torch.full(layer.position.shape, float("-inf"), device=layer.keys.device) for layer in layers]
        self._relative = [log.clone() for log in self._logs] if relative else []
        self._queries: list[list[Tensor]] = [[] for _ in layers]  # each [H_q, r, D]
        self._lengths: dict[int, Tensor] = {}  # by layer, [B, n]: log of the hidden states' lengths
        self._draw = torch.zeros(0, dtype=torch.int64) if draw is None else draw
        self._real = torch.zeros(0, 0, dtype=torch.bool)
        self._rows = 0  # fed before the call at hand

    def begin(self, real: Tensor) -> None:
        """See :class:`flowmm.hf.answering.Watcher`."""
        self._rows += int(self._real.sum())
        self._real = real

    def hidden(self, layer: int, states: Tensor) -> None:
        """See :class:`flowmm.hf.answering.Watcher`."""
        if self._relative:
            self._lengths[layer] = states.float().norm(dim=-1).log()

    def see(self, layer: int, queries: Tensor, total: Tensor, scale: float, bias: Tensor | None) -> None:
        """See :class:`flowmm.hf.answering.Watcher`."""
        num_kv, batch, group, n, size = queries.shape
        real = self._real.to(queries.device)
        own = self._draw[(self._draw >= self._rows) & (self._draw < self._rows + int(self._real.sum()))] - self._rows
        if own.numel():
            flat = queries.permute(0, 2, 1, 3, 4).reshape(num_kv * group, batch * n, size)
            self._queries[layer].append(flat[:, real.flatten().nonzero()[:, 0][own.to(queries.device)]])
        total = total.masked_fill(~real[None, :, None], float("inf"))  # padding looks at nothing
        rows = (queries.reshape(num_kv, -1, size), total.reshape(num_kv, -1))
        lengths = self._lengths[layer][None, :, None].expand_as(total).reshape(num_kv, -1) if self._relative else None
        keys = self._layers[layer].keys.mT
        for part in blocks(rows[0].shape[1], 4 * num_kv * keys.shape[2], cached=queries.device.type == "cpu"):
            # [H_kv, r, S] float32, in one pass over the product.
            logits = torch.add(-rows[1][:, part, None], rows[0][:, part] @ keys, alpha=scale)
            if bias is not None:
                logits += bias if bias.shape[1] == 1 else bias[:, part]
            # The largest exponent is that of the largest: one exp a slot, at the end, and not one a query.
            self._logs[layer] = self._logs[layer].maximum(logits.amax(1))
            if lengths is not None:
                self._relative[layer] = self._relative[layer].maximum((logits - lengths[:, part, None]).amax(1))

    def received(self) -> list[Tensor]:
        """Per layer ``[H_kv, S]`` float32: the largest attention of any query on each slot."""
        return [log.exp() for log in self._logs]

    def received_relative(self) -> list[Tensor]:
        """The same, each query's attention over the length of its token's hidden state; empty unless asked for."""
        return [log.exp() for log in self._relative]

    def queries(self, layer: int) -> Tensor | None:
        """``[H_q, R, D]`` the queries that were drawn of a layer; None if none were."""
        return torch.cat(self._queries[layer], 1) if self._queries[layer] else None
