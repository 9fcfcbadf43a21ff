"""The levels of each track of the curriculum, from easy to hard: layouts of contexts."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from flowmm.reader import fonts
from flowmm.reader.layouts import Layout, Segment
from flowmm.reader.pages import PageStyle

Level = Callable[[Random], Layout]

_COMMON = (fonts.BUILT_IN,) * 3 + fonts.standard()[1:3]  # the built-in face, Helvetica, Times


def _style(rng: Random, level: int) -> PageStyle:
    if level == 0:
        return PageStyle(
            (fonts.BUILT_IN,), (20, 23), (28, 28), anywhere=False, tinted=False, rescaled=False, blurred=0, grainy=0
        )
    if level == 1:
        return PageStyle(_COMMON, (19, 25), (26, 44), tinted=False, blurred=0, grainy=0)
    if level == 2:
        return PageStyle(_half_slanted(_COMMON + fonts.standard()), (18, 26), (26, 48))
    faces = _half_slanted(_COMMON + fonts.standard() + fonts.trained())
    return PageStyle(faces, sizes=(14, 28) if rng.random() < 0.25 else (18, 25))


def _half_slanted(faces: tuple[fonts.Face, ...]) -> tuple[fonts.Face, ...]:
    """``faces`` and about as many slanted ones, which are fewer and harder to read."""
    slanted = fonts.slanted()
    return faces + slanted * round(len(faces) / max(1, len(slanted)))


def _grid(rng: Random, low: int, high: int, cells: int) -> tuple[int, int]:
    """Rows and columns of pages upright or lying, at most ``cells`` in all."""
    while True:
        rows, columns = rng.randint(low, high), rng.randint(10, 16)
        if rows * columns <= cells:
            return rows, columns


def _page(facts: int, fillers: int = 0) -> Segment:
    return Segment(facts, fillers, page=True)


def _crowd(rng: Random, rows: int, facts: tuple[int, int] = (3, 7), fillers: int = 6) -> Segment:
    """A page of ``rows`` cells with as many lines as fit, or fewer."""
    most = rows * 28 // 32
    number = min(most, rng.randint(*facts))
    return _page(number, rng.randint(0, min(fillers, most - number)))


def _varied(rng: Random, layout: Layout) -> Layout:
    """``layout`` with near keys or without, any keys or short ones, any values or four digits."""
    near, longest, plain = rng.choice((0.0, 0.3)), rng.choice((7, 7, 10)), rng.random() < 0.4
    return replace(layout, near=near, longest=longest, plain=plain)


def _shuffled(rng: Random, *segments: Segment) -> tuple[Segment, ...]:
    return tuple(rng.sample(segments, len(segments)))


def text_levels() -> list[Level]:
    """Facts in text, up to some 4,000 tokens of it."""

    def texts(rng: Random) -> tuple[Segment, ...]:
        return tuple(Segment(rng.randint(6, 20), rng.randint(8, 40)) for _ in range(rng.randint(1, 3)))

    def manual(rng: Random) -> Layout:
        """Few facts in the text of others."""
        segments = tuple(Segment(rng.randint(2, 8), rng.randint(8, 30)) for _ in range(rng.randint(1, 2)))
        return Layout(segments, min(2, segments[0].facts // 2), 1, near=0.2, strange=0.8)

    def lengthy(rng: Random) -> Layout:
        segments = tuple(Segment(rng.randint(2, 16), rng.randint(10, 50)) for _ in range(rng.randint(2, 5)))
        asked = min(4, sum(segment.facts for segment in segments) // 2)
        return Layout(segments, asked, 2, near=rng.choice((0.2, 0.5)), strange=rng.choice((0.1, 0.6)))

    return [
        lambda rng: Layout((Segment(3),), 1, longest=5, plain=True),
        lambda rng: Layout((Segment(5),), 2, longest=8, plain=True),
        lambda rng: Layout((Segment(8, 1),), 4, 1, near=0.1),
        lambda rng: Layout((Segment(14, 4),), 7, 1, near=0.2),
        lambda rng: Layout((Segment(rng.randint(18, 30), rng.randint(4, 12)),), 9, 2, near=0.2),
        lambda rng: Layout((Segment(rng.randint(24, 40), rng.randint(20, 50)),), 12, 2, near=0.2),
        lambda rng: Layout(texts(rng), 3, 1, near=0.2),
        lambda rng: manual(rng) if rng.random() < 0.4 else Layout(texts(rng), 3, 1, near=0.2, strange=0.1),
        lambda rng: rng.choice((manual, lengthy))(rng),
    ]


def _page_level(rng: Random, pages: int, style: int) -> Layout:
    rows, columns = _grid(rng, 9, 19, 250)
    segments = tuple(_crowd(rng, rows) for _ in range(pages))
    questions = min(8, sum(segment.facts for segment in segments) // 2)
    return _varied(rng, Layout(segments, questions, 1, rows=rows, columns=columns, style=_style(rng, style)))


def page_levels() -> list[Level]:
    """Facts on pages."""
    return [
        lambda rng: Layout((_page(4),), 2, plain=True, longest=8, rows=6, columns=9, style=_style(rng, 0)),
        lambda rng: Layout((_page(5),), 2, plain=True, rows=7, columns=9, style=_style(rng, 1)),
        lambda rng: _page_level(rng, 1, 2),
        lambda rng: _page_level(rng, 2, 2),
        lambda rng: _page_level(rng, rng.randint(2, 4), 2),
        lambda rng: _page_level(rng, rng.randint(2, 4), 3),
    ]


def _mixed_level(rng: Random, pages: int, texts: int, style: int) -> Layout:
    rows, columns = _grid(rng, 8, 19, 250)
    parts = [_crowd(rng, rows) for _ in range(pages)]
    parts += [Segment(rng.randint(3, 10), rng.randint(2, 16)) for _ in range(texts)]
    segments = _shuffled(rng, *parts)
    questions = min(8, sum(segment.facts for segment in segments) // 2)
    return _varied(rng, Layout(segments, questions, 1, rows=rows, columns=columns, style=_style(rng, style)))


def mixed_levels() -> list[Level]:
    """Facts on pages and in text."""
    return [
        lambda rng: Layout(_shuffled(rng, Segment(4, 1), _page(4)), 4, rows=7, columns=9, style=_style(rng, 1)),
        lambda rng: _mixed_level(rng, 1, 1, 2),
        lambda rng: _mixed_level(rng, 2, 2, 2),
        lambda rng: _mixed_level(rng, rng.randint(2, 4), rng.randint(1, 4), 2),
        lambda rng: _mixed_level(rng, rng.randint(2, 4), rng.randint(1, 4), 3),
        _lengthy,
    ]


def _lengthy(rng: Random) -> Layout:
    """Up to some 3,000 tokens: pages full of facts or nearly without, and texts of which the same holds."""
    rows, columns = _grid(rng, 7, 19, 240)
    facts = rng.choice(((1, 2), (3, 7), (8, 16)))
    parts = [_crowd(rng, rows, facts, 16) for _ in range(rng.randint(2, 6))]
    parts += [Segment(rng.randint(*facts), rng.randint(4, 40)) for _ in range(rng.randint(1, 4))]
    segments = _shuffled(rng, *parts)
    questions = min(8, sum(segment.facts for segment in segments) // 2)
    layout = Layout(segments, questions, 2, rows=rows, columns=columns, style=_style(rng, 3), strange=0.3)
    return replace(_varied(rng, layout), near=rng.choice((0.0, 0.2, 0.5)))


def _reading_level(rng: Random, style: int) -> Layout:
    """A strip of a page: hardly a cell is empty, and attention among so few is cheap."""
    rows, lines = rng.choice(((3, 2), (4, 3), (5, 4)))
    facts = rng.randint(1, lines)
    columns, drawn = rng.randint(10, 14), _style(rng, style)
    if rng.random() < 0.6:
        drawn = replace(drawn, sizes=(18, 26))  # a narrow strip makes print smaller anyway
    return _varied(rng, Layout((_page(facts, lines - facts),), 0, rows=rows, columns=columns, style=drawn))


def _drawing_level(rng: Random, style: int) -> Layout:
    """Badges or a small table, and nothing else."""
    if rng.random() < 0.6:
        badges, rows = rng.choice(((3, 3), (5, 4), (8, 5)))
        segment = Segment(badges, page=True, badges=True)
    else:
        lines, values = rng.choice(((2, 2), (3, 2), (3, 3)))
        segment, rows = Segment(lines * values, page=True, values=values), lines + 2
    layout = Layout((segment,), 0, longest=6, rows=rows, columns=rng.randint(11, 14), style=_style(rng, style))
    return replace(layout, plain=rng.random() < 0.2)


def reading_levels() -> list[Level]:
    """Strips of pages and drawings, of which nothing is asked."""
    return [
        lambda rng: Layout((_page(5, 1),), 0, plain=True, rows=8, columns=8, style=_style(rng, 0)),
        lambda rng: _reading_level(rng, 1),
        lambda rng: _reading_level(rng, 2),
        lambda rng: (_reading_level if rng.random() < 0.7 else _drawing_level)(rng, 3),
    ]


def _screen(rng: Random, rows: int) -> Segment:
    most = rows * 28 // 36
    facts = rng.randint(2, min(4, most))
    return _page(facts, rng.randint(0, min(1, most - facts)))


def _papers(rng: Random, screens: int, texts: int, rows: int, columns: int) -> Layout:
    """Short documents as the samples are: pages of a few lines, and screenshots among them."""
    parts = [Segment(rng.randint(2, 6), rng.randint(0, 6)) for _ in range(texts)]
    segments = _shuffled(rng, *parts, *(_screen(rng, rows) for _ in range(screens)))
    facts = sum(segment.facts for segment in segments)
    style = PageStyle((fonts.BUILT_IN, *_COMMON), (20, 24), (32, 44), blurred=0, grainy=0)
    layout = Layout(segments, min(8, facts // 2), 1, rows=rows, columns=columns, style=style)
    return replace(layout, near=rng.choice((0.0, 0.2)), longest=rng.choice((8, 10)), plain=rng.random() < 0.2)


def papers_levels() -> list[Level]:
    """Short documents as the samples are."""

    def draw(rng: Random) -> Layout:
        screens, texts = rng.choice(((1, 0), (1, rng.randint(1, 2)), (2, rng.randint(2, 5)), (2, rng.randint(2, 5))))
        return _papers(rng, screens, texts, rng.randint(5, 8), rng.randint(9, 13))

    return [draw]


def _badges(rng: Random, badges: int, style: int) -> Layout:
    """Badges on an image, and who wears them among other facts in text."""
    texts = [Segment(rng.randint(1, 4), rng.randint(0, 5)) for _ in range(rng.randint(1, 2))]
    segments = _shuffled(rng, *texts, Segment(badges, page=True, badges=True))
    rows, columns = rng.randint(4, 7), rng.randint(8, 12)
    return Layout(segments, 1, 1, links=max(1, badges * 2 // 3), rows=rows, columns=columns, style=_style(rng, style))


def _chain(rng: Random, facts: int, fillers: int) -> Layout:
    segments = tuple(Segment(facts, rng.randint(0, fillers)) for _ in range(rng.randint(1, 2)))
    return Layout(segments, 1, 1, links=max(2, facts // 2), longest=rng.choice((6, 10)), near=rng.choice((0.0, 0.2)))


def _pictured_chain(rng: Random, pages: int, texts: int, style: int) -> Layout:
    """Who keeps what, and the keepers' codes, on pages and in text."""
    rows, columns = _grid(rng, 6 + style, 9 + 3 * style, 240)
    columns = max(12, columns)
    parts = [_crowd(rng, rows - 3, (2, 2 + style), 3 * style - 3) for _ in range(pages)]  # two lines stay for links
    parts += [Segment(rng.randint(2, 2 + 2 * style), rng.randint(0, 5 * style)) for _ in range(texts)]
    layout = Layout(_shuffled(rng, *parts), 1, 1, links=min(6, 2 * pages + 2 * texts), pictured=0.6, longest=6)
    return replace(layout, rows=rows, columns=columns, style=_style(rng, style), plain=rng.random() < 0.3)


