"""What the levels of the curriculum are put together from: faces and looks of pages, their size, what is on them."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from flowmm.reader import fonts
from flowmm.reader.layouts import Layout, Segment
from flowmm.reader.pages import PageStyle

Level = Callable[[Random], Layout]

COMMON = (fonts.BUILT_IN,) * 3 + fonts.standard()[1:3]  # the built-in face, Helvetica, Times


def style_of(rng: Random, level: int) -> PageStyle:
    """How pages look, from level 0, one face at one size, to level 3, everything."""
    if level == 0:
        return PageStyle(
            (fonts.BUILT_IN,), (20, 23), (28, 28), anywhere=False, tinted=False, rescaled=False, blurred=0, grainy=0
        )
    if level == 1:
        return PageStyle(COMMON, (19, 25), (26, 44), tinted=False, blurred=0, grainy=0)
    if level == 2:
        return PageStyle(_half_slanted(COMMON + fonts.standard()), (18, 26), (26, 48))
    faces = _half_slanted(COMMON + fonts.standard() + fonts.trained())
    return PageStyle(faces, sizes=(14, 28) if rng.random() < 0.25 else (18, 25))


def _half_slanted(faces: tuple[fonts.Face, ...]) -> tuple[fonts.Face, ...]:
    """``faces`` and about as many slanted ones, which are fewer and harder to read."""
    slanted = fonts.slanted()
    return faces + slanted * round(len(faces) / max(1, len(slanted)))


def grid(rng: Random, low: int, high: int, cells: int) -> tuple[int, int]:
    """Rows and columns of pages upright or lying, at most ``cells`` in all."""
    while True:
        rows, columns = rng.randint(low, high), rng.randint(10, 16)
        if rows * columns <= cells:
            return rows, columns


def page(facts: int, fillers: int = 0) -> Segment:
    """A page of lines."""
    return Segment(facts, fillers, page=True)


def crowd(rng: Random, rows: int, facts: tuple[int, int] = (3, 7), fillers: int = 6) -> Segment:
    """A page of ``rows`` cells with as many lines as fit, or fewer."""
    most = rows * 28 // 32
    number = min(most, rng.randint(*facts))
    return page(number, rng.randint(0, min(fillers, most - number)))


def varied(rng: Random, layout: Layout) -> Layout:
    """``layout`` with near keys or without, any keys or short ones, any values or four digits."""
    near, longest, plain = rng.choice((0.0, 0.3)), rng.choice((7, 7, 10)), rng.random() < 0.4
    return replace(layout, near=near, longest=longest, plain=plain)


def lengthened(rng: Random, layout: Layout) -> Layout:
    """``layout`` with texts and pages of little in them, up to some 4,300 tokens in all."""
    room = rng.randint(1500, 4300)
    cells, filler = layout.rows * layout.columns, round(11 + 22 * layout.strange)
    paged = layout.rows >= 6 and layout.columns >= 10 and not layout.count
    parts: list[Segment] = []
    for segment in layout.segments:
        room -= cells if segment.page else 14 * segment.facts + filler * segment.fillers
    while room > 300:
        if paged and rng.random() < 0.5:
            parts.append(crowd(rng, layout.rows - 3, (0, 3)))  # two lines stay for statements that lead on
            room -= cells
        else:
            part = Segment(0 if layout.count else rng.randint(0, 4), rng.randint(10, max(10, min(60, room // filler))))
            parts.append(part)
            room -= 14 * part.facts + filler * part.fillers
    return replace(layout, segments=shuffled(rng, *layout.segments, *parts))


def shuffled(rng: Random, *segments: Segment) -> tuple[Segment, ...]:
    """The segments in random order."""
    return tuple(rng.sample(segments, len(segments)))
