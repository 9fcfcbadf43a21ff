"""Writes a training context: the very string that inference sees, its pages, and where in them values stand."""

from random import Random
from textwrap import wrap

from flowmm.reader import language
from flowmm.reader.drawings import draw_badges, draw_table
from flowmm.reader.language import Fact, Link
from flowmm.reader.layouts import Layout, Segment
from flowmm.reader.pages import Page, draw_page

_PAD = "<|image_pad|>"

Facts = list[tuple[int, Fact]]  # with their numbers
Links = list[tuple[int, Link]]


class Writer:
    """Collects the string and remembers where values stand in it."""

    def __init__(self) -> None:
        self.text = "<|im_start|>"
        self.values: dict[int, int] = {}  # fact -> character offset of its value
        self.cells: dict[int, tuple[int, tuple[int, ...]]] = {}  # fact -> page, cells of its value
        self.heads: dict[int, tuple[int, ...]] = {}  # fact of a table -> cells of its column's header
        self.links: dict[int, tuple[int, int]] = {}  # link -> characters of what it leads to, full stop included
        self.pictured: dict[int, tuple[int, tuple[int, ...]]] = {}  # link -> page, cells of what it leads to
        self.pages: list[Page] = []
        self.order: list[int] = []  # facts as they stand, from the top down

    def write_text(self, rng: Random, layout: Layout, facts: Facts, fillers: int, links: Links) -> None:
        """Facts, statements that lead on and fillers in random order, as lines or running."""
        style = rng.choice(("lines", "running", "running", "wrapped"))
        items: list[tuple[int, Fact | Link | None]] = [*facts, *links, *[(-1, None)] * fillers]
        rng.shuffle(items)
        width = rng.randint(24, 60)
        for place, (number, item) in enumerate(items):
            if item is None:
                text = _filler(rng, layout)
                self.text += "\n".join(wrap(text, width)) if style == "wrapped" else text
            elif isinstance(item, Link):
                start = len(self.text) + item.statement.rindex(item.target)
                self.text += item.statement
                self.links[number] = (start, start + len(item.target) if item.badge else len(self.text))
            else:
                text = language.state(rng, item, line=style != "running")
                self.values[number] = len(self.text) + text.rindex(item.value)
                self.order.append(number)
                self.text += text
            if place < len(items) - 1:
                self.text += " " if style == "running" and rng.random() > 0.12 else "\n"
                self.text += "\n" if self.text[-1] == "\n" and rng.random() < 0.1 else ""
        self.text += "\n"

    def write_image(
        self,
        rng: Random,
        layout: Layout,
        segment: Segment,
        facts: Facts,
        links: Links,
    ) -> None:
        """A drawn image, and the tokens that stand for it."""
        if segment.values or segment.badges:
            page = (self._table if segment.values else self._badges)(rng, layout, segment, facts)
        else:
            page = self._lines(rng, layout, segment, facts, links)
        self.pages.append(page)
        self.text += "<|vision_start|>" + _PAD * (layout.rows * layout.columns) + "<|vision_end|>"

    def _lines(
        self,
        rng: Random,
        layout: Layout,
        segment: Segment,
        facts: Facts,
        links: Links,
    ) -> Page:
        assert layout.style is not None  # a layout with pages has a style
        roomy = layout.columns >= 12
        items: list[tuple[int, str, str, bool]] = [
            (number, language.state(rng, fact, line=True, sentences=roomy), fact.value, False) for number, fact in facts
        ]
        items += [(number, link.statement, link.target, True) for number, link in links]
        items += [(-1, _filler(rng, layout), "", False) for _ in range(segment.fillers)]
        rng.shuffle(items)
        texts = [(text, number >= 0) for number, text, _, _ in items]
        page = draw_page(rng, layout.style, texts, layout.rows, layout.columns)
        for (number, text, mark, leads), cells in zip(items, page.cells, strict=True):
            start = text.rindex(mark)
            shown = (len(self.pages), cells[start : start + len(mark)])
            if leads:
                self.pictured[number] = shown
            elif number >= 0:
                self.cells[number] = shown
                self.order.append(number)
        return page

    def _badges(self, rng: Random, layout: Layout, segment: Segment, facts: Facts) -> Page:
        assert layout.style is not None
        page = draw_badges(rng, layout.style, [(f.key, f.value) for _, f in facts], layout.rows, layout.columns)
        self._take(page, facts)
        return page

    def _table(self, rng: Random, layout: Layout, segment: Segment, facts: Facts) -> Page:
        assert layout.style is not None
        wide = segment.values
        header = [rng.choice(("Name", "Item", "Key", "")), *(fact.column for _, fact in facts[:wide])]
        lines = [
            [facts[start][1].key, *(fact.value for _, fact in facts[start : start + wide])]
            for start in range(0, len(facts), wide)
        ]
        page = draw_table(rng, layout.style, header, lines, layout.rows, layout.columns)
        self._take(page, facts)
        return page

    def _take(self, page: Page, facts: Facts) -> None:
        """The cells of a drawing that shows the values of ``facts`` in their order, and nothing else."""
        for (number, _), cells in zip(facts, page.cells, strict=True):
            self.cells[number] = (len(self.pages), cells)
            self.order.append(number)
        self.heads.update(zip((number for number, _ in facts), page.heads, strict=False))


def _filler(rng: Random, layout: Layout) -> str:
    return (language.strange_sentence if rng.random() < layout.strange else language.sentence)(rng)
