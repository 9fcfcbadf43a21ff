"""Score by all the attention a slot received while the context was read (H2O, LOOK-M)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowmm.context import Evidence, LayerCache, Modality
from flowmm.scores.value_norm import value_norm


@dataclass(frozen=True)
class Cumulative:
    """Column sums of the attention map, mean over the query heads of the group (H2O, arXiv 2306.14048).

    Attributes:
        text_prior: add the head's largest sum to every slot that is no image, so that text comes before images
            (LOOK-M, arXiv 2406.18139, eq. for text-prior selection).
        times_value_norm: weigh by ``|W_O v|``, before the prior.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"cumulative"})
    text_prior: bool = False
    times_value_norm: bool = False

    def __call__(self, layer: LayerCache, evidence: Evidence | None, seed: int) -> Tensor:
        """``[H_kv, S]`` float32, higher is kept."""
        assert evidence is not None  # compress checks what a rule needs
        assert evidence.cumulative is not None
        received = evidence.cumulative.to(layer.keys.device)
        if self.times_value_norm:
            received = received * value_norm(layer, evidence)
        if self.text_prior:
            received = received + received.amax(1, keepdim=True) * (layer.modality != Modality.VISUAL)
        return received
