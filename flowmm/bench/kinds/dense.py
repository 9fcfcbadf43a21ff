"""Every line a fact: half of the context on pages, half in text. Nothing can be left out without loss."""

from __future__ import annotations

from random import Random

from flowmm.bench.making.draft import TEMPLATE_TOKENS, Asked, Block, Draft, choose, shuffled, text_tokens
from flowmm.bench.making.facts import line_fact, text_fact
from flowmm.bench.making.names import Names
from flowmm.bench.making.paper import new_paper, page
from flowmm.bench.making.prose import joined
from flowmm.bench.making.splits import Split

_PAGE, _TEXT = 200, 500  # tokens of a part


def dense(rng: Random, split: Split, tokens: int) -> Draft:
    """Facts and nothing else."""
    names = Names(rng, split)
    blocks: list[Block] = []
    shown: list[Asked] = []
    told: list[Asked] = []
    for _ in range(round(tokens / 2 / _PAGE)):
        paper = new_paper(rng, split, _PAGE)
        facts = [line_fact(rng, split, names, paper) for _ in range(paper.lines)]
        blocks.append(page(rng, split, paper, [fact.statement for fact in facts], 0))
        shown += [fact.asked for fact in facts]
    room = tokens - TEMPLATE_TOKENS - sum(block.tokens for block in blocks)
    texts = max(1, round(room / _TEXT))
    for _ in range(texts):
        block, asked = _text(rng, split, names, room // texts)
        blocks.append(block)
        told += asked
    return Draft(shuffled(rng, blocks), choose(rng, (shown, told)))


def _text(rng: Random, split: Split, names: Names, tokens: int) -> tuple[Block, list[Asked]]:
    facts, taken = [], 0
    while taken < tokens:
        facts.append(text_fact(rng, split, names))
        taken += text_tokens(facts[-1].statement.text) + 1
    lines = [fact.statement for fact in facts]
    return joined(rng, split, lines), [fact.asked for fact in facts]
