"""Facts and how they are stated, in text and on a line of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from flowmm.bench.making.draft import Asked, Block, Statement
from flowmm.bench.making.names import Names
from flowmm.bench.making.paper import Paper, new_paper, page
from flowmm.bench.making.splits import Split


@dataclass(frozen=True)
class Fact:
    """The value of a key, as a part states it."""

    key: str
    value: str
    statement: Statement

    @property
    def asked(self) -> Asked:
        """The question whose answer is the value."""
        return Asked(code_question(self.key), self.value, (self.statement,))


def code_question(key: str) -> str:
    """What is asked about a key."""
    return f"What is the code of {key}?"


def text_fact(rng: Random, split: Split, names: Names, key: str | None = None) -> Fact:
    """A fact for a text part, ended by a full stop: of ``key``, or of a new one."""
    key, value = key or names.key(), names.value()
    if rng.random() < split.sentences:
        return Fact(key, value, Statement(f"The code of {key} is {value}.", value))
    return Fact(key, value, Statement(f"{key}: {value}.", value))


def line_fact(rng: Random, split: Split, names: Names, paper: Paper, key: str | None = None) -> Fact:
    """A fact for a line of ``paper``; a given ``key`` is one word, which always fits."""
    given = key
    while True:
        key, value = given or names.key(), names.value(6 if given else 8)
        told = f"The code of {key} is {value}."
        if rng.random() < split.sentences and paper.fits(told):
            return Fact(key, value, Statement(told, value))
        if given or paper.fits(f"{key}: {value}"):
            return Fact(key, value, Statement(f"{key}: {value}", value))


@dataclass(frozen=True)
class Found:
    """Pages, the facts on them, and facts that text parts are still to tell."""

    pages: tuple[Block, ...]
    shown: tuple[Fact, ...]
    told: tuple[Fact, ...]

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All of them."""
        return self.shown + self.told

    @property
    def questions(self) -> tuple[list[Asked], list[Asked]]:
        """Those about pages and those about text."""
        return [fact.asked for fact in self.shown], [fact.asked for fact in self.told]


def scattered(
    rng: Random,
    split: Split,
    names: Names,
    *,
    shown: int,
    told: int,
    pages: int,
    tokens: int = 200,
    screens: int = 0,
    keys: Sequence[str] = (),
) -> Found:
    """Facts on pages of about ``tokens`` tokens, ``screens`` of which are screenshots, and facts for text.

    Args:
        rng: where everything random comes from.
        split: whose names and layouts.
        names: of the context.
        shown: facts on pages, dealt out evenly.
        told: facts for text.
        pages: how many, at least one if ``shown``.
        tokens: of a page.
        screens: screenshots among the pages; the rest of the lines of a page is filler.
        keys: of one word, that facts in either place must be about; the other facts get new ones.
    """
    waiting: list[str | None] = [*keys, *[None] * (shown + told - len(keys))]
    rng.shuffle(waiting)
    papers = [new_paper(rng, split, tokens, screen=number < screens) for number in range(pages)]
    on_page = [[line_fact(rng, split, names, p, waiting.pop()) for _ in range(n)] for p, n in _dealt(papers, shown)]
    drawn = [
        page(rng, split, paper, [fact.statement for fact in facts], paper.lines)
        for paper, facts in zip(papers, on_page, strict=True)
    ]
    in_text = tuple(text_fact(rng, split, names, key) for key in waiting)
    return Found(tuple(drawn), tuple(fact for facts in on_page for fact in facts), in_text)


def _dealt(papers: Sequence[Paper], number: int) -> list[tuple[Paper, int]]:
    return [(paper, len(range(place, number, len(papers)))) for place, paper in enumerate(papers)]
