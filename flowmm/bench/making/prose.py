"""Text parts: statements among filler sentences, up to a number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from flowmm.bench.making.draft import TEMPLATE_TOKENS, Block, Statement, shuffled, text_tokens
from flowmm.bench.making.splits import Split

T = TypeVar("T")


def joined(rng: Random, split: Split, items: Sequence[Statement | str]) -> Block:
    """The items one after the other, between them what the split puts between sentences."""
    text, places = "", dict[Statement, tuple[int, ...]]()
    for number, item in enumerate(items):
        text += rng.choice(split.breaks) if number else ""
        if isinstance(item, Statement):
            start = len(text) + item.text.rindex(item.mark)
            places[item] = (start, start + len(item.mark))
            text += item.text
        else:
            text += item
    return Block(text + "\n", places)


def prose(rng: Random, split: Split, statements: Sequence[Statement], tokens: int) -> Block:
    """The statements among as many filler sentences as ``tokens`` allow, in random order; at least one sentence."""
    items: list[Statement | str] = [*statements]
    taken = sum(_cost(statement.text) for statement in statements)
    while not items or taken < tokens:
        items.append(split.words.sentence(rng))
        taken += _cost(str(items[-1]))
    return joined(rng, split, rng.sample(items, len(items)))


def fill(
    rng: Random, split: Split, pictures: Sequence[Block], statements: Sequence[Statement], texts: int, tokens: int
) -> tuple[Block, ...]:
    """Pictures, and ``texts`` text parts that share the statements and fill the context up to ``tokens``, shuffled."""
    blocks = list(pictures)
    for number, dealt in enumerate(deal(rng, statements, texts)):
        room = tokens - TEMPLATE_TOKENS - sum(block.tokens for block in blocks)
        blocks.append(prose(rng, split, dealt, room // (texts - number)))
    return shuffled(rng, blocks)


def deal(rng: Random, items: Sequence[T], hands: int) -> list[list[T]]:
    """The items shuffled and dealt out evenly."""
    order = rng.sample(items, len(items))
    return [order[hand::hands] for hand in range(hands)]


def _cost(text: str) -> int:
    return text_tokens(text) + 1  # what stands between sentences
