"""A context as it is drawn: parts, what stands where in them, and the questions that asks about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from PIL.Image import Image

from flowmm.bench.suite import Evidence
from flowmm.reader.pages import CELL
from flowmm.reader.tokens import tokenizer

TEMPLATE_TOKENS = 2  # what the reader's chat template writes before and after the parts
_FRAME = 2  # tokens around those of an image


@dataclass(frozen=True)
class Statement:
    """A text that a part shows, and the end of it that is evidence: the value of a fact, the code of a badge."""

    text: str
    mark: str


@dataclass(frozen=True)
class Block:
    """A part, with the span (text) or the box (image) of each statement's mark."""

    part: str | Image
    places: Mapping[Statement, tuple[int, ...]] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens of the embedded reader."""
        if isinstance(self.part, str):
            return text_tokens(self.part.strip() + "\n")
        return image_tokens(*self.part.size)


@dataclass(frozen=True)
class Asked:
    """A question, its answer, and the statements that give it, in the order in which one would look them up."""

    question: str
    answer: str
    shown: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Draft:
    """Parts in their order, and questions in theirs."""

    blocks: tuple[Block, ...]
    asked: tuple[Asked, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the whole context for the embedded reader."""
        return TEMPLATE_TOKENS + sum(block.tokens for block in self.blocks)

    def evidence(self, asked: Asked) -> tuple[Evidence, ...]:
        """Where the parts show what ``asked`` rests on."""
        return tuple(self._place(statement) for statement in asked.shown)

    def _place(self, statement: Statement) -> Evidence:
        for number, block in enumerate(self.blocks):
            if statement in block.places:
                place = block.places[statement]
                return Evidence(number, span=place) if isinstance(block.part, str) else Evidence(number, box=place)
        raise LookupError(f"no part shows {statement}")


def text_tokens(text: str) -> int:
    """Tokens of a text for the embedded reader."""
    return len(tokenizer().encode(text).ids)


def image_tokens(width: int, height: int) -> int:
    """Tokens of an image of at most 256 cells for the embedded reader, with the two around them."""
    return round(width / CELL) * round(height / CELL) + _FRAME


def shuffled(rng: Random, items: Iterable[Block]) -> tuple[Block, ...]:
    """The blocks in random order."""
    listed = list(items)
    return tuple(rng.sample(listed, len(listed)))


def choose(rng: Random, groups: Sequence[Sequence[Asked]], number: int = 8) -> tuple[Asked, ...]:
    """``number`` questions, as evenly from the groups as they allow, in random order."""
    waiting = [rng.sample(group, len(group)) for group in groups]
    chosen: list[Asked] = []
    while len(chosen) < number:
        for group in waiting:
            if group and len(chosen) < number:
                chosen.append(group.pop())
        if not any(waiting):
            break
    return tuple(rng.sample(chosen, len(chosen)))
