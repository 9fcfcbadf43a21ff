"""How many facts the context holds, in text and on pages, and how many badges of each colour its images show.

Counts of badges are 1 to 6, so a blind guess is right one time in six.
"""

from __future__ import annotations

from random import Random

from flowmm.bench.making.badges import Badge, board
from flowmm.bench.making.draft import Asked, Draft
from flowmm.bench.making.facts import scattered
from flowmm.bench.making.names import Names
from flowmm.bench.making.prose import deal, fill
from flowmm.bench.making.splits import Split

_COLOURS = 8  # of the ten
_MOST = 6  # badges of a colour
_BOARD = 16  # badges of an image
_LETTERS = 4  # of a code


def count(rng: Random, split: Split, tokens: int) -> Draft:
    """One question about facts, eight about badges."""
    names = Names(rng, split)
    groups = {
        colour: [Badge(colour, names.value(_LETTERS)) for _ in range(rng.randint(1, _MOST))]
        for colour in rng.sample(list(split.shades), _COLOURS)
    }
    badges = [badge for group in groups.values() for badge in group]
    boards = [board(rng, split, dealt, 4) for dealt in deal(rng, badges, -(-len(badges) // _BOARD))]
    on_pages = tokens > 1000  # else the boards leave no room
    found = scattered(
        rng,
        split,
        names,
        shown=rng.randint(1, 5) if on_pages else 0,
        told=rng.randint(2, 6),
        pages=round((tokens - 1000) / 1000) if on_pages else 0,
    )
    asked = [Asked("How many facts are there?", str(len(found.facts)), tuple(fact.statement for fact in found.facts))]
    for colour, group in groups.items():
        shown = tuple(badge.statement for badge in group)
        asked.append(Asked(f"How many {colour} badges are there?", str(len(group)), shown))
    told = [fact.statement for fact in found.told]
    blocks = fill(rng, split, [*boards, *found.pages], told, max(1, tokens // 1000), tokens)
    return Draft(blocks, tuple(rng.sample(asked, len(asked))))
