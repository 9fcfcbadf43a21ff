"""Page images of the training, with a label for each character that a visual token covers."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from flowmm.reader import sheet
from flowmm.reader.fonts import Face
from flowmm.reader.sheet import Line

CELL = 28  # pixels per visual token, each way
LINES = 2  # that may meet in one cell: lines are at least 24 pixels apart
SLOTS = 5  # labelled characters of a line in one cell
CHARACTERS = " ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:.,?"

_LABEL = {character: number for number, character in enumerate(CHARACTERS)}
_OUTSIDE = -1
_MARGIN = 3
_REVERSED = 0.15  # of the tinted pages are light on dark
_NOISE = 10.0  # standard deviation of grain, at most


@dataclass(frozen=True)
class PageStyle:
    """What varies between pages, uniformly within each range."""

    faces: tuple[Face, ...]
    sizes: tuple[int, int] = (14, 28)
    pitches: tuple[int, int] = (24, 48)
    anywhere: bool = True  # else text starts near the middle of a cell
    tinted: bool = True
    rescaled: bool = True  # as the image processor rescales sizes that are no multiple of a cell
    blurred: float = 0.1
    grainy: float = 0.06


@dataclass(frozen=True)
class Page:
    """A drawn page.

    ``pixels`` is ``[height, width, 3]``; ``labels`` is ``[rows, columns, LINES, SLOTS]`` indices into ``CHARACTERS``,
    0 where empty; ``cells[line][i]`` is the cell (row * columns + column) of the line's i-th character, or -1. In a
    table, ``heads[line]`` are the cells of the header above it. ``texts`` are the lines of a page as they are shown.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    cells: tuple[tuple[int, ...], ...]
    heads: tuple[tuple[int, ...], ...] = ()
    texts: tuple[str, ...] = ()


def fit(face: Face, size: int, text: str, width: float) -> str:
    """The longest beginning of ``text``, in whole words, that is at most ``width`` pixels wide."""
    words = text.split(" ")
    while len(words) > 1 and sum(sheet.advances(face, size, " ".join(words))) > width:
        words.pop()
    return " ".join(words)


def _choose_size(rng: Random, face: Face, style: PageStyle, texts: Sequence[str], room: int) -> int:
    """A size of the style, reduced until each of ``texts`` fits into the width of the page."""
    size = rng.randint(*style.sizes)
    while size > 9 and any(sum(sheet.advances(face, size, text)) > room for text in texts):
        size -= 1
    return size


def _baselines(rng: Random, style: PageStyle, number: int, height: int, size: int) -> list[float]:
    """Base lines of ``number`` lines: a common pitch, sometimes with gaps between them."""
    low = max(style.pitches[0], round(size * 1.12))
    if style.anywhere:
        top = size / 2 + 2
        top += rng.random() * min(CELL, max(0, height - 2 * top - low * (number - 1)))
    else:
        top = CELL / 2 + rng.randint(-_MARGIN, _MARGIN)
    room = height - top - size / 2 - 2
    widest = int(room / max(1, number - 1))
    pitch = rng.randint(min(low, widest), max(min(low, widest), min(style.pitches[1], widest)))
    places = int(room / pitch) + 1
    spread = rng.random() < 0.5
    chosen = sorted(rng.sample(range(places), number)) if spread else range(number)
    return [top + place * pitch + size * 0.35 for place in chosen]


def label(labels: NDArray[np.uint8], text: str, xs: Sequence[float], y: float) -> tuple[int, ...]:
    """Enter a line, its characters centred at ``xs`` and ``y``, into ``labels``, and say which cells it takes.

    Lines come from the top down: in a cell that shows an earlier line already, a line goes second.
    """
    rows, columns = labels.shape[:2]
    row = int(y // CELL)
    second = (labels[row, :, 0, 0] > 0).astype(int) if 0 <= row < rows else ()
    cells, used = [], [0] * columns
    for character, x in zip(text, xs, strict=True):
        column = int(x // CELL)
        inside = 0 <= column < columns and 0 <= row < rows
        cells.append(row * columns + column if inside else _OUTSIDE)
        if inside and _LABEL.get(character) and used[column] < SLOTS:  # other signs are not asked for
            labels[row, column, second[column], used[column]] = _LABEL[character]
            used[column] += 1
    return tuple(cells)


def coloured(rng: Random, gray: sheet.Gray, tinted: bool) -> NDArray[np.uint8]:
    """Dark ink on light paper, ``[height, width, 3]``; plain black on white for half of the pages, some reversed."""
    if not tinted or rng.random() < 0.5:
        return np.repeat(gray[..., None], 3, axis=2)
    ink = np.array([rng.randint(0, 70)] * 3) + np.array([rng.randint(0, 40) for _ in range(3)])
    paper = np.array([rng.randint(200, 255)] * 3) - np.array([rng.randint(0, 20) for _ in range(3)])
    if rng.random() < _REVERSED:
        ink, paper = paper, ink
    table = ink + (paper - ink) * (np.arange(256)[:, None] / 255)
    shown: NDArray[np.uint8] = table.astype(np.uint8)[gray]
    return shown


def draw_page(
    rng: Random,
    style: PageStyle,
    texts: Sequence[tuple[str, bool]],
    rows: int,
    columns: int,
) -> Page:
    """Draw a page of ``rows`` x ``columns`` cells.

    ``texts`` holds each line and whether it must be kept whole: the others are cut to the width of the page.
    """
    height, width = rows * CELL, columns * CELL
    rescaled = style.rescaled and rng.random() < 0.6
    canvas_w = width + (rng.randint(-CELL // 2, CELL // 2) if rescaled else 0)
    canvas_h = height + (rng.randint(-CELL // 2, CELL // 2) if rescaled else 0)
    face, room = rng.choice(style.faces), canvas_w - 2 * _MARGIN
    size = _choose_size(rng, face, style, [text for text, whole in texts if whole], room)
    left = None if rng.random() < 0.5 else rng.randint(_MARGIN, 24)
    lines = []
    for (text, whole), baseline in zip(texts, _baselines(rng, style, len(texts), canvas_h, size), strict=True):
        fitting = text if whole else fit(face, size, text, room)
        free = max(0, int(room - sum(sheet.advances(face, size, fitting))))
        x = _MARGIN + (rng.randint(0, free) if left is None else min(left, free))
        lines.append(Line(fitting, x, baseline))
    gray = sheet.draw(face, size, lines, canvas_w, canvas_h)
    labels = np.zeros((rows, columns, LINES, SLOTS), np.uint8)
    cells = []
    for line in lines:
        xs = [x * width / canvas_w for x in sheet.centres(face, size, line)]
        middle = (line.baseline - size * 0.35) * height / canvas_h
        cells.append(label(labels, line.text, xs, middle))
    image = Image.fromarray(coloured(rng, gray, style.tinted))
    shown = tuple(line.text for line in lines)
    return Page(finished(rng, style, image, width, height), labels, tuple(cells), texts=shown)


def finished(rng: Random, style: PageStyle, image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """The pixels ``[height, width, 3]`` of a drawing, brought to its size, sometimes blurred or grainy."""
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    if rng.random() < style.blurred:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7)))
    if rng.random() < style.grainy:
        grain = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(2, _NOISE), (height, width, 1))
        return (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)
    return np.asarray(image)
