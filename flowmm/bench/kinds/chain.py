"""Two hops: who keeps a key, then that keeper's code; both in text or on pages, seldom next to each other."""

from __future__ import annotations

from random import Random

from flowmm.bench.making.draft import Asked, Draft, Statement, choose
from flowmm.bench.making.names import Names
from flowmm.bench.making.paper import new_paper, page
from flowmm.bench.making.prose import fill
from flowmm.bench.making.splits import Split

_CHAINS = 10
_OTHERS = 5  # facts about nobody's keeper
_PAGE = 200  # tokens
_LETTERS = 6  # of a name, so that a hop fits on a line


def chain(rng: Random, split: Split, tokens: int) -> Draft:
    """Keepers and their codes among filler."""
    names = Names(rng, split)
    hops, asked = [], []
    for _ in range(_CHAINS):
        key, keeper, value = names.key(_LETTERS, words=1), names.key(_LETTERS, words=1), names.value()
        first, second = Statement(f"The keeper of {key} is {keeper}.", keeper), Statement(f"{keeper}: {value}.", value)
        hops += [first, second]
        asked.append(Asked(f"What is the code of the keeper of {key}?", value, (first, second)))
    for _ in range(_OTHERS):
        value = names.value()
        hops.append(Statement(f"{names.key(_LETTERS, words=1)}: {value}.", value))
    papers = [new_paper(rng, split, _PAGE) for _ in range(max(2, round(tokens / 500)))]
    shown: list[list[Statement]] = [[] for _ in papers]
    told: list[Statement] = []
    for hop in rng.sample(hops, len(hops)):
        place = rng.randrange(len(papers))
        on_page = rng.random() < 0.5 and papers[place].fits(hop.text) and len(shown[place]) < papers[place].lines
        (shown[place] if on_page else told).append(hop)
    pages = [page(rng, split, paper, lines, paper.lines) for paper, lines in zip(papers, shown, strict=True)]
    return Draft(fill(rng, split, pages, told, 1 + tokens // 1000, tokens), choose(rng, (asked,)))
