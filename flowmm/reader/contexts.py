"""Draws one training context: text and page segments that hold facts, then questions with their answers.

The context is written as the very string that inference sees (see ``tokens.TEMPLATE``), so the training has no layout
of its own.
"""

from bisect import bisect_left
from dataclasses import dataclass
from random import Random
from textwrap import wrap

from flowmm.reader import language
from flowmm.reader.language import Fact
from flowmm.reader.pages import Page, PageStyle, draw_page
from flowmm.reader.tokens import IMAGE_PAD, tokenizer

TEXT, IMAGE, ABSENT = "text", "image", "absent"

_PAD = "<|image_pad|>"


@dataclass(frozen=True)
class Segment:
    """A text part, or a page where ``page``, with so many facts and filler sentences."""

    facts: int
    fillers: int = 0
    page: bool = False


@dataclass(frozen=True)
class Layout:
    """What the contexts of one batch have in common."""

    segments: tuple[Segment, ...]
    questions: int  # about facts of the context; at most half of them, or elimination is learnt
    absent: int = 0  # about keys the context does not hold
    near: float = 0.0  # share of keys that nearly equal another one
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


class _Writer:
    """Collects the string and remembers where values stand in it."""

    def __init__(self) -> None:
        self.text = "<|im_start|>"
        self.values: dict[int, int] = {}  # fact -> character offset of its value
        self.cells: dict[int, tuple[int, tuple[int, ...]]] = {}  # fact -> page, cells of its value
        self.pages: list[Page] = []

    def write_text(self, rng: Random, facts: list[tuple[int, Fact]], fillers: int) -> None:
        style = rng.choice(("lines", "running", "running", "wrapped"))
        items: list[tuple[int, Fact | None]] = [*facts, *[(-1, None)] * fillers]
        rng.shuffle(items)
        width = rng.randint(24, 60)
        for place, (number, fact) in enumerate(items):
            if fact is None:
                text = language.sentence(rng)
                self.text += "\n".join(wrap(text, width)) if style == "wrapped" else text
            else:
                text = language.state(rng, fact, line=style != "running")
                self.values[number] = len(self.text) + text.rindex(fact.value)
                self.text += text
            if place < len(items) - 1:
                self.text += " " if style == "running" and rng.random() > 0.12 else "\n"
                self.text += "\n" if self.text[-1] == "\n" and rng.random() < 0.1 else ""
        self.text += "\n"

    def write_page(self, rng: Random, layout: Layout, facts: list[tuple[int, Fact]], fillers: int) -> None:
        assert layout.style is not None  # a layout with pages has a style
        roomy = layout.columns >= 12
        items = [
            (number, language.state(rng, fact, line=True, sentences=roomy), fact.value) for number, fact in facts
        ] + [(-1, language.sentence(rng), "") for _ in range(fillers)]
        rng.shuffle(items)
        texts = [(text, number >= 0) for number, text, _ in items]
        page = draw_page(rng, layout.style, texts, layout.rows, layout.columns)
        for (number, text, value), cells in zip(items, page.cells, strict=True):
            if number >= 0:
                start = text.rindex(value)
                self.cells[number] = (len(self.pages), cells[start : start + len(value)])
        self.pages.append(page)
        self.text += "<|vision_start|>" + _PAD * (layout.rows * layout.columns) + "<|vision_end|>"


def _questions(
    rng: Random, layout: Layout, facts: list[Fact], on_page: list[bool], spare: list[str]
) -> list[tuple[str, str, str, int | None]]:
    """Key, answer, kind and fact of each question, in random order."""
    chosen = rng.sample(range(len(facts)), layout.questions)
    present: list[tuple[str, str, str, int | None]] = [
        (facts[i].key, facts[i].value, IMAGE if on_page[i] else TEXT, i) for i in chosen
    ]
    missing: list[tuple[str, str, str, int | None]] = [(key, language.ABSENT, ABSENT, None) for key in spare]
    asked = present + missing
    rng.shuffle(asked)
    return asked


def draw_context(rng: Random, layout: Layout, *, held_out: bool = False) -> Context:
    """Draw a context of ``layout``; ``held_out`` takes its keys from the bucket that training never sees."""
    number = sum(segment.facts for segment in layout.segments)
    keys = language.draw_keys(rng, number + layout.absent, held_out=held_out, longest=layout.longest, near=layout.near)
    rng.shuffle(keys)
    facts = [Fact(key, language.draw_value(rng, plain=layout.plain)) for key in keys[:number]]
    numbered, on_page = list(enumerate(facts)), []
    writer, taken = _Writer(), 0
    for segment in layout.segments:
        part = numbered[taken : taken + segment.facts]
        taken += segment.facts
        on_page += [segment.page] * segment.facts
        if segment.page:
            writer.write_page(rng, layout, part, segment.fillers)
        else:
            writer.write_text(rng, part, segment.fillers)
    length = len(writer.text)
    answers = []
    for key, answer, kind, fact in _questions(rng, layout, facts, on_page, keys[number:]):
        writer.text += f"\n{Fact(key, answer).question}<|im_end|>"
        first = len(writer.text)
        writer.text += answer
        answers.append((key, answer, kind, fact, first, len(writer.text)))
        writer.text += "<|endoftext|>"
    return _tokenize(writer, length, facts, on_page, answers)


def _tokenize(
    writer: _Writer,
    length: int,
    facts: list[Fact],
    on_page: list[bool],
    answers: list[tuple[str, str, str, int | None, int, int]],
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
    asked = tuple(
        Asked(key, answer, kind, fact, bisect_left(starts, first), bisect_left(starts, last))
        for key, answer, kind, fact, first, last in answers
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
