"""Images that are no pages of lines: coloured badges with codes, and tables."""

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowmm.reader import sheet
from flowmm.reader.fonts import Face
from flowmm.reader.pages import CELL, LINES, SLOTS, Page, PageStyle, coloured, finished, label
from flowmm.reader.sheet import Line

# What each colour word of the language looks like, give or take a little.
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (215, 40, 45),
    "green": (45, 150, 65),
    "blue": (40, 85, 205),
    "yellow": (245, 220, 60),
    "black": (25, 25, 28),
    "white": (252, 252, 250),
    "orange": (245, 140, 35),
    "purple": (130, 50, 165),
    "brown": (125, 80, 45),
    "grey": (150, 150, 152),
}
_DARK = frozenset(("red", "green", "blue", "black", "purple", "brown"))  # that take white print
_GAP, _PADDINGS = 10, (5, 14)  # pixels


def _width(face: Face, size: int, text: str) -> float:
    return sum(sheet.advances(face, size, text))


def _labelled(
    size: int, face: Face, lines: Sequence[Line], rows: int, columns: int
) -> tuple[NDArray[np.uint8], tuple[tuple[int, ...], ...]]:
    labels = np.zeros((rows, columns, LINES, SLOTS), np.uint8)
    cells = [label(labels, line.text, sheet.centres(face, size, line), line.baseline - size * 0.35) for line in lines]
    return labels, tuple(cells)


def draw_badges(rng: Random, style: PageStyle, badges: Sequence[tuple[str, str]], rows: int, columns: int) -> Page:
    """Boxes of a colour with a code in each, in rows; ``badges`` are colour and code. ``cells`` follow their order."""
    width, height = columns * CELL, rows * CELL
    face, size, padding = rng.choice(style.faces), rng.randint(*style.sizes), rng.randint(*_PADDINGS)
    while True:
        placed = _placed(rng, [_width(face, size, code) for _, code in badges], size, padding, width, height)
        if placed is not None:
            break
        size, padding = size - 1, max(_PADDINGS[0], padding - 1)
    lines = [Line(code, x, y) for (_, code), (x, y) in zip(badges, placed, strict=True)]
    gray = sheet.draw(face, size, lines, width, height).astype(np.float32)[..., None] / 255
    paper = np.full((height, width, 3), rng.choice((255, 255, 246, 236)), np.float32)
    ink, edge = np.zeros_like(paper), rng.choice((None, 40, 90))
    for (colour, code), (x, y) in zip(badges, placed, strict=True):
        right = x + _width(face, size, code) + padding
        box = (slice(max(0, int(y - size * 0.8 - padding)), int(y + size * 0.1 + padding)),)
        area = (*box, slice(max(0, int(x - padding)), int(right)))
        if edge is not None:
            paper[area[0], max(0, area[1].start - 1) : area[1].stop + 1] = edge
            paper[max(0, area[0].start - 1) : area[0].stop + 1, area[1]] = edge
        paper[area] = [min(255, max(0, part + rng.randint(-12, 12))) for part in COLOURS[colour]]
        ink[area] = 255 if colour in _DARK else 0
    pixels = (paper * gray + ink * (1 - gray)).clip(0, 255).astype(np.uint8)
    labels, cells = _labelled(size, face, lines, rows, columns)
    return Page(finished(rng, style, Image.fromarray(pixels), width, height), labels, cells)


def _placed(
    rng: Random, widths: Sequence[float], size: int, padding: int, width: int, height: int
) -> list[tuple[float, float]] | None:
    """Left edge and base line of each box's text, or None where they do not all fit."""
    tall, spread = size + 2 * padding + _GAP, rng.choice((0, 12))
    x, y, found = float(_GAP + padding), size * 0.9 + padding + rng.randint(4, 12), []
    for one in widths:
        if x + one + padding > width and x > _GAP + padding:
            x, y = _GAP + padding, y + tall + spread
        if x + one + padding > width or y + padding + spread > height:
            return None
        found.append((x, y + rng.randint(0, spread)))
        x += one + 2 * padding + _GAP + rng.randint(0, 12)
    return found


def draw_table(
    rng: Random, style: PageStyle, header: Sequence[str], lines: Sequence[Sequence[str]], rows: int, columns: int
) -> Page:
    """A table with a header row; each of ``lines`` is a label and its values. ``cells`` are those of the values.

    Rules are drawn between rows, between columns too, or nowhere.
    """
    width, height = columns * CELL, rows * CELL
    face, size = rng.choice(style.faces), rng.randint(*style.sizes)
    table = [header, *lines]
    while size > 9:
        widths = [max(_width(face, size, line[place]) for line in table) for place in range(len(header))]
        if sum(widths) + 14 * len(widths) <= width and len(table) * size * 1.3 <= height - 8:
            break
        size -= 1
    spare = max(0.0, width - 8 - sum(widths) - 14 * len(widths)) / len(widths)
    gap = 14 + rng.uniform(0, spare)
    lefts = [6 + sum(widths[:place]) + gap * place for place in range(len(widths))]
    pitch = min(rng.uniform(max(size * 1.3, 24), 42), (height - 8) / len(table))
    top = rng.uniform(2, max(2.0, min(CELL, height - 6 - pitch * len(table))))
    drawn = [
        Line(text, lefts[place], top + pitch * (number + 0.5) + size * 0.35)
        for number, line in enumerate(table)
        for place, text in enumerate(line)
    ]
    gray = sheet.draw(face, size, drawn, width, height).copy()
    _rule(rng, gray, lefts, gap, top, pitch, len(table))
    labels, cells = _labelled(size, face, drawn, rows, columns)
    wide = len(header)
    valued = tuple(cells[i] for i in range(wide, len(cells)) if i % wide)
    pixels = finished(rng, style, Image.fromarray(coloured(rng, gray, style.tinted)), width, height)
    return Page(pixels, labels, valued, cells[1:wide] * len(lines))


def _rule(
    rng: Random, gray: sheet.Gray, lefts: Sequence[float], gap: float, top: float, pitch: float, number: int
) -> None:
    kind, shade = rng.choice(("none", "header", "rows", "all")), rng.randint(60, 190)
    ends = {"none": (), "header": (1,), "rows": range(number + 1), "all": range(number + 1)}[kind]
    for line in ends:
        y = int(top + pitch * line)
        if 0 <= y < gray.shape[0]:
            gray[y] = np.minimum(gray[y], shade)
    if kind == "all":
        for left in lefts[1:]:
            x = int(left - gap / 2)
            gray[:, x] = np.minimum(gray[:, x], shade)