def _boards(rng: Random) -> Layout:
    """The ten badges on several images, their wearers among filler."""
    dealt = rng.choice(((4, 3, 3), (3, 3, 2, 2), (5, 5), (4, 4)))
    texts = [Segment(rng.randint(0, 5), rng.randint(4, 30)) for _ in range(rng.randint(1, 3))]
    segments = _shuffled(rng, *texts, *(Segment(badges, page=True, badges=True) for badges in dealt))
    rows, columns = rng.randint(5, 8), rng.randint(8, 13)
    layout = Layout(segments, 1, 1, links=min(8, sum(dealt)), rows=rows, columns=columns, style=_style(rng, 3))
    return replace(layout, strange=0.3)


def linked_levels() -> list[Level]:
    """Facts that another statement leads to: badges and their wearers, things and their keepers."""

    def any_of(rng: Random, level: int) -> Layout:
        form = rng.random()
        if form < 0.5:
            return replace(_badges(rng, rng.randint(3, 4 + level), level), plain=rng.random() < 0.3)
        if form < 0.75:
            return _pictured_chain(rng, rng.randint(1, level), rng.randint(0, level), level)
        return _chain(rng, rng.randint(3, 4 + 4 * level), 4 * level)

    def easy(rng: Random) -> Layout:
        if rng.random() < 0.7:
            return replace(_badges(rng, 3, 1), plain=True, absent=0)
        return replace(_pictured_chain(rng, 1, rng.randint(0, 1), 1), plain=True, absent=0)

    return [
        lambda rng: replace(_chain(rng, 3, 0), plain=True, longest=5, absent=0),
        easy,
        lambda rng: any_of(rng, 1),
        lambda rng: any_of(rng, 2),
        lambda rng: any_of(rng, 3),
        lambda rng: _boards(rng) if rng.random() < 0.4 else any_of(rng, 3),
    ]


