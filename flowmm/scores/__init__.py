"""Scoring rules: which slots matter. A rule is a file here and a line in ``SCORES``."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from flowmm.context import Evidence, LayerCache
from flowmm.scores.attention import Attention
from flowmm.scores.cumulative import Cumulative
from flowmm.scores.expected_attention import ExpectedAttention
from flowmm.scores.keydiff import KeyDiff
from flowmm.scores.knorm import KNorm
from flowmm.scores.leverage import Leverage
from flowmm.scores.observed import Observed
from flowmm.scores.random import Random
from flowmm.scores.recency import Recency


class Score(Protocol):
    """A scoring rule; its fields are its hyper-parameters."""

    @property
    def needs(self) -> frozenset[str]:
        """Of "queries", "cumulative", "sample", "value_weight", "observed.<pass>"; when empty, evidence may be None."""
        ...

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """Score one layer.

        Args:
            layer: the layer's cache; scores of its padding do not matter.
            evidence: what was observed of the layer.
            seed: differs per layer; for rules that draw.

        Returns:
            ``[H_kv, S]`` float32, higher is kept.
        """
        ...


SCORES: dict[str, type[Score]] = {
    "attention": Attention,
    "cumulative": Cumulative,
    "expected_attention": ExpectedAttention,
    "keydiff": KeyDiff,
    "knorm": KNorm,
    "leverage": Leverage,
    "observed": Observed,
    "random": Random,
    "recency": Recency,
}
