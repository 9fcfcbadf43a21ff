"""Questions about keys that the context does not hold; half of them nearly equal one that it does."""

from __future__ import annotations

from random import Random

from flowmm.bench.making.draft import Asked, Draft, choose
from flowmm.bench.making.facts import code_question, scattered
from flowmm.bench.making.names import Names
from flowmm.bench.making.prose import fill
from flowmm.bench.making.splits import Split
from flowmm.reader.language import ABSENT

_NEAR = _FAR = 4  # questions


def absent(rng: Random, split: Split, tokens: int) -> Draft:
    """Facts in text and on pages, none of which answers."""
    names = Names(rng, split)
    pairs = [names.family(2) for _ in range(_NEAR)]
    far = [names.key() for _ in range(_FAR)]
    number = max(4, round(tokens / 250))
    found = scattered(
        rng,
        split,
        names,
        shown=number,
        told=number,
        pages=max(2, round(tokens / 500)),
        keys=[pair[0] for pair in pairs],
    )
    blocks = fill(rng, split, found.pages, [fact.statement for fact in found.told], 1 + tokens // 1000, tokens)
    missing = [Asked(code_question(key), ABSENT) for key in (*far, *(pair[1] for pair in pairs))]
    return Draft(blocks, choose(rng, (missing,)))
