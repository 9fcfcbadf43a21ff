"""The levels of facts that another statement leads to: things and their keepers, people and their badges."""

from dataclasses import replace
from random import Random

from flowmm.reader.layouts import Layout, Segment
from flowmm.reader.pieces import Level, crowd, grid, shuffled, style_of


def chain_levels() -> list[Level]:
    """Who keeps what, and the keepers' codes: in text first, which costs little, then on pages too."""

    def either(rng: Random, style: int) -> Layout:
        if rng.random() < 0.5:
            return _chain(rng, rng.randint(4, 10), rng.randint(0, 30), rng.randint(1, 3))
        return _pictured_chain(rng, rng.randint(1, style), rng.randint(0, 2), style)

    return [
        lambda rng: replace(_chain(rng, 3, 0, 1), plain=True, longest=5, absent=0),
        lambda rng: replace(_chain(rng, rng.randint(4, 6), rng.randint(0, 2), 1), plain=rng.random() < 0.7),
        lambda rng: _chain(rng, rng.randint(5, 10), rng.randint(0, 8), 1),
        lambda rng: _chain(rng, rng.randint(3, 8), rng.randint(0, 12), rng.randint(1, 3)),
        lambda rng: either(rng, 1),
        lambda rng: either(rng, 2),
        lambda rng: _crowded_chain(rng) if rng.random() < 0.5 else either(rng, 3),
    ]


def badge_levels() -> list[Level]:
    """Boxes of a colour with a code in each, and who wears which."""
    return [
        lambda rng: replace(_badges(rng, 3, 1), plain=True, absent=0),
        lambda rng: replace(_badges(rng, rng.randint(3, 5), 1), plain=rng.random() < 0.5),
        lambda rng: _badges(rng, rng.randint(3, 6), 2),
        lambda rng: _badges(rng, rng.randint(3, 8), 3),
        lambda rng: _boards(rng) if rng.random() < 0.5 else _badges(rng, rng.randint(3, 8), 3),
    ]


def _chain(rng: Random, facts: int, fillers: int, texts: int) -> Layout:
    segments = (Segment(facts, fillers // texts),) * texts
    links = min(8, max(2, facts * texts // 2))
    return Layout(segments, 1, 1, links=links, longest=rng.choice((6, 10)), near=rng.choice((0.0, 0.2)))


def _pictured_chain(rng: Random, pages: int, texts: int, style: int) -> Layout:
    """Statements and codes on pages and in text."""
    rows, columns = grid(rng, 6 + style, 9 + 3 * style, 240)
    columns = max(12, columns)
    parts = [crowd(rng, rows - 3, (2, 2 + style), 3 * style - 3) for _ in range(pages)]  # two lines stay for links
    parts += [Segment(rng.randint(2, 2 + 2 * style), rng.randint(0, 5 * style)) for _ in range(texts)]
    layout = Layout(shuffled(rng, *parts), 1, 1, links=min(6, 2 * pages + 2 * texts), pictured=0.6, longest=6)
    return replace(layout, rows=rows, columns=columns, style=style_of(rng, style), plain=rng.random() < 0.3)


def _crowded_chain(rng: Random) -> Layout:
    """Ten statements that lead on, and at least as many facts besides, scattered over pages and texts among filler."""
    rows, columns = grid(rng, 7, 14, 200)
    columns = max(12, columns)
    parts = [crowd(rng, rows - 3, (2, 6), 4) for _ in range(rng.randint(2, 4))]
    parts += [Segment(rng.randint(4, 8), rng.randint(2, 20)) for _ in range(rng.randint(1, 3))]
    layout = Layout(shuffled(rng, *parts), 1, 2, links=10, pictured=0.5, longest=6)
    return replace(layout, rows=rows, columns=columns, style=style_of(rng, 3), plain=rng.random() < 0.2)


def _badges(rng: Random, badges: int, style: int) -> Layout:
    """Badges on an image, and who wears them among other facts in text."""
    texts = [Segment(rng.randint(1, 4), rng.randint(0, 5)) for _ in range(rng.randint(1, 2))]
    segments = shuffled(rng, *texts, Segment(badges, page=True, badges=True))
    rows, columns = rng.randint(4, 7), rng.randint(8, 12)
    layout = Layout(segments, 1, 1, links=max(1, badges * 2 // 3), rows=rows, columns=columns)
    return replace(layout, style=style_of(rng, style), plain=rng.random() < 0.3)


def _boards(rng: Random) -> Layout:
    """The ten badges on several images, their wearers among filler."""
    dealt = rng.choice(((4, 3, 3), (3, 3, 2, 2), (5, 5), (4, 4)))
    texts = [Segment(rng.randint(0, 5), rng.randint(4, 30)) for _ in range(rng.randint(1, 3))]
    segments = shuffled(rng, *texts, *(Segment(badges, page=True, badges=True) for badges in dealt))
    rows, columns = rng.randint(5, 8), rng.randint(8, 13)
    layout = Layout(segments, 1, 1, links=min(8, sum(dealt)), rows=rows, columns=columns, style=style_of(rng, 3))
    return replace(layout, strange=0.3)
