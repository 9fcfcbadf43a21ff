"""Pages and screenshots: lines in one face on light paper, and the box of what each line states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from flowmm.bench.making.draft import Block, Statement
from flowmm.bench.making.splits import Colour, Split
from flowmm.reader import sheet
from flowmm.reader.fonts import Face
from flowmm.reader.pages import CELL
from flowmm.reader.sheet import Line

MOST_CELLS = 256  # of an image: more pixels the reader's image processor would scale down
_JITTER = 13  # pixels more or less than whole cells, so that sizes are multiples of nothing
_BAR = 22  # height of a screenshot's title bar
_ASCENT, _DESCENT, _SLANT = 0.8, 0.25, 0.2  # of the size: how far print reaches from its base line, and to the right
_WIDEST = "Mawosten: 0M0M0M0M"  # fits on any page


@dataclass(frozen=True)
class Paper:
    """An empty page or, with a title bar, an empty screenshot, and how it is printed on."""

    width: int
    height: int
    face: Face
    size: int
    pitch: float
    margin: int
    ink: Colour
    colour: Colour
    bar: Colour | None = None

    @property
    def top(self) -> float:
        """The first base line."""
        return self.margin + _ASCENT * self.size + (_BAR if self.bar else 0)

    @property
    def lines(self) -> int:
        """How many fit."""
        return 1 + int((self.height - self.margin - _DESCENT * self.size - self.top) / self.pitch)

    def length(self, text: str) -> float:
        """Width of ``text`` in pixels."""
        return sum(sheet.advances(self.face, self.size, text))

    def fits(self, text: str) -> bool:
        """Whether a line takes ``text``."""
        return self.length(text) <= self.width - 2 * self.margin

    def wrapped(self, text: str) -> list[str]:
        """``text`` broken at blanks into lines that fit."""
        lines = [""]
        for word in text.split(" "):
            longer = f"{lines[-1]} {word}".strip()
            if self.fits(longer) or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines


def new_paper(rng: Random, split: Split, tokens: int, *, screen: bool = False) -> Paper:
    """Paper of about ``tokens`` tokens, at least six lines of cells high, in a face of the split."""
    columns = rng.randint(*split.columns)
    rows = min(MOST_CELLS // columns, max(6, round(tokens / columns)))
    width, height = canvas(rng, columns, rows)
    face, margin = rng.choice(split.faces), rng.randint(*split.margins)
    size = rng.randint(*split.sizes)
    while sum(sheet.advances(face, size, _WIDEST)) > width - 2 * margin:
        size -= 1
    pitch = max(26.0, size * rng.uniform(*split.pitches))
    ink, colour = rng.choice(split.inks), rng.choice(split.papers)
    return Paper(width, height, face, size, pitch, margin, ink, colour, split.bar if screen else None)


def canvas(rng: Random, columns: int, rows: int) -> tuple[int, int]:
    """Width and height of about so many cells of 28 pixels."""
    return tuple(CELL * cells + rng.randint(-_JITTER, _JITTER) for cells in (columns, rows))  # type: ignore[return-value]


def blank(paper: Paper) -> Image.Image:
    """The paper without print."""
    image = Image.new("RGB", (paper.width, paper.height), paper.colour)
    if paper.bar:
        brush = ImageDraw.Draw(image)
        brush.rectangle((0, 0, paper.width, _BAR - 4), fill=paper.bar)
        for dot in range(3):
            brush.ellipse((8 + 14 * dot, 5, 16 + 14 * dot, 13), fill=paper.colour)
    return image


def printed(image: Image.Image, paper: Paper, lines: Sequence[Line], ink: Colour | None = None) -> Image.Image:
    """``image`` with lines in the paper's face, in its ink or another."""
    gray = Image.fromarray(sheet.draw(paper.face, paper.size, lines, image.width, image.height))
    result = image.copy()
    result.paste(ink or paper.ink, (0, 0), gray.point([255 - level for level in range(256)]))
    return result


def mark_box(paper: Paper, line: Line, mark: str) -> tuple[int, ...]:
    """Left, top, right, bottom of where ``mark`` stands last in ``line``, within the paper."""
    left = line.x + paper.length(line.text[: line.text.rindex(mark)])
    right = left + paper.length(mark) + _SLANT * paper.size
    top, bottom = line.baseline - _ASCENT * paper.size, line.baseline + _DESCENT * paper.size
    return (
        max(0, math.floor(left) - 2),
        max(0, math.floor(top)),
        min(paper.width, math.ceil(right)),
        min(paper.height, math.ceil(bottom)),
    )


def page(rng: Random, split: Split, paper: Paper, statements: Sequence[Statement], fillers: int) -> Block:
    """A page of lines: each statement on its own, among up to ``fillers`` lines of filler, in random order."""
    items: list[list[Statement | str]] = [[statement] for statement in statements]
    free = min(fillers, paper.lines - len(statements))
    while free > 0:
        wrapped: list[Statement | str] = [*paper.wrapped(split.words.sentence(rng))[:free]]
        free -= len(wrapped)
        items.append(wrapped)
    rows = [row for item in rng.sample(items, len(items)) for row in item]
    lines, places = _laid(rng, split, paper, rows)
    return Block(printed(blank(paper), paper, lines), places)


def _laid(
    rng: Random, split: Split, paper: Paper, rows: Sequence[Statement | str]
) -> tuple[list[Line], Mapping[Statement, tuple[int, ...]]]:
    places = sorted(rng.sample(range(paper.lines), len(rows))) if split.gaps else range(len(rows))
    lines, boxes = [], {}
    for place, row in zip(places, rows, strict=True):
        text = row.text if isinstance(row, Statement) else row
        line = Line(text, paper.margin, paper.top + place * paper.pitch)
        lines.append(line)
        if isinstance(row, Statement):
            boxes[row] = mark_box(paper, line, row.mark)
    return lines, boxes
