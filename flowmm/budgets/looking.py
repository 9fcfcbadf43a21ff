"""Sampled queries of one modality: what rules that look across modalities look with."""

from __future__ import annotations

from torch import Tensor

from flowmm.budgets.choose import Ranking
from flowmm.context import Modality
from flowmm.errors import UsageError


def visual_tokens(ranking: Ranking) -> Tensor:
    """``[S]`` bool; evidence is of full caches, where every head holds every token."""
    return ranking.layer.modality[0] == Modality.VISUAL


def looking(ranking: Ranking, visual: bool) -> tuple[Tensor, Tensor]:
    """The sampled queries of visual tokens, or of all others.

    Returns:
        ``[H_q, N, D]`` and ``[N]``, the index of each one's token.

    Raises:
        UsageError: the sample has none.
    """
    evidence, device = ranking.evidence, ranking.layer.keys.device
    assert evidence is not None  # compress checks what a rule needs
    assert evidence.sample is not None
    assert evidence.sample_index is not None
    index = evidence.sample_index.to(device)
    mine = visual_tokens(ranking)[index] == visual
    if not bool(mine.any()):
        kind = "visual" if visual else "text"
        raise UsageError(
            f"the method looks through queries of {kind} tokens, but none of the {len(index)} that were sampled is one",
            "Prefill again with a method whose observe.sample is larger.",
        )
    return evidence.sample.to(device)[:, mine], index[mine]
