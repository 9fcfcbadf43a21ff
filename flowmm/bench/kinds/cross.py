"""Text says who wears which colour, images say which code is in which box: neither answers alone.

There are ten boxes of ten colours, so from the images alone one question in ten comes out right by chance, and from the
text alone none.
"""

from __future__ import annotations

from random import Random

from flowmm.bench.making.badges import MOST_LETTERS, Badge, board
from flowmm.bench.making.draft import Asked, Draft, Statement, choose
from flowmm.bench.making.names import Names
from flowmm.bench.making.paper import new_paper, page
from flowmm.bench.making.prose import deal, fill
from flowmm.bench.making.splits import Split

_PAGE = 200  # tokens of a page of filler


def cross(rng: Random, split: Split, tokens: int) -> Draft:
    """Badges on several images, their wearers in the text."""
    names = Names(rng, split)
    badges = [Badge(colour, names.value(MOST_LETTERS)) for colour in split.shades]
    told, asked = [], []
    for badge in badges:
        name = names.key(words=1)
        statement = Statement(f"{name} wears the {badge.colour} badge.", badge.colour)
        told.append(statement)
        asked.append(Asked(f"What is the badge code of {name}?", badge.code, (statement, badge.statement)))
    boards = [board(rng, split, dealt, 2) for dealt in deal(rng, badges, rng.randint(3, 4))]
    papers = [new_paper(rng, split, _PAGE) for _ in range(round(tokens / 4 / _PAGE))]
    fillers = [page(rng, split, paper, [], paper.lines) for paper in papers]
    return Draft(fill(rng, split, [*boards, *fillers], told, 1 + tokens // 1000, tokens), choose(rng, (asked,)))
