"""Images of coloured boxes that hold codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from PIL import ImageDraw

from flowmm.bench.making.draft import Block, Statement
from flowmm.bench.making.paper import MOST_CELLS, Paper, blank, canvas, printed
from flowmm.bench.making.splits import Colour, Split
from flowmm.reader import sheet
from flowmm.reader.pages import CELL
from flowmm.reader.sheet import Line

MOST_LETTERS = 5  # of a code
_EDGE = (90, 90, 90)  # so that a white box shows on white paper
_LIGHT_INK: Colour = (255, 255, 255)
_DARK = 130  # a box darker than this has light print


@dataclass(frozen=True)
class Badge:
    """A coloured box and the code in it."""

    colour: str
    code: str

    @property
    def statement(self) -> Statement:
        """What the box shows; its evidence is the whole box."""
        return Statement(self.code, self.code)


def board(rng: Random, split: Split, badges: Sequence[Badge], across: int) -> Block:
    """The badges in rows of ``across``, each somewhere in its field, on paper without other print."""
    face, size = rng.choice(split.faces), rng.randint(*split.sizes)
    wide = max(sum(sheet.advances(face, size, badge.code)) for badge in badges) + 1.4 * size
    rows = -(-len(badges) // across)
    field = (wide + rng.randint(14, 30), 1.9 * size + rng.randint(14, 26))
    columns, high = round(across * field[0] / CELL + 0.8), round(rows * field[1] / CELL + 0.8)
    assert columns * high <= MOST_CELLS  # kinds draw so many badges as fit
    width, height = canvas(rng, columns, high)
    paper = Paper(width, height, face, size, 0.0, 0, rng.choice(split.inks), rng.choice(split.papers))
    return _drawn(rng, split, paper, badges, across, wide)


def _drawn(rng: Random, split: Split, paper: Paper, badges: Sequence[Badge], across: int, wide: float) -> Block:
    rows = -(-len(badges) // across)
    pace_x, pace_y, high = paper.width / across, paper.height / rows, 1.9 * paper.size
    image = blank(paper)
    brush, places = ImageDraw.Draw(image), dict[Statement, tuple[int, ...]]()
    prints: dict[bool, list[Line]] = {True: [], False: []}
    for number, badge in enumerate(badges):
        left = int(number % across * pace_x + 2 + rng.random() * (pace_x - wide - 4))
        top = int(number // across * pace_y + 2 + rng.random() * (pace_y - high - 4))
        box = (left, top, int(left + wide), int(top + high))
        shade = split.shades[badge.colour]
        brush.rectangle(box, fill=shade, outline=_EDGE)
        places[badge.statement] = box
        x = left + (wide - paper.length(badge.code)) / 2
        prints[_brightness(shade) < _DARK].append(Line(badge.code, x, top + high / 2 + 0.35 * paper.size))
    for light, lines in prints.items():
        image = printed(image, paper, lines, _LIGHT_INK if light else None)
    return Block(image, places)


def _brightness(colour: Colour) -> float:
    red, green, blue = colour
    return 0.3 * red + 0.59 * green + 0.11 * blue
