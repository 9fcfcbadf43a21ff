"""More slots for layers whose attention across modalities is spread out (MEDA)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowmm.blocks import attention_blocks, visible
from flowmm.budgets.choose import Ranking, fill_layers
from flowmm.budgets.looking import looking, visual_tokens

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Entropy:
    """``softmax_l(E)`` of the budget, ``E_l = H(softmax(Q_T K_V)) + H(softmax(Q_V K_T))`` (MEDA, arXiv 2502.17599).

    The entropy of text queries over the visual keys they see and of visual queries over text keys, each softmax over
    its own block, mean over queries and heads. The paper takes all queries; here a sample
    (``observe: sample``). A direction that the order of the context leaves without a pair counts 0 in every layer.

    Attributes:
        recent: share of a layer's slots that goes to the newest ones (MEDA: three recent for one important).
        least: share of its slots that a layer keeps at least (MEDA clamps to 0.01 .. 1).
    """

    counted: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"sample"})
    recent: Annotated[float, Field(ge=0, le=1)] = 0.75
    least: Annotated[float, Field(ge=0, le=1)] = 0.01

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer; the heads of a layer keep equally many."""
        layers = list(rankings)
        entropies = torch.tensor([crossing_entropy(ranking) for ranking in layers])
        wanted = entropies.softmax(0).tolist()
        yield from fill_layers(layers, wanted, recent=self.recent, least=self.least)


def crossing_entropy(ranking: Ranking) -> float:
    """``E_l`` in nats; 0 where there is but one modality."""
    return sum(_entropy(ranking, from_visual) for from_visual in (False, True))


def _entropy(ranking: Ranking, from_visual: bool) -> float:
    """Mean entropy of the attention that queries of one modality pay to the keys of the other."""
    visual, layer = visual_tokens(ranking), ranking.layer
    if bool(visual.all()) or not bool(visual.any()):
        return 0.0
    queries, index = looking(ranking, from_visual)
    allowed = visible(layer.position, index, layer.window) & (visual != from_visual)
    sees = allowed.any(-1).all(0)  # [N]
    if not bool(sees.any()):
        return 0.0
    assert ranking.evidence is not None
    total = 0.0
    parts = attention_blocks(queries[:, sees], layer.keys, ranking.evidence.scale, allowed[:, sees], layer.logit_bias)
    for _, attention in parts:
        # p log p: torch.special.entr takes several times as long on a CPU.
        total -= float((attention * attention.clamp_min(_TINY).log()).sum(-1).mean((0, 1)).sum())
    return total / int(sees.sum())
