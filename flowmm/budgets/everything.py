"""Keep every slot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowmm.budgets.choose import Ranking


@dataclass(frozen=True)
class Everything:
    """Nothing is evicted, whatever the scores."""

    counted: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """All living slots of each layer."""
        for ranking in rankings:
            yield ranking.living
