"""The same number of slots for every layer and head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from flowmm.budgets.choose import Ranking, fill


@dataclass(frozen=True)
class Uniform:
    """Protected slots, then the newest, then the highest scores.

    Attributes:
        recent: share of the budget that goes to the newest slots (H2O, arXiv 2306.14048: half; LOOK-M, arXiv
            2406.18139: as many as to the important ones, so also half).
    """

    counted: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    recent: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer, ``count`` slots of each head."""
        for ranking in rankings:
            yield fill(ranking, ranking.count, self.recent)
