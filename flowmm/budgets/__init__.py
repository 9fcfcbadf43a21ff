"""Allocation rules: how many slots each layer and head keeps, and which. A rule is a file here and a line below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Protocol

from torch import Tensor

from flowmm.budgets.choose import Ranking
from flowmm.budgets.everything import Everything
from flowmm.budgets.uniform import Uniform


class Budget(Protocol):
    """An allocation rule; its fields are its hyper-parameters."""

    counted: ClassVar[bool]  # whether it keeps a given number of slots

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
    "everything": Everything,
    "uniform": Uniform,
}
