"""Facts over four to eight pages and screenshots, mixed with text."""

from __future__ import annotations

from random import Random

from flowmm.bench.making.draft import Draft, choose
from flowmm.bench.making.facts import scattered
from flowmm.bench.making.names import Names
from flowmm.bench.making.prose import fill
from flowmm.bench.making.splits import Split

_SHARE = 0.65  # of the tokens that pages take, as long as they are no larger than _LARGEST
_LARGEST = 230  # tokens of a page


def pages(rng: Random, split: Split, tokens: int) -> Draft:
    """A report: pages, screenshots and text that all hold facts."""
    number = min(8, max(4, 2 + round(tokens / 500)))
    each = min(_LARGEST, round(_SHARE * tokens / number))
    told = max(4, round(tokens / 200))
    found = scattered(
        rng, split, Names(rng, split), shown=4 * number, told=told, pages=number, tokens=each, screens=number // 3
    )
    blocks = fill(rng, split, found.pages, [fact.statement for fact in found.told], 1 + tokens // 1000, tokens)
    return Draft(blocks, choose(rng, found.questions))
