"""Families of three keys that differ in one letter, each with its own value."""

from __future__ import annotations

from random import Random

from flowmm.bench.making.draft import Draft, choose
from flowmm.bench.making.facts import scattered
from flowmm.bench.making.names import Names
from flowmm.bench.making.prose import fill
from flowmm.bench.making.splits import Split

_FAMILY = 3


def twins(rng: Random, split: Split, tokens: int) -> Draft:
    """Every key has two that nearly equal it, in text or on a page."""
    names = Names(rng, split)
    keys = [key for _ in range(max(4, round(tokens / 250))) for key in names.family(_FAMILY)]
    half = len(keys) // 2
    found = scattered(
        rng, split, names, shown=half, told=len(keys) - half, pages=max(2, round(tokens / 500)), keys=keys
    )
    blocks = fill(rng, split, found.pages, [fact.statement for fact in found.told], 1 + tokens // 1000, tokens)
    return Draft(blocks, choose(rng, found.questions))
