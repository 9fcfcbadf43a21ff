"""Draws one training context: text and page segments that hold facts, then questions with their answers.

The context is written as the very string that inference sees (see ``tokens.TEMPLATE``), so the training has no layout
of its own.
"""

from bisect import bisect_left
from dataclasses import dataclass
from random import Random
from textwrap import wrap

from flowmm.reader import language
from flowmm.reader.drawings import draw_badges, draw_table
from flowmm.reader.language import Fact, Link
from flowmm.reader.pages import Page, PageStyle, draw_page
from flowmm.reader.tokens import IMAGE_PAD, tokenizer
from flowmm.reader.vocabulary import COLOURS

TEXT, IMAGE, ABSENT, LINKED, TABLE, COUNT, LIST = "text", "image", "absent", "linked", "table", "count", "list"

_PAD = "<|image_pad|>"


@dataclass(frozen=True)
class Segment:
    """A text part, or an image where ``page``, with so many facts and filler sentences.

    An image shows lines, or badges, or a table of so many ``values`` beside each label.
    """

    facts: int
    fillers: int = 0
    page: bool = False
    badges: bool = False
    values: int = 0


@dataclass(frozen=True)
class Layout:
    """What the contexts of one batch have in common."""

    segments: tuple[Segment, ...]
    questions: int  # about facts of the context; at most half of them, or elimination is learnt
    absent: int = 0  # about keys the context does not hold
    links: int = 0  # statements in text that lead to a fact; each is asked about
    count: bool = False  # ask how many facts there are
    listed: bool = False  # ask for all keys
    near: float = 0.0  # share of keys that nearly equal another one
    strange: float = 0.0  # share of filler sentences in text with words that are spelled
    longest: int = 10  # letters in a one-word key
    plain: bool = False  # values of four digits only
    rows: int = 0  # of each page, in cells
    columns: int = 0
    style: PageStyle | None = None


@dataclass(frozen=True)
class Asked:
    """A question put to a context; ``fact`` is None for a key that is not there."""

    key: str
    answer: str
    kind: str
    fact: int | None
    first: int  # index of the first answer token
    last: int  # index of the end token after the answer
    hop: tuple[int, ...] = ()  # tokens of the statement that leads to the fact


@dataclass(frozen=True)
class Context:
    """A tokenized context with its questions.

    ``places[fact][i]`` is the token that shows the i-th character of the fact's value (-1: off the page);
    ``length`` counts the tokens before the first question.
    """

    ids: list[int]
    length: int
    pages: tuple[Page, ...]
    page_starts: tuple[int, ...]
    facts: tuple[Fact, ...]
    on_page: tuple[bool, ...]
    places: tuple[tuple[int, ...], ...]
    asked: tuple[Asked, ...]


@dataclass(frozen=True)
class _Asking:
    """A question before it is written; ``link`` is the number of the statement that leads to the fact."""

    question: str
    key: str
    answer: str
    kind: str
    fact: int | None = None
    link: int | None = None


