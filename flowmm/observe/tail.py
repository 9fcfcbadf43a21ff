"""Observe the prefill itself: last and sampled queries, the attention each slot received, flow between modalities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowmm.context import Evidence, Modality
from flowmm.flow import crossing, crossing_mass, key_sets, layer_flow


class Recorder:
    """Sees each layer's queries and keys chunk by chunk and keeps little of them.

    Args:
        num_layers: layers of the model.
        modality: ``[T]`` uint8, of every token of the context.
        tail: how many of the context's last queries to keep as reference queries.
        cumulative: also sum the attention every slot receives from all queries (H2O).
        flow: also measure the flow; nothing is measured when the context has only one modality.
        sample: how many more queries to keep, drawn evenly over the whole context, the same tokens in every layer; of
            several numbers each gets its own draw.
        seed: of the draws.
    """

    def __init__(
        self,
        num_layers: int,
        modality: Tensor,
        *,
        tail: int = 32,
        cumulative: bool = False,
        flow: bool = True,
        sample: int | Sequence[int] = 0,
        seed: int = 0,
    ) -> None:
        self._visual = modality == Modality.VISUAL
        self._first_kept = max(0, modality.shape[0] - tail)
        counts = (sample,) if isinstance(sample, int) else sample
        draws = (drawn_evenly(modality.shape[0], count, seed).tolist() for count in counts)
        self._sampled = torch.tensor(sorted({token for draw in draws for token in draw}), dtype=torch.int64)
        self._cumulative = cumulative
        self._flow = flow and bool(self._visual.any()) and not bool(self._visual.all())
        self._sets = key_sets(self._visual) if self._flow else None
        self._layers = [_Layer() for _ in range(num_layers)]

    @property
    def sets(self) -> Tensor | None:
        """``[T, 4]`` bool, those whose mass gives the flow; None when no flow is measured."""
        return self._sets

    @property
    def maps(self) -> bool:
        """Whether the attention map is to be shown to :meth:`see_map`."""
        return self._cumulative

    def see_map(self, layer: int, attention: Tensor) -> None:
        """Add up the attention that each key receives, mean over the group.

        Args:
            layer: index of the layer.
            attention: ``[H_kv, G, b, m]`` of some queries on the tokens ``0 .. m - 1``; each query comes once.
        """
        seen = self._layers[layer]
        if seen.cumulative is None:
            seen.cumulative = torch.zeros(attention.shape[0], self._visual.shape[0], device=attention.device)
        seen.cumulative[:, : attention.shape[3]] += attention.mean(1).sum(1)

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
