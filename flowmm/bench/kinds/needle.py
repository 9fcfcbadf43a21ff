"""Ten facts in all the filler: half of them on pages of filler, half in filler text."""

from __future__ import annotations

from random import Random

from flowmm.bench.making.draft import Draft, choose
from flowmm.bench.making.facts import scattered
from flowmm.bench.making.names import Names
from flowmm.bench.making.prose import fill
from flowmm.bench.making.splits import Split

_FACTS = 5  # on pages, and as many in text


def needle(rng: Random, split: Split, tokens: int) -> Draft:
    """Few facts, much filler."""
    found = scattered(rng, split, Names(rng, split), shown=_FACTS, told=_FACTS, pages=max(2, round(tokens / 500)))
    blocks = fill(rng, split, found.pages, [fact.statement for fact in found.told], 1 + tokens // 1000, tokens)
    return Draft(blocks, choose(rng, found.questions))
