"""The generated kinds, one file each: a function from random numbers, split and tokens to a context.

To add one: a file with the function, and a line in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from flowmm.bench.kinds.absent import absent
from flowmm.bench.kinds.chain import chain
from flowmm.bench.kinds.count import count
from flowmm.bench.kinds.cross import cross
from flowmm.bench.kinds.dense import dense
from flowmm.bench.kinds.needle import needle
from flowmm.bench.kinds.pages import pages
from flowmm.bench.kinds.table import table
from flowmm.bench.kinds.twins import twins
from flowmm.bench.making.draft import Draft
from flowmm.bench.making.splits import Split

Kind = Callable[[Random, Split, int], Draft]

KINDS: dict[str, Kind] = {
    "dense": dense,
    "needle": needle,
    "table": table,
    "pages": pages,
    "cross": cross,
    "chain": chain,
    "count": count,
    "twins": twins,
    "absent": absent,
}
