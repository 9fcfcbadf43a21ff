"""Tables on pages: a header row, a label column, values between rules; around them filler text."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from PIL import ImageDraw

from flowmm.bench.making.draft import Asked, Block, Draft, Statement, choose
from flowmm.bench.making.names import Names
from flowmm.bench.making.paper import Paper, blank, mark_box, new_paper, printed
from flowmm.bench.making.prose import fill
from flowmm.bench.making.splits import Split
from flowmm.reader.sheet import Line

_TABLE = 150  # tokens
_SHARE = 0.5  # of the context that tables take
_LABEL, _VALUE = 7, 5  # letters at most
_MOST_ROWS = 8
_PITCH = 1.8  # of rows, in sizes of print
_PAD = 1.1  # of a column, in sizes of print


@dataclass(frozen=True)
class _Grid:
    """Cells of text, the header row and the label column included; equal pitch, columns as wide as they need."""

    rows: tuple[tuple[str, ...], ...]
    widths: tuple[float, ...]
    pitch: float


def table(rng: Random, split: Split, tokens: int) -> Draft:
    """Several tables; each question names a column and a row."""
    names = Names(rng, split)
    drawn = [_table(rng, split, names) for _ in range(max(2, round(_SHARE * tokens / _TABLE)))]
    blocks = fill(rng, split, [block for block, _ in drawn], [], 1 + tokens // 1000, tokens)
    return Draft(blocks, choose(rng, [asked for _, asked in drawn]))


def _table(rng: Random, split: Split, names: Names) -> tuple[Block, list[Asked]]:
    paper = new_paper(rng, split, _TABLE)
    grid = _grid(rng, split, names, paper)
    lines: list[Line] = []
    places: dict[Statement, tuple[int, ...]] = {}
    asked = []
    top, header = paper.margin, grid.rows[0]
    for number, row in enumerate(grid.rows):
        baseline = top + (number + 0.5) * grid.pitch + 0.35 * paper.size
        x = paper.margin + _PAD / 2 * paper.size
        for column, (text, width) in enumerate(zip(row, grid.widths, strict=True)):
            line = Line(text, x, baseline)
            lines += [line] if text else []
            x += width
            if number and column:
                cell = Statement(text, text)
                places[cell] = mark_box(paper, line, text)
                asked.append(Asked(f"What is the {header[column]} of {row[0]}?", text, (cell,)))
    image = printed(blank(paper), paper, lines)
    _rule(ImageDraw.Draw(image), split, paper, grid)
    return Block(image, places), asked


def _grid(rng: Random, split: Split, names: Names, paper: Paper) -> _Grid:
    """As many rows and columns as fit, at least two columns of values."""
    pitch = max(28.0, _PITCH * paper.size)
    number = min(_MOST_ROWS, int((paper.height - 2 * paper.margin) / pitch) - 1)
    header = rng.sample(split.words.columns, rng.choice((2, 3, 4)))
    labels = [names.key(_LABEL, words=1) for _ in range(number)]
    body = [[names.value(_VALUE) for _ in header] for _ in labels]
    while True:
        rows = (("", *header), *((label, *values[: len(header)]) for label, values in zip(labels, body, strict=True)))
        widths = [max(map(paper.length, column)) + _PAD * paper.size for column in zip(*rows, strict=True)]
        spare = paper.width - 2 * paper.margin - sum(widths)
        if spare >= 0 or len(header) == 2:
            return _Grid(rows, tuple(width + max(0.0, spare) / len(widths) * 0.8 for width in widths), pitch)
        header.pop()


def _rule(brush: ImageDraw.ImageDraw, split: Split, paper: Paper, grid: _Grid) -> None:
    left, top = paper.margin, paper.margin
    right, bottom = left + sum(grid.widths), top + grid.pitch * len(grid.rows)
    for number in range(len(grid.rows) + 1):
        if split.rules or number in (0, 1, len(grid.rows)):
            y = top + number * grid.pitch
            brush.line((left, y, right, y), fill=paper.ink)
    edges = [left + sum(grid.widths[:number]) for number in range(len(grid.widths) + 1)]
    for x in edges if split.rules else edges[1:2]:
        brush.line((x, top, x, bottom), fill=paper.ink)
