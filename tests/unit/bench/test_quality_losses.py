"""Whether a file's own word on its loss puts contexts into the order in which answers are lost."""

import pytest

from flowmm.bench.quality_losses import loss_orders
from flowmm.bench.quality_rows import Asked, Row
from flowmm.records import Agreement


def asked(right: int) -> tuple[Asked, ...]:
    return tuple(Asked(f"q{i}", "needle", "text", "", *[float(i < right)] * 4) for i in range(4))


def row(context: str, right: int, kl: float | None, keep: float | None = 0.1, top1: float = 0.5) -> Row:
    told = None if kl is None else Agreement(3, 9, 9, top1, kl, 5, 0.0)
    group, name = ("control", "full") if keep is None else ("compressed", "flowmm")
    return Row(context, group, name, keep, "bf16", asked=asked(right), agreement=told)


FULL = [row(name, right, None, None) for name, right in (("a", 4), ("b", 4), ("c", 2))]


def test_the_context_that_diverges_most_loses_most():
    rows = [*FULL, row("a", 1, 3.0, top1=0.1), row("b", 3, 2.0, top1=0.9), row("c", 2, 1.0, top1=0.5)]
    (found,) = loss_orders(rows, "exact_match")
    assert (found.method, found.keep, found.rows) == ("flowmm", 0.1, 3)
    assert found.lost == pytest.approx((3 / 4 + 1 / 4 + 0) / 3)  # of what the full cache has, not of what there is
    assert found.kl == pytest.approx(1.0)
    assert found.top1 == pytest.approx(0.5)  # lost 3, 1, 0 quarters; otherwise .9, .1, .5: ranks 3 2 1 and 3 1 2


def test_shares_are_told_apart_and_together():
    rows = [*FULL[:2], row("a", 4, 1.0), row("b", 3, 2.0), row("a", 1, 4.0, 0.05), row("b", 2, 3.0, 0.05)]
    found = loss_orders(rows, "exact_match")
    assert [(one.keep, one.rows) for one in found] == [(0.1, 2), (0.05, 2), (None, 4)]
    assert [one.kl for one in found] == [pytest.approx(1.0)] * 3


def test_where_all_lose_the_same_there_is_no_order():
    (found,) = loss_orders([*FULL[:2], row("a", 3, 1.0), row("b", 3, 2.0)], "exact_match")
    assert found.kl is None


def test_rows_without_the_figure_say_nothing():
    assert loss_orders([*FULL, row("a", 3, None)], "exact_match") == ()
