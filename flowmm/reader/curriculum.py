"""What is trained on, from easy to hard: each track climbs its levels on its own as it masters them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from flowmm.reader import fonts
from flowmm.reader.contexts import Layout, Segment
from flowmm.reader.pages import PageStyle

Level = Callable[[Random], Layout]

_MASTERED = 0.8  # running share of right answers that opens the next level
_READ = 0.6  # the same for whole cells, where only the vision tower is trained
_REVIEW = 0.2  # share of batches from earlier levels
_MEMORY = 0.92  # of the running share


_COMMON = (fonts.BUILT_IN,) * 3 + fonts.standard()[1:3]  # the built-in face, Helvetica, Times


def _style(level: int) -> PageStyle:
    if level == 0:
        return PageStyle((fonts.BUILT_IN,), (20, 23), (28, 28), anywhere=False, tinted=False, rescaled=False, blurred=0)
    if level == 1:
        return PageStyle(_COMMON, (19, 25), (26, 44), tinted=False, blurred=0)
    if level == 2:
        return PageStyle(_COMMON + fonts.standard(), (17, 26), (26, 48))
    # The faces that need no file come up in half of the pages: the samples are drawn in them.
    return PageStyle(_COMMON * 2 + fonts.standard() * 2 + fonts.trained())


def _grid(rng: Random, low: int, high: int, cells: int) -> tuple[int, int]:
    """Rows and columns of pages upright or lying, at most ``cells`` in all."""
    while True:
        rows, columns = rng.randint(low, high), rng.randint(10, 16)
        if rows * columns <= cells:
            return rows, columns


def _page(facts: int, fillers: int = 0) -> Segment:
    return Segment(facts, fillers, page=True)


def _crowd(rng: Random, rows: int) -> Segment:
    """A page of ``rows`` cells with as many lines as fit, or fewer."""
    most = rows * 28 // 32
    facts = rng.randint(3, min(7, most))
    return _page(facts, rng.randint(0, min(6, most - facts)))


def _varied(rng: Random, layout: Layout) -> Layout:
    """``layout`` with near keys or without, any keys or short ones, any values or four digits."""
    near, longest, plain = rng.choice((0.0, 0.3)), rng.choice((7, 7, 10)), rng.random() < 0.4
    return replace(layout, near=near, longest=longest, plain=plain)


def _shuffled(rng: Random, *segments: Segment) -> tuple[Segment, ...]:
    return tuple(rng.sample(segments, len(segments)))


def _text_levels() -> list[Level]:
    def texts(rng: Random) -> tuple[Segment, ...]:
        return tuple(Segment(rng.randint(6, 20), rng.randint(8, 40)) for _ in range(rng.randint(1, 3)))

    def manual(rng: Random) -> Layout:
        """Few facts in the text of others."""
        segments = tuple(Segment(rng.randint(2, 8), rng.randint(8, 30)) for _ in range(rng.randint(1, 2)))
        return Layout(segments, 2, 1, near=0.2, strange=0.8)

    return [
        lambda rng: Layout((Segment(3),), 1, longest=5, plain=True),
        lambda rng: Layout((Segment(5),), 2, longest=8, plain=True),
        lambda rng: Layout((Segment(8, 1),), 4, 1, near=0.1),
        lambda rng: Layout((Segment(14, 4),), 7, 1, near=0.2),
        lambda rng: Layout((Segment(rng.randint(18, 30), rng.randint(4, 12)),), 9, 2, near=0.2),
        lambda rng: Layout((Segment(rng.randint(24, 40), rng.randint(20, 50)),), 12, 2, near=0.2),
        lambda rng: Layout(texts(rng), 3, 1, near=0.2),
        lambda rng: manual(rng) if rng.random() < 0.4 else Layout(texts(rng), 3, 1, near=0.2, strange=0.1),
    ]


def _page_level(rng: Random, pages: int, style: int) -> Layout:
    rows, columns = _grid(rng, 9, 19, 250)
    segments = tuple(_crowd(rng, rows) for _ in range(pages))
    questions = min(8, sum(segment.facts for segment in segments) // 2)
    return _varied(rng, Layout(segments, questions, 1, rows=rows, columns=columns, style=_style(style)))


def _page_levels() -> list[Level]:
    return [
        lambda rng: Layout((_page(4),), 2, plain=True, longest=8, rows=6, columns=9, style=_style(0)),
        lambda rng: Layout((_page(5),), 2, plain=True, rows=7, columns=9, style=_style(1)),
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
    return _varied(rng, Layout(segments, questions, 1, rows=rows, columns=columns, style=_style(style)))


def _mixed_levels() -> list[Level]:
    return [
        lambda rng: Layout(_shuffled(rng, Segment(4, 1), _page(4)), 4, rows=7, columns=9, style=_style(1)),
        lambda rng: _mixed_level(rng, 1, 1, 2),
        lambda rng: _mixed_level(rng, 2, 2, 2),
        lambda rng: _mixed_level(rng, rng.randint(2, 4), rng.randint(1, 4), 2),
        lambda rng: _mixed_level(rng, rng.randint(2, 4), rng.randint(1, 4), 3),
    ]


def _reading_level(rng: Random, style: int) -> Layout:
    """A strip of a page: hardly a cell is empty, and attention among so few is cheap."""
    rows, lines = rng.choice(((3, 2), (4, 3), (5, 4)))
    facts = rng.randint(1, lines)
    columns = rng.randint(10, 14)
    return _varied(rng, Layout((_page(facts, lines - facts),), 0, rows=rows, columns=columns, style=_style(style)))


def _reading_levels() -> list[Level]:
    return [
        lambda rng: Layout((_page(5, 1),), 0, plain=True, rows=8, columns=8, style=_style(0)),
        lambda rng: _reading_level(rng, 1),
        lambda rng: _reading_level(rng, 2),
        lambda rng: _reading_level(rng, 3),
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
    style = PageStyle((fonts.BUILT_IN, *_COMMON), (20, 24), (32, 44), blurred=0)
    layout = Layout(segments, min(8, facts // 2), 1, rows=rows, columns=columns, style=style)
    return replace(layout, near=rng.choice((0.0, 0.2)), longest=rng.choice((8, 10)), plain=rng.random() < 0.2)


def _papers_levels() -> list[Level]:
    def draw(rng: Random) -> Layout:
        screens, texts = rng.choice(((1, 0), (1, rng.randint(1, 2)), (2, rng.randint(2, 5)), (2, rng.randint(2, 5))))
        return _papers(rng, screens, texts, rng.randint(5, 8), rng.randint(9, 13))

    return [draw]


def _badges(rng: Random, badges: int, style: int) -> Layout:
    """Badges on an image, and who wears them among other facts in text."""
    texts = [Segment(rng.randint(1, 4), rng.randint(0, 5)) for _ in range(rng.randint(1, 2))]
    segments = _shuffled(rng, *texts, Segment(badges, page=True, badges=True))
    rows, columns = rng.randint(4, 7), rng.randint(8, 12)
    return Layout(segments, 1, 1, links=max(1, badges * 2 // 3), rows=rows, columns=columns, style=_style(style))


def _chain(rng: Random, facts: int, fillers: int) -> Layout:
    segments = tuple(Segment(facts, rng.randint(0, fillers)) for _ in range(rng.randint(1, 2)))
    return Layout(segments, 1, 1, links=max(2, facts // 2), longest=rng.choice((6, 10)), near=rng.choice((0.0, 0.2)))


def _linked_levels() -> list[Level]:
    def either(rng: Random, level: int) -> Layout:
        if rng.random() < 0.5:
            return replace(_badges(rng, rng.randint(3, 4 + level), level), plain=rng.random() < 0.3)
        return _chain(rng, rng.randint(3, 4 + 4 * level), 4 * level)

    return [
        lambda rng: replace(_chain(rng, 3, 0), plain=True, longest=5, absent=0),
        lambda rng: replace(_badges(rng, 3, 1), plain=True, absent=0),
        lambda rng: either(rng, 1),
        lambda rng: either(rng, 2),
        lambda rng: either(rng, 3),
    ]


def _table(rng: Random, lines: int, values: int, style: int) -> Layout:
    """A table, and sometimes a text beside it."""
    segments = [Segment(lines * values, page=True, values=values)]
    segments += [Segment(rng.randint(1, 3), rng.randint(0, 4))] * rng.randint(0, 1)
    rows, columns = rng.randint(lines + 2, lines + 5), rng.randint(8 + values, 12 + values)
    longest = 6 if values > 2 else 8
    questions = min(8, (lines * values) // 2)
    layout = Layout(_shuffled(rng, *segments), questions, 1, longest=longest, rows=rows, columns=columns)
    return replace(layout, style=_style(style), plain=rng.random() < 0.4)


def _table_levels() -> list[Level]:
    return [
        lambda rng: replace(_table(rng, rng.randint(2, 3), 1, 1), plain=True),
        lambda rng: _table(rng, rng.randint(2, 3), 2, 1),
        lambda rng: _table(rng, rng.randint(3, 5), rng.randint(1, 3), 2),
        lambda rng: _table(rng, rng.randint(3, 7), rng.randint(1, 3), 3),
    ]


def _prompt_levels() -> list[Level]:
    """How many facts or badges of a colour there are, and all keys."""

    def draw(rng: Random, most: int) -> Layout:
        facts = rng.randint(1, most)
        if rng.random() < 0.3:
            badges = tuple(Segment(min(12, 1 + facts), page=True, badges=True) for _ in range(rng.randint(1, 2)))
            rows, columns = rng.randint(7, 10), rng.randint(10, 13)
            return Layout(badges, 0, count=True, rows=rows, columns=columns, style=_style(2))
        return Layout((Segment(facts, rng.randint(0, most)),), facts // 2, 1, count=True, listed=True, longest=7)

    return [lambda rng: draw(rng, 4), lambda rng: draw(rng, 8), lambda rng: draw(rng, 16)]


READING = "reading"  # the vision tower alone
TRACKS: dict[str, list[Level]] = {
    "text": _text_levels(),
    "pages": _page_levels(),
    "mixed": _mixed_levels(),
    "papers": _papers_levels(),
    "linked": _linked_levels(),
    "tables": _table_levels(),
    "prompts": _prompt_levels(),
    READING: _reading_levels(),
}
STAGES: dict[str, dict[str, float]] = {
    "text": {"text": 1.0},
    "reading": {READING: 1.0},
    "joint": {"text": 0.15, READING: 0.4, "pages": 0.25, "mixed": 0.2},
    "finish": {"text": 0.1, READING: 0.2, "papers": 0.7},  # what the samples are made of
    "wide": {"text": 0.1, READING: 0.2, "papers": 0.5, "linked": 0.12, "tables": 0.08},
    "wider": {"text": 0.1, READING: 0.2, "pages": 0.12, "mixed": 0.1, "papers": 0.13, "linked": 0.2}
    | {"tables": 0.1, "prompts": 0.05},
}


@dataclass
class Progress:
    """Levels and running scores of the tracks; goes into the checkpoint."""

    levels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TRACKS, 0))
    shares: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TRACKS, 0.0))

    def draw(self, rng: Random, stage: str) -> tuple[str, int, Layout]:
        """A track, one of its levels so far, and a layout of it."""
        weights = STAGES[stage]
        track = rng.choices(list(weights), list(weights.values()))[0]
        level = self.levels[track]
        if level and rng.random() < _REVIEW:
            level = rng.randrange(level)
        return track, level, TRACKS[track][level](rng)

    def record(self, track: str, level: int, share: float) -> bool:
        """Take in the share of right answers of a batch; True if that opened the next level."""
        if level != self.levels[track]:
            return False
        self.shares[track] = _MEMORY * self.shares[track] + (1 - _MEMORY) * share
        mastered = self.shares[track] > (_READ if track == READING else _MASTERED)
        if not mastered or level + 1 == len(TRACKS[track]):
            return False
        self.levels[track] += 1
        self.shares[track] /= 2
        return True


def cost(layout: Layout) -> float:
    """About how many tokens a context of ``layout`` costs; a page costs more than its tokens."""
    total = 22.0 * (layout.questions + layout.absent) + 45 * layout.links
    for segment in layout.segments:
        total += 14 * segment.facts + 10 * segment.fillers
        if segment.page:
            total += 1.9 * layout.rows * layout.columns - 14 * segment.facts - 10 * segment.fillers
    return total
