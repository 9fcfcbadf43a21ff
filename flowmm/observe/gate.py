"""Observe through a gate: what repeating the context would look at, told from its hidden states alone (Fast KVzip)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from flowmm.observe.reconstruct import Seen

_EPSILON = 1e-6  # of the norms


@dataclass(frozen=True)
class LayerGate:
    """The gate of one layer (arXiv 2601.17668); all float32. ``d`` is the rank, ``s`` the number of sinks."""

    query: Tensor  # [H_q, d, hidden]
    query_bias: Tensor  # [H_q, d]
    query_norm: Tensor  # [d]
    key: Tensor  # [H_kv, d, hidden]
    key_norm: Tensor  # [d]
    sinks: Tensor  # [H_kv, s, d]
    bias: Tensor  # [H_q]

    def __call__(self, states: Tensor) -> Tensor:
        """``mean_g 1 / (1 + sum_s exp(<kappa_s, q_g> / sqrt d - <k, q_g> / sqrt d - beta_g))``, q and k of one token.

        Args:
            states: ``[T, hidden]``, what the decoder layer is given.

        Returns:
            ``[H_kv, T]`` float32 between 0 and 1: the largest attention that a slot is expected to get.
        """
        (num_kv, rank, _), rows = self.key.shape, states.float()
        keys = (rows @ self.key.flatten(0, 1).T).view(-1, num_kv, 1, rank)
        keys = F.rms_norm(keys, (rank,), self.key_norm, _EPSILON)  # [T, H_kv, 1, d]
        queries = (rows @ self.query.flatten(0, 1).T + self.query_bias.flatten()).view(len(rows), num_kv, -1, rank)
        queries = F.rms_norm(queries, (rank,), self.query_norm, _EPSILON)  # [T, H_kv, G, d]
        own = (queries * keys).sum(-1) / math.sqrt(rank) + self.bias.view(num_kv, -1)  # [T, H_kv, G]
        sinks = torch.einsum("tkgd,ksd->tkgs", queries, self.sinks) / math.sqrt(rank)
        # 1 / (1 + sum exp(a_s - b)) = sigmoid(b - log sum exp a_s), which cannot overflow.
        return torch.sigmoid(own - sinks.logsumexp(-1)).mean(-1).T

    def to(self, device: torch.device) -> LayerGate:
        """The same on a device."""
        return LayerGate(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class Gate:
    """A gate for each layer of one model."""

    layers: tuple[LayerGate, ...]
    weights: str  # fingerprint of the model's weights: hidden states mean nothing to the gate of another model


class Gating:
    """Is shown what each layer is given, chunk by chunk in the order of the tokens, and keeps one number per slot."""

    def __init__(self, gate: Gate) -> None:
        self._layers = list(gate.layers)
        self._scores: list[list[Tensor]] = [[] for _ in gate.layers]  # each [H_kv, n]

    @torch.no_grad()
    def __call__(self, layer: int, states: Tensor) -> None:
        """Take in ``[1, n, hidden]``; see :func:`flowmm.hf.layers.shown_to`."""
        own = self._layers[layer]
        if own.bias.device != states.device:
            own = self._layers[layer] = own.to(states.device)
        self._scores[layer].append(own(states[0]))

    def seen(self) -> Seen:
        """The scores of all slots, after the last chunk; no query is asked, so none is kept."""
        return Seen(tuple(torch.cat(scores, 1) for scores in self._scores), (), (None,) * len(self._scores))