class _Writer:
    """Collects the string and remembers where values stand in it."""

    def __init__(self) -> None:
        self.text = "<|im_start|>"
        self.values: dict[int, int] = {}  # fact -> character offset of its value
        self.cells: dict[int, tuple[int, tuple[int, ...]]] = {}  # fact -> page, cells of its value
        self.links: dict[int, tuple[int, int]] = {}  # link -> characters of what it leads to, full stop included
        self.pages: list[Page] = []
        self.order: list[int] = []  # facts as they stand, from the top down

    def write_text(
        self, rng: Random, layout: Layout, facts: list[tuple[int, Fact]], fillers: int, links: list[tuple[int, Link]]
    ) -> None:
        style = rng.choice(("lines", "running", "running", "wrapped"))
        items: list[tuple[int, Fact | Link | None]] = [*facts, *links, *[(-1, None)] * fillers]
        rng.shuffle(items)
        width = rng.randint(24, 60)
        for place, (number, item) in enumerate(items):
            if item is None:
                text = (language.strange_sentence if rng.random() < layout.strange else language.sentence)(rng)
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

    def write_image(self, rng: Random, layout: Layout, segment: Segment, facts: list[tuple[int, Fact]]) -> None:
        draw = self._table if segment.values else self._badges if segment.badges else self._lines
        self.pages.append(draw(rng, layout, segment, facts))
        self.text += "<|vision_start|>" + _PAD * (layout.rows * layout.columns) + "<|vision_end|>"

    def _lines(self, rng: Random, layout: Layout, segment: Segment, facts: list[tuple[int, Fact]]) -> Page:
        assert layout.style is not None  # a layout with pages has a style
        roomy = layout.columns >= 12
        items = [
            (number, language.state(rng, fact, line=True, sentences=roomy), fact.value) for number, fact in facts
        ] + [(-1, language.sentence(rng), "") for _ in range(segment.fillers)]
        rng.shuffle(items)
        texts = [(text, number >= 0) for number, text, _ in items]
        page = draw_page(rng, layout.style, texts, layout.rows, layout.columns)
        for (number, text, value), cells in zip(items, page.cells, strict=True):
            if number >= 0:
                start = text.rindex(value)
                self.cells[number] = (len(self.pages), cells[start : start + len(value)])
                self.order.append(number)
        return page

    def _badges(self, rng: Random, layout: Layout, segment: Segment, facts: list[tuple[int, Fact]]) -> Page:
        assert layout.style is not None
        page = draw_badges(rng, layout.style, [(f.key, f.value) for _, f in facts], layout.rows, layout.columns)
        self._take(page, facts)
        return page

    def _table(self, rng: Random, layout: Layout, segment: Segment, facts: list[tuple[int, Fact]]) -> Page:
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

    def _take(self, page: Page, facts: list[tuple[int, Fact]]) -> None:
        """The cells of a drawing that shows the values of ``facts`` in their order, and nothing else."""
        for (number, _), cells in zip(facts, page.cells, strict=True):
            self.cells[number] = (len(self.pages), cells)
            self.order.append(number)


