"""Score by the attention of a window of reference queries (SnapKV; FlowMM's proxy importance)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from flowmm.blocks import attention_blocks, visible
from flowmm.context import Evidence, LayerCache
from flowmm.scores.reference import last_queries
from flowmm.scores.value_norm import value_norm


@dataclass(frozen=True)
class Attention:
    """``I(i) = sum_{j in window} alpha_{j->i}``, mean over the query heads of the group.

    SnapKV (arXiv 2404.14469, eq. 2-4) smooths the sums over neighbouring slots and always keeps the window's own;
    FlowMM (arXiv 2511.05534, importance of section "proxy tokens") does neither.

    Attributes:
        window: how many of the last reference queries look.
        pool: how neighbouring slots share their sums.
        kernel: slots in a pool, odd; 1 pools nothing.
        keep_window: score the window's own slots above all others, the newest highest.
        times_value_norm: weigh by ``|W_O v|``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"queries"})
    window: Annotated[int, Field(ge=1)] = 32
    pool: Literal["avg", "max"] = "avg"
    kernel: Literal[1, 3, 5, 7, 9, 11, 13] = 1
    keep_window: bool = False
    times_value_norm: bool = False

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        assert evidence is not None  # compress checks what a rule needs
        queries, index = last_queries(evidence, self.window, layer.keys.device)
        received = _received(layer, queries, index, evidence.scale)
        if self.times_value_norm:
            received = received * value_norm(layer, evidence)
        in_window = layer.position >= index[0]
        if self.kernel > 1:
            received = self._pooled(received.masked_fill(in_window, 0) if self.keep_window else received)
        if self.keep_window:
            above = received.max().clamp_min(self.window)  # no sum over the window is larger than its length
            received = torch.where(in_window, above + (layer.position - index[0] + 1.0), received)
        return received

    def _pooled(self, received: Tensor) -> Tensor:
        """``[H_kv, S]`` -> the same shape; slots beyond either end count as 0, as in SnapKV's code."""
        pool = F.avg_pool1d if self.pool == "avg" else F.max_pool1d
        return pool(received, self.kernel, stride=1, padding=self.kernel // 2)


def _received(layer: LayerCache, queries: Tensor, index: Tensor, scale: float) -> Tensor:
    """``[H_kv, S]`` attention each slot receives from ``queries`` ``[H_q, W, D]`` of the tokens ``index`` ``[W]``."""
    allowed = visible(layer.position, index, layer.window)
    total = torch.zeros(layer.position.shape, device=layer.keys.device)
    for _, attention in attention_blocks(queries, layer.keys, scale, allowed, layer.logit_bias):
        total += attention.mean(1).sum(1)
    return total
