"""Many slots for the first layers, few for the last (PyramidKV)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from flowmm.budgets.choose import Ranking, fill_layers


@dataclass(frozen=True)
class Pyramid:
    """Counts that fall linearly from the first layer to the last (PyramidKV, arXiv 2406.02069, section 4.2).

    With b slots a head on average, the last layer keeps ``b / beta`` and the first ``2 b - b / beta``; where that is
    more than there are, the first keeps all and the last ``2 b`` less those. A layer never keeps less than what is
    protected; the others pay for that in proportion.

    Attributes:
        beta: how steep; 1 is flat.
        window: slots of each layer that stand outside the pyramid: the paper's last queries, kept everywhere.
        recent: share of a layer's slots that goes to the newest ones.
    """

    counted: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    beta: Annotated[float, Field(ge=1)] = 20.0
    window: Annotated[int, Field(ge=0)] = 0
    recent: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """``[H_kv, S]`` bool per layer; the heads of a layer keep equally many."""
        layers = list(rankings)
        last = max(1, len(layers) - 1)
        wanted = []
        for index, ranking in enumerate(layers):
            window = min(self.window, ranking.count)
            mean = ranking.count - window
            top = min((2 - 1 / self.beta) * mean, int(ranking.living.sum(1).max()) - window)
            wanted.append(window + top + (2 * mean - 2 * top) * index / last if len(layers) > 1 else ranking.count)
        yield from fill_layers(layers, wanted, recent=self.recent)
