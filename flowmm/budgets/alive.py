"""The living-head guard: every important token keeps its best slot (Physics of KV compression, arXiv 2603.01426)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowmm.budgets.choose import Ranking, choose


def best_of_tokens(layers: Sequence[Ranking]) -> Tensor:
    """``[num_tokens]`` float32: the best score of each token in any layer and head; -inf where it has no slot."""
    num_tokens = 1 + max(int(ranking.layer.position.max()) for ranking in layers)
    best = layers[0].scores.new_full((num_tokens,), float("-inf"))
    for ranking in layers:
        scores = ranking.scores.masked_fill(~ranking.living, float("-inf"))
        best = best.scatter_reduce(0, ranking.layer.position.long().flatten(), scores.flatten(), "amax")
    return best


def alive(layers: Sequence[Ranking], share: float, best: Tensor) -> list[Tensor]:
    """Per layer ``[H_kv, S]`` bool: the best slot of each of the ``share`` of the tokens whose best slots are best.

    ``best`` is what :func:`best_of_tokens` gives.
    """
    number = round(share * int((best > float("-inf")).sum()))
    important = choose(best[None], torch.zeros_like(best, dtype=torch.int)[None], number)[0]
    found = []
    for ranking in layers:
        position = ranking.layer.position.long()
        mine = important[position] & (ranking.scores == best[position]) & ranking.living
        found.append(mine)
        important = important.scatter(0, position[mine], False)  # one layer is enough
    return found
