"""The levels of each track of the curriculum, from easy to hard: layouts of contexts."""

from dataclasses import replace
from random import Random

from flowmm.reader import fonts
from flowmm.reader.layouts import Layout, Segment
from flowmm.reader.pages import PageStyle
from flowmm.reader.pieces import COMMON, Level, crowd, grid, page, shuffled, style_of, varied


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
    rows, columns = grid(rng, 9, 19, 250)
    segments = tuple(crowd(rng, rows) for _ in range(pages))
    questions = min(8, sum(segment.facts for segment in segments) // 2)
    return varied(rng, Layout(segments, questions, 2, rows=rows, columns=columns, style=style_of(rng, style)))


def page_levels() -> list[Level]:
    """Facts on pages."""
    return [
        lambda rng: Layout((page(4),), 2, plain=True, longest=8, rows=6, columns=9, style=style_of(rng, 0)),
        lambda rng: Layout((page(5),), 2, plain=True, rows=7, columns=9, style=style_of(rng, 1)),
        lambda rng: _page_level(rng, 1, 2),
        lambda rng: _page_level(rng, 2, 2),
        lambda rng: _page_level(rng, rng.randint(2, 4), 2),
        lambda rng: _page_level(rng, rng.randint(2, 4), 3),
    ]


def _mixed_level(rng: Random, pages: int, texts: int, style: int) -> Layout:
    rows, columns = grid(rng, 8, 19, 250)
    parts = [crowd(rng, rows) for _ in range(pages)]
    parts += [Segment(rng.randint(3, 10), rng.randint(2, 16)) for _ in range(texts)]
    segments = shuffled(rng, *parts)
    questions = min(8, sum(segment.facts for segment in segments) // 2)
    return varied(rng, Layout(segments, questions, 2, rows=rows, columns=columns, style=style_of(rng, style)))


def mixed_levels() -> list[Level]:
    """Facts on pages and in text."""
    return [
        lambda rng: Layout(shuffled(rng, Segment(4, 1), page(4)), 4, rows=7, columns=9, style=style_of(rng, 1)),
        lambda rng: _mixed_level(rng, 1, 1, 2),
        lambda rng: _mixed_level(rng, 2, 2, 2),
        lambda rng: _mixed_level(rng, rng.randint(2, 4), rng.randint(1, 4), 2),
        lambda rng: _mixed_level(rng, rng.randint(2, 4), rng.randint(1, 4), 3),
        _lengthy,
    ]


def _lengthy(rng: Random) -> Layout:
    """Up to some 3,000 tokens: pages full of facts or nearly without, and texts of which the same holds."""
    rows, columns = grid(rng, 7, 19, 240)
    facts = rng.choice(((1, 2), (3, 7), (8, 16)))
    parts = [crowd(rng, rows, facts, 16) for _ in range(rng.randint(2, 6))]
    parts += [Segment(rng.randint(*facts), rng.randint(4, 40)) for _ in range(rng.randint(1, 4))]
    segments = shuffled(rng, *parts)
    questions = min(8, sum(segment.facts for segment in segments) // 2)
    layout = Layout(segments, questions, 3, rows=rows, columns=columns, style=style_of(rng, 3), strange=0.3)
    return replace(varied(rng, layout), near=rng.choice((0.0, 0.2, 0.5)))


def _reading_level(rng: Random, style: int) -> Layout:
    """A strip of a page: hardly a cell is empty, and attention among so few is cheap."""
    rows, lines = rng.choice(((3, 2), (4, 3), (5, 4)))
    facts = rng.randint(1, lines)
    columns, drawn = rng.randint(10, 14), style_of(rng, style)
    if rng.random() < 0.6:
        drawn = replace(drawn, sizes=(18, 26))  # a narrow strip makes print smaller anyway
    return varied(rng, Layout((page(facts, lines - facts),), 0, rows=rows, columns=columns, style=drawn))


def _drawing_level(rng: Random, style: int) -> Layout:
    """Badges or a small table, and nothing else."""
    if rng.random() < 0.6:
        badges, rows = rng.choice(((3, 3), (5, 4), (8, 5)))
        segment = Segment(badges, page=True, badges=True)
    else:
        lines, values = rng.choice(((2, 2), (3, 2), (3, 3)))
        segment, rows = Segment(lines * values, page=True, values=values), lines + 2
    layout = Layout((segment,), 0, longest=6, rows=rows, columns=rng.randint(11, 14), style=style_of(rng, style))
    return replace(layout, plain=rng.random() < 0.2)


def reading_levels() -> list[Level]:
    """Strips of pages and drawings, of which nothing is asked."""
    return [
        lambda rng: Layout((page(5, 1),), 0, plain=True, rows=8, columns=8, style=style_of(rng, 0)),
        lambda rng: _reading_level(rng, 1),
        lambda rng: _reading_level(rng, 2),
        lambda rng: (_reading_level if rng.random() < 0.55 else _drawing_level)(rng, 3),
    ]


def _screen(rng: Random, rows: int) -> Segment:
    most = rows * 28 // 36
    facts = rng.randint(2, min(4, most))
    return page(facts, rng.randint(0, min(1, most - facts)))


def _papers(rng: Random, screens: int, texts: int, rows: int, columns: int) -> Layout:
    """Short documents as the samples are: pages of a few lines, and screenshots among them."""
    parts = [Segment(rng.randint(2, 6), rng.randint(0, 6)) for _ in range(texts)]
    segments = shuffled(rng, *parts, *(_screen(rng, rows) for _ in range(screens)))
    facts = sum(segment.facts for segment in segments)
    style = PageStyle((fonts.BUILT_IN, *COMMON), (20, 24), (32, 44), blurred=0, grainy=0)
    layout = Layout(segments, min(8, facts // 2), 1, rows=rows, columns=columns, style=style)
    return replace(layout, near=rng.choice((0.0, 0.2)), longest=rng.choice((8, 10)), plain=rng.random() < 0.2)


def papers_levels() -> list[Level]:
    """Short documents as the samples are."""

    def draw(rng: Random) -> Layout:
        screens, texts = rng.choice(((1, 0), (1, rng.randint(1, 2)), (2, rng.randint(2, 5)), (2, rng.randint(2, 5))))
        return _papers(rng, screens, texts, rng.randint(5, 8), rng.randint(9, 13))

    return [draw]


def _table(rng: Random, lines: int, values: int, style: int) -> Layout:
    """A table, and sometimes a text beside it."""
    segments = [Segment(lines * values, page=True, values=values)]
    segments += [Segment(rng.randint(1, 3), rng.randint(0, 4))] * rng.randint(0, 1)
    rows, columns = rng.randint(lines + 2, lines + 5), rng.randint(8 + values, 12 + values)
    longest = 6 if values > 2 else 8
    questions = min(8, (lines * values) // 2)
    layout = Layout(shuffled(rng, *segments), questions, 1, longest=longest, rows=rows, columns=columns)
    return replace(layout, style=style_of(rng, style), plain=rng.random() < 0.4)


def table_levels() -> list[Level]:
    """Tables, alone and among text."""
    return [
        lambda rng: replace(_table(rng, rng.randint(2, 3), 1, 1), plain=True),
        lambda rng: _table(rng, rng.randint(2, 3), 2, 1),
        lambda rng: _table(rng, rng.randint(3, 5), rng.randint(1, 3), 2),
        lambda rng: _table(rng, rng.randint(3, 7), rng.randint(1, 3), 3),
        lambda rng: _tables(rng, rng.choice((2, 3, 4, 7)), rng.randint(3, 7), rng.randint(2, 4)),
    ]


def _tables(rng: Random, tables: int, lines: int, values: int) -> Layout:
    """Several tables among text."""
    drawn = [Segment(lines * values, page=True, values=values)] * tables
    texts = [Segment(rng.randint(0, 3), rng.randint(4, 30)) for _ in range(rng.randint(1, 2))]
    rows, columns = rng.randint(lines + 2, lines + 4), rng.randint(9 + values, 12 + values)
    asked = min(8, tables * lines * values // 2)
    layout = Layout(
        shuffled(rng, *drawn, *texts), asked, 2, longest=6, rows=rows, columns=columns, style=style_of(rng, 3)
    )
    return replace(layout, plain=rng.random() < 0.2, strange=0.3)


def count_levels() -> list[Level]:
    """How many facts there are, or badges of a colour."""

    def draw(rng: Random, most: int, badges: int, boards: int) -> Layout:
        if rng.random() < 0.25:
            facts = rng.randint(1, most)
            return Layout((Segment(facts, rng.randint(0, most)),), facts // 2, 1, count=True, longest=7)
        drawn = [Segment(rng.randint(3, badges), page=True, badges=True) for _ in range(rng.randint(1, boards))]
        if boards > 1:
            drawn.append(Segment(rng.randint(0, most // 2), rng.randint(1, 20)))
            drawn += [page(rng.randint(0, 5), rng.randint(0, 2))] * rng.randint(0, 1)
        rows, columns = rng.randint(4 + badges // 4, 6 + badges // 4), rng.randint(10, 13)
        layout = Layout(shuffled(rng, *drawn), 0, count=True, rows=rows, columns=columns, style=style_of(rng, 2))
        return replace(layout, plain=rng.random() < 0.6)

    return [lambda rng: draw(rng, 4, 6, 1), lambda rng: draw(rng, 8, 12, 1), lambda rng: draw(rng, 12, 16, 3)]


def list_levels() -> list[Level]:
    """All keys, from the top down."""

    def draw(rng: Random, most: int) -> Layout:
        facts = rng.randint(1, most)
        return Layout((Segment(facts, rng.randint(0, most)),), facts // 2, 1, listed=True, longest=7)

    return [lambda rng: draw(rng, 4), lambda rng: draw(rng, 8), lambda rng: draw(rng, 16)]


def repeat_levels() -> list[Level]:
    """What stands in a text from some words on, or on a page. Long and short at once: every token of it teaches."""

    def draw(rng: Random) -> Layout:
        lines, style = rng.choice((2, 4, 8)), rng.randint(1, 3)
        if rng.random() < 0.25:
            segment = Segment(rng.randint(1, 2 * lines), rng.randint(1, 3 * lines))
            return Layout((segment,), 0, repeated=4, strange=rng.choice((0.0, 0.3)))
        number = rng.randint(max(1, lines // 2), lines)
        facts = number if rng.random() < 0.6 else rng.randint(1, number)
        layout = Layout((page(facts, number - facts),), 0, repeated=1, rows=number + 2, columns=rng.randint(10, 13))
        return replace(layout, style=style_of(rng, style), longest=7, plain=rng.random() < 0.5)

    return [draw]
