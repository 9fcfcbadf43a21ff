"""Score by the attention of a window of reference queries (SnapKV; FlowMM's proxy importance)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from flowmm.blocks import attention_blocks
from flowmm.context import Evidence, LayerCache
from flowmm.errors import UsageError


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
    """

    needs: ClassVar[frozenset[str]] = frozenset({"queries"})
    window: Annotated[int, Field(ge=1)] = 32
    pool: Literal["avg", "max"] = "avg"
    kernel: Literal[1, 3, 5, 7, 9, 11, 13] = 1
    keep_window: bool = False

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        assert evidence is not None  # compress checks what a rule needs
        index = evidence.query_index[-self.window :].to(layer.keys.device)
        queries = evidence.queries[:, -self.window :].to(layer.keys.device)
        if index.shape[0] < self.window and int(index[0]) > 0:
            raise UsageError(
                f"the scoring rule 'attention' looks through {self.window} queries, but {index.shape[0]} were recorded",
                f"Prefill again with a method whose observe.tail is {self.window}, or lower the rule's window.",
            )
        received = _received(layer, queries, index, evidence.scale)
        in_window = layer.position >= index[0]
        if self.kernel > 1:
            received = self._pooled(received.masked_fill(in_window, 0) if self.keep_window else received)
        if self.keep_window:
            # Larger than any sum over the window, which is at most its length.
            received = torch.where(in_window, layer.position - index[0] + self.window + 1.0, received)
        return received

    def _pooled(self, received: Tensor) -> Tensor:
        """``[H_kv, S]`` -> the same shape; slots beyond either end count as 0, as in SnapKV's code."""
        pool = F.avg_pool1d if self.pool == "avg" else F.max_pool1d
        return pool(received, self.kernel, stride=1, padding=self.kernel // 2)


def _received(layer: LayerCache, queries: Tensor, index: Tensor, scale: float) -> Tensor:
    """``[H_kv, S]`` attention each slot receives from ``queries`` ``[H_q, W, D]`` of the tokens ``index`` ``[W]``."""
    age = index[:, None] - layer.position[:, None].long()  # [H_kv, W, S]
    allowed = age >= 0
    if layer.window is not None:
        allowed &= age < layer.window
    total = torch.zeros(layer.position.shape, device=layer.keys.device)
    for _, attention in attention_blocks(queries, layer.keys, scale, allowed, layer.logit_bias):
        total += attention.mean(1).sum(1)
    return total
