"""Observe the prefill itself: last and sampled queries, the attention each slot received, flow between modalities."""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.blocks import attention_blocks
from flowmm.context import Evidence, Modality
from flowmm.flow import crossing, crossing_mass, key_sets, layer_flow

_STRETCH = 256  # queries of a chunk whose attention is summed over the keys that any of them sees


class Recorder:
    """Sees each layer's queries and keys chunk by chunk and keeps little of them.

    Args:
        num_layers: layers of the model.
        modality: ``[T]`` uint8, of every token of the context.
        tail: how many of the context's last queries to keep as reference queries.
        cumulative: also sum the attention every slot receives from all queries (H2O); a second attention pass.
        flow: also measure the flow; nothing is measured when the context has only one modality.
        sample: how many more queries to keep, drawn evenly over the whole context, the same tokens in every layer.
        seed: of that draw.
    """

    def __init__(
        self,
        num_layers: int,
        modality: Tensor,
        *,
        tail: int = 32,
        cumulative: bool = False,
        flow: bool = True,
        sample: int = 0,
        seed: int = 0,
    ) -> None:
        self._visual = modality == Modality.VISUAL
        self._first_kept = max(0, modality.shape[0] - tail)
        self._sampled = drawn_evenly(modality.shape[0], sample, seed)
        self._cumulative = cumulative
        self._flow = flow and bool(self._visual.any()) and not bool(self._visual.all())
        self._sets = key_sets(self._visual) if self._flow else None
        self._layers = [_Layer() for _ in range(num_layers)]

    @property
    def sets(self) -> Tensor | None:
        """``[T, 4]`` bool, those whose mass gives the flow; None when no flow is measured."""
        return self._sets

    @torch.no_grad()
    def see(
        self,
        layer: int,
        queries: Tensor,
        keys: Tensor,
        first: int,
        scale: float,
        allowed: Tensor,
        mass: Tensor | None = None,
    ) -> None:
        """Take in one chunk of one layer; chunks come in the order of the tokens.

        Args:
            layer: index of the layer.
            queries: ``[H_q, n, D]`` post-RoPE, of the tokens ``first .. first + n - 1``.
            keys: ``[H_kv, m, D]`` post-RoPE, of the tokens ``0 .. m - 1``.
            first: index of the chunk's first token.
            scale: what ``q . k`` is multiplied with.
            allowed: ``[n, m]`` bool, which key a query may see.
            mass: ``[H_q, n, 4]`` float32 on ``sets``; None: found here, by an attention of its own.
        """
        seen = self._layers[layer]
        seen.scale = scale
        skip = max(0, self._first_kept - first)
        seen.queries.append(queries[:, skip:].clone())  # a clone, so that the chunk can be freed
        here = self._sampled[(self._sampled >= first) & (self._sampled < first + queries.shape[1])]
        seen.sample.append(queries[:, (here - first).to(queries.device)])  # indexing copies
        if self._cumulative:
            seen.cumulative = self._received(seen.cumulative, queries, keys, scale, allowed)
        if self._flow:
            visual = self._visual.to(keys.device)
            if mass is None:
                sums = crossing(queries, keys, scale, allowed, visual, first)
            else:
                sums = crossing_mass(mass, visual[first : first + queries.shape[1]])
            seen.crossing = sums if seen.crossing is None else seen.crossing + sums

    def evidence(self) -> tuple[Evidence, ...]:
        """What was observed, per layer; after the last chunk."""
        return tuple(self._layer_evidence(seen) for seen in self._layers)

    def _received(self, total: Tensor | None, queries: Tensor, keys: Tensor, scale: float, allowed: Tensor) -> Tensor:
        """``total`` ``[H_kv, T]`` plus the attention each key receives from these queries, mean over the group."""
        if total is None:
            total = torch.zeros(keys.shape[0], self._visual.shape[0], device=keys.device)
        for start in range(0, queries.shape[1], _STRETCH):
            rows = slice(start, start + _STRETCH)
            seen = int(allowed[rows].any(0).nonzero()[-1]) + 1  # nearly half of the map lies behind the queries
            for _, attention in attention_blocks(queries[:, rows], keys[:, :seen], scale, allowed[rows, :seen]):
                total[:, :seen] += attention.mean(1).sum(1)
        return total

    def _layer_evidence(self, seen: _Layer) -> Evidence:
        queries = torch.cat(seen.queries, dim=1)
        num_tokens = self._visual.shape[0]
        index = torch.arange(num_tokens - queries.shape[1], num_tokens, device=queries.device)
        flow = None if seen.crossing is None else layer_flow(seen.crossing)
        if not self._sampled.numel():
            return Evidence(queries, index, seen.scale, seen.cumulative, flow)
        sample, sample_index = torch.cat(seen.sample, dim=1), self._sampled.to(queries.device)
        return Evidence(queries, index, seen.scale, seen.cumulative, flow, sample, sample_index)


def drawn_evenly(num_tokens: int, count: int, seed: int) -> Tensor:
    """``[count]`` int64: one token by chance from each of ``count`` equal stretches of the context; at most all."""
    count = min(count, num_tokens)
    border = torch.arange(count + 1) * num_tokens // max(1, count)
    chance = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return border[:-1] + (chance * border.diff()).long()


class _Layer:
    """What was seen of one layer so far."""

    def __init__(self) -> None:
        self.queries: list[Tensor] = []  # each [H_q, n, D]
        self.sample: list[Tensor] = []  # each [H_q, m, D]
        self.scale = 0.0
        self.cumulative: Tensor | None = None  # [H_kv, T]
        self.crossing: Tensor | None = None  # [H_q, 6]