def _table(rng: Random, lines: int, values: int, style: int) -> Layout:
    """A table, and sometimes a text beside it."""
    segments = [Segment(lines * values, page=True, values=values)]
    segments += [Segment(rng.randint(1, 3), rng.randint(0, 4))] * rng.randint(0, 1)
    rows, columns = rng.randint(lines + 2, lines + 5), rng.randint(8 + values, 12 + values)
    longest = 6 if values > 2 else 8
    questions = min(8, (lines * values) // 2)
    layout = Layout(_shuffled(rng, *segments), questions, 1, longest=longest, rows=rows, columns=columns)
    return replace(layout, style=_style(rng, style), plain=rng.random() < 0.4)


def table_levels() -> list[Level]:
    """Tables, alone and among text."""
    return [
        lambda rng: replace(_table(rng, rng.randint(2, 3), 1, 1), plain=True),
        lambda rng: _table(rng, rng.randint(2, 3), 2, 1),
        lambda rng: _table(rng, rng.randint(3, 5), rng.randint(1, 3), 2),
        lambda rng: _table(rng, rng.randint(3, 7), rng.randint(1, 3), 3),
        lambda rng: _tables(rng, rng.randint(2, 4), rng.randint(3, 7), rng.randint(2, 4)),
    ]


def _tables(rng: Random, tables: int, lines: int, values: int) -> Layout:
    """Several tables among text."""
    drawn = [Segment(lines * values, page=True, values=values)] * tables
    texts = [Segment(rng.randint(0, 3), rng.randint(4, 30)) for _ in range(rng.randint(1, 2))]
    rows, columns = rng.randint(lines + 2, lines + 4), rng.randint(9 + values, 12 + values)
    asked = min(8, tables * lines * values // 2)
    layout = Layout(
        _shuffled(rng, *drawn, *texts), asked, 2, longest=6, rows=rows, columns=columns, style=_style(rng, 3)
    )
    return replace(layout, plain=rng.random() < 0.2, strange=0.3)


def prompt_levels() -> list[Level]:
    """How many facts or badges of a colour there are, and all keys."""

    def draw(rng: Random, most: int) -> Layout:
        facts = rng.randint(1, most)
        if rng.random() < 0.3:
            badges = tuple(Segment(min(12, 1 + facts), page=True, badges=True) for _ in range(rng.randint(1, 2)))
            rows, columns = rng.randint(7, 10), rng.randint(10, 13)
            return Layout(badges, 0, count=True, rows=rows, columns=columns, style=_style(rng, 2))
        return Layout((Segment(facts, rng.randint(0, most)),), facts // 2, 1, count=True, listed=True, longest=7)

    return [lambda rng: draw(rng, 4), lambda rng: draw(rng, 8), lambda rng: draw(rng, 16)]
