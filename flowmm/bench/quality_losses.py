"""Whether what a file says of its own loss tells what answers lose: rank correlations over contexts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flowmm.bench.intervals import spearman
from flowmm.bench.quality_rows import Row


@dataclass(frozen=True)
class LossOrder:
    """One method at one share of kept slots, or at all shares together (``keep`` None).

    ``kl`` and ``top1`` are Spearman's correlations, over the contexts and shares, of the share of answers lost with
    the divergence that the held-out questions of ``prefill`` show, and with the share of their tokens that come out
    otherwise. None where all lose the same. ``lost`` is the mean share of answers lost.
    """

    method: str
    kv_dtype: str
    keep: float | None
    rows: int
    lost: float
    kl: float | None
    top1: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """Precision, share, contexts, answers lost, and both correlations, as tables show them."""
        keep = "all" if self.keep is None else f"{100 * self.keep:g} %"
        found = ("not defined" if one is None else f"{one:.2f}" for one in (self.kl, self.top1))
        return (self.kv_dtype, keep, str(self.rows), f"{100 * self.lost:.1f} %", *found)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def loss_orders(rows: Sequence[Row], score: str) -> tuple[LossOrder, ...]:
    """Of every method whose rows have the agreement of held-out answers: each share of kept slots, then all of them."""
    full = {row.context: _mean(row, score) for row in rows if (row.group, row.name) == ("control", "full")}
    told = [row for row in rows if row.agreement is not None and row.group == "compressed"]
    return tuple(one for mine in _by_method(told) for one in _orders(mine, full, score))


def _by_method(rows: Sequence[Row]) -> Iterator[list[Row]]:
    for key in dict.fromkeys((row.name, row.kv_dtype) for row in rows):
        yield [row for row in rows if (row.name, row.kv_dtype) == key]


def _orders(rows: Sequence[Row], full: dict[str, float], score: str) -> Iterator[LossOrder]:
    keeps: list[float | None] = list(dict.fromkeys(row.keep for row in rows))
    for keep in [*keeps, None] if len(keeps) > 1 else keeps:
        mine = [row for row in rows if keep is None or row.keep == keep]
        lost = [full[row.context] - _mean(row, score) for row in mine]
        found = [row.agreement for row in mine if row.agreement is not None]
        apart, otherwise = [one.kl for one in found], [1 - one.top1 for one in found]
        mean = sum(lost) / len(lost)
        row = mine[0]
        yield LossOrder(row.name, row.kv_dtype, keep, len(mine), mean, spearman(apart, lost), spearman(otherwise, lost))


def _mean(row: Row, score: str) -> float:
    return float(sum(getattr(one, score) for one in row.asked)) / max(1, len(row.asked))
