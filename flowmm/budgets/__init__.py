"""Allocation rules: how many slots each layer and head keeps, and which. A rule is a file here and a line below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Protocol

from torch import Tensor

from flowmm.budgets.broadcast import Broadcast
from flowmm.budgets.choose import Ranking
from flowmm.budgets.entropy import Entropy
from flowmm.budgets.everything import Everything
from flowmm.budgets.global_threshold import GlobalThreshold
from flowmm.budgets.modality import ModalitySplit
from flowmm.budgets.pyramid import Pyramid
from flowmm.budgets.uniform import Uniform
from flowmm.budgets.utility import Utility
from flowmm.budgets.variance import Variance


class Budget(Protocol):
    """An allocation rule; its fields are its hyper-parameters."""

    counted: ClassVar[bool]  # whether it keeps a given number of slots
    needs: ClassVar[frozenset[str]]  # of "sample", "references"; ``Ranking.evidence`` may be None when this is empty

    def __call__(self, rankings: Iterable[Ranking]) -> Iterator[Tensor]:
        """Say which slots stay.

        Args:
            rankings: of all layers, in order, made as they are taken. A rule that yields after each one holds one
                layer's scores at a time; a rule that compares layers takes them all first.

        Yields:
            Per layer ``[H_kv, S]`` bool, which slots stay; heads may keep different numbers.
        """
        ...


BUDGETS: dict[str, type[Budget]] = {
    "broadcast": Broadcast,
    "entropy": Entropy,
    "everything": Everything,
    "global_threshold": GlobalThreshold,
    "modality": ModalitySplit,
    "pyramid": Pyramid,
    "uniform": Uniform,
    "utility": Utility,
    "variance": Variance,
}