def _facts(rng: Random, layout: Layout, held_out: bool) -> tuple[list[Fact], list[str]]:
    """The facts of all segments, in their order, and keys that are in none."""
    number = sum(segment.facts // max(1, segment.values) for segment in layout.segments if not segment.badges)
    columns = sum(segment.values for segment in layout.segments)
    wanted = number + columns + layout.absent + layout.links
    keys = language.draw_keys(rng, wanted, held_out=held_out, longest=layout.longest, near=layout.near)
    rng.shuffle(keys)
    facts: list[Fact] = []
    for segment in layout.segments:
        if segment.badges:
            # Only badges that are counted have colours in common.
            names = rng.choices(COLOURS[:8], k=segment.facts) if layout.count else rng.sample(COLOURS, segment.facts)
            columns_of = ["code"]
        else:
            names = [keys.pop() for _ in range(segment.facts // max(1, segment.values))]
            columns_of = [keys.pop() for _ in range(segment.values)] or ["code"]
        facts += [
            Fact(name, language.draw_value(rng, plain=layout.plain), column) for name in names for column in columns_of
        ]
    return facts, keys


def _links(
    rng: Random, layout: Layout, facts: list[Fact], kinds: list[str], subjects: list[str]
) -> list[tuple[Link, int]]:
    """Statements that lead to facts: to badges where there are any, else to facts of a code."""
    badges = [i for i, kind in enumerate(kinds) if kind == LINKED]
    choice = badges or [i for i, kind in enumerate(kinds) if kind in (TEXT, IMAGE)]
    chosen = rng.sample(choice, min(len(choice), layout.links))
    return [(Link(subject, facts[i].key, bool(badges)), i) for subject, i in zip(subjects, chosen, strict=False)]


def _questions(
    rng: Random, layout: Layout, facts: list[Fact], kinds: list[str], links: list[tuple[Link, int]], spare: list[str]
) -> list[_Asking]:
    """The questions, those for all keys aside, in random order."""
    direct = [i for i, kind in enumerate(kinds) if kind != LINKED]
    chosen = rng.sample(direct, min(len(direct), layout.questions))
    asked = [_Asking(facts[i].question, facts[i].key, facts[i].value, kinds[i], i) for i in chosen]
    asked += [
        _Asking(link.question, link.subject, facts[i].value, LINKED, i, number)
        for number, (link, i) in enumerate(links)
    ]
    for key in spare:
        fact, kind = Fact(key, language.ABSENT), rng.choice(kinds)
        if links and rng.random() < 0.5:
            question = Link(key, "", links[0][0].badge).question
        elif kind == TABLE:
            question = Fact(key, "", rng.choice([f.column for f in facts if f.column != "code"])).question
        else:
            question = fact.question
        asked.append(_Asking(question, key, language.ABSENT, ABSENT))
    if layout.count and LINKED in kinds:
        colour = rng.choice(facts).key
        number = sum(fact.key == colour for fact in facts)
        asked.append(_Asking(f"How many {colour} badges are there?", "", str(number), COUNT))
    elif layout.count:
        asked.append(_Asking("How many facts are there?", "", str(len(facts)), COUNT))
    rng.shuffle(asked)
    return asked


def draw_context(rng: Random, layout: Layout, *, held_out: bool = False) -> Context:
    """Draw a context of ``layout``; ``held_out`` takes its keys from the bucket that training never sees."""
    facts, spare = _facts(rng, layout, held_out)
    kinds = [_kind(segment) for segment in layout.segments for _ in range(segment.facts)]
    links = _links(rng, layout, facts, kinds, spare[layout.absent :])
    texts = [place for place, segment in enumerate(layout.segments) if not segment.page]
    told = [rng.choice(texts) for _ in links] if texts else []
    writer, taken = _Writer(), 0
    numbered = list(enumerate(facts))
    for place, segment in enumerate(layout.segments):
        part = numbered[taken : taken + segment.facts]
        taken += segment.facts
        if segment.page:
            writer.write_image(rng, layout, segment, part)
        else:
            here = [(i, links[i][0]) for i, where in enumerate(told) if where == place]
            writer.write_text(rng, layout, part, segment.fillers, here)
    length = len(writer.text)
    asked, spans = _questions(rng, layout, facts, kinds, links, spare[: layout.absent]), []
    if layout.listed:
        keys = dict.fromkeys(facts[number].key for number in writer.order)
        asked.append(_Asking("List the keys.", "", ", ".join(keys), LIST))
    for one in asked:
        writer.text += f"\n{one.question}<|im_end|>"
        first = len(writer.text)
        writer.text += one.answer
        spans.append((first, len(writer.text)))
        writer.text += "<|endoftext|>"
    return _tokenize(writer, length, facts, [kind != TEXT for kind in kinds], asked, spans)


def _kind(segment: Segment) -> str:
    if not segment.page:
        return TEXT
    return TABLE if segment.values else LINKED if segment.badges else IMAGE


def _tokenize(
    writer: _Writer,
    length: int,
    facts: list[Fact],
    on_page: list[bool],
    asking: list[_Asking],
    spans: list[tuple[int, int]],
) -> Context:
    encoding = tokenizer().encode(writer.text)
    ids, starts = encoding.ids, [start for start, _ in encoding.offsets]
    size = writer.pages[0].labels[..., 0, 0].size if writer.pages else 0
    pads = [place for place, number in enumerate(ids) if number == IMAGE_PAD]
    page_starts = tuple(pads[::size]) if size else ()
    places = []
    for number, fact in enumerate(facts):
        if number in writer.values:
            first = bisect_left(starts, writer.values[number])
            places.append(tuple(range(first, first + len(fact.value))))
        else:
            page, cells = writer.cells[number]
            start = page_starts[page]
            places.append(tuple(start + cell if cell >= 0 else -1 for cell in cells))
    hops = {
        number: tuple(range(bisect_left(starts, start), bisect_left(starts, end)))
        for number, (start, end) in writer.links.items()
    }
    asked = tuple(
        Asked(
            one.key,
            one.answer,
            one.kind,
            one.fact,
            bisect_left(starts, first),
            bisect_left(starts, last),
            () if one.link is None else hops[one.link],
        )
        for one, (first, last) in zip(asking, spans, strict=True)
    )
    return Context(
        ids=ids,
        length=bisect_left(starts, length),
        pages=tuple(writer.pages),
        page_starts=page_starts,
        facts=tuple(facts),
        on_page=tuple(on_page),
        places=tuple(places),
        asked=asked,
    )
