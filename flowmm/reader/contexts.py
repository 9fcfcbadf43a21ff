"""Draws one training context: text and page segments that hold facts, then questions with their answers.

The context is written as the very string that inference sees (see ``tokens.TEMPLATE``), so the training has no layout
of its own.
"""

from bisect import bisect_left
from dataclasses import dataclass
from random import Random

from flowmm.reader import language
from flowmm.reader.language import Fact, Link
from flowmm.reader.layouts import ABSENT, COUNT, IMAGE, LINKED, LIST, REPEAT, TABLE, TEXT, TOLD, Layout
from flowmm.reader.pages import Page
from flowmm.reader.tokens import IMAGE_PAD, tokenizer
from flowmm.reader.vocabulary import COLOURS
from flowmm.reader.writer import Writer

_TOLD_TOO = 0.2  # of the statements that lead on are asked about for what they say themselves
_OF_A_COLOUR = 3.5  # badges that are counted, on average
_START, _REPEATED = 3, 12  # words that a repetition starts from, and that it has at most


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
    column: str = "code"
    counted: tuple[int, ...] = ()  # facts


@dataclass(frozen=True)
class Context:
    """A tokenized context with its questions.

    ``places[fact][i]`` is the token that shows the i-th character of the fact's value (-1: off the page);
    ``heads[fact]`` are the tokens of the header above it, where it stands in a table; ``length`` counts the tokens
    before the first question.
    """

    ids: list[int]
    length: int
    pages: tuple[Page, ...]
    page_starts: tuple[int, ...]
    facts: tuple[Fact, ...]
    on_page: tuple[bool, ...]
    places: tuple[tuple[int, ...], ...]
    heads: tuple[tuple[int, ...], ...]
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
    column: str = "code"
    counted: tuple[int, ...] = ()


def _facts(rng: Random, layout: Layout, held_out: bool) -> tuple[list[Fact], list[str]]:
    """The facts of all segments, in their order, and keys that are in none."""
    number = sum(segment.facts // max(1, segment.values) for segment in layout.segments if not segment.badges)
    columns = sum(segment.values for segment in layout.segments)
    wanted = number + columns + layout.absent + layout.links
    keys = language.draw_keys(rng, wanted, held_out=held_out, longest=layout.longest, near=layout.near)
    rng.shuffle(keys)
    facts: list[Fact] = []
    colours = rng.sample(COLOURS, len(COLOURS))
    badges = sum(segment.facts for segment in layout.segments if segment.badges)
    counted = colours[: max(2, min(8, round(badges / _OF_A_COLOUR)))]  # so that no number is said blindly
    for segment in layout.segments:
        if segment.badges:
            # Only badges that are counted have colours in common.
            names = [rng.choice(counted) if layout.count else colours.pop() for _ in range(segment.facts)]
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
    asked = [
        _Asking(language.worded(rng, facts[i]), facts[i].key, facts[i].value, kinds[i], i, column=facts[i].column)
        for i in chosen
    ]
    asked += [
        _Asking(link.question, link.subject, facts[i].value, LINKED, i, number)
        for number, (link, i) in enumerate(links)
    ]
    for link, _ in links:
        if rng.random() < _TOLD_TOO:
            asked.append(_Asking(f"What is {link.subject}?", link.subject, link.target, TOLD))
    for key in spare:
        kind, column = rng.choice(kinds), "code"
        if links and rng.random() < 0.5:
            question = Link(key, "", links[0][0].badge).question
        else:
            if kind == TABLE:
                column = rng.choice([fact.column for fact in facts if fact.column != "code"])
            question = language.worded(rng, Fact(key, "", column))
        asked.append(_Asking(question, key, language.ABSENT, ABSENT, column=column))
    if layout.count and LINKED in kinds:
        badges = [i for i, kind in enumerate(kinds) if kind == LINKED]
        for colour in dict.fromkeys(facts[i].key for i in badges):
            counted = tuple(i for i in badges if facts[i].key == colour)
            question = f"How many {colour} badges are there?"
            asked.append(_Asking(question, "", str(len(counted)), COUNT, counted=counted))
    counted = tuple(i for i, kind in enumerate(kinds) if kind in (TEXT, IMAGE))
    if layout.count and counted:
        asked.append(_Asking("How many facts are there?", "", str(len(counted)), COUNT, counted=counted))
    rng.shuffle(asked)
    return asked


def draw_context(rng: Random, layout: Layout, *, held_out: bool = False) -> Context:
    """Draw a context of ``layout``; ``held_out`` takes its keys from the bucket that training never sees."""
    facts, spare = _facts(rng, layout, held_out)
    kinds = [segment.kind for segment in layout.segments for _ in range(segment.facts)]
    links = _links(rng, layout, facts, kinds, spare[layout.absent :])
    told = _told(rng, layout, len(links))
    writer, taken = Writer(), 0
    numbered = list(enumerate(facts))
    for place, segment in enumerate(layout.segments):
        part = numbered[taken : taken + segment.facts]
        taken += segment.facts
        here = [(i, links[i][0]) for i, where in enumerate(told) if where == place]
        if segment.page:
            writer.write_image(rng, layout, segment, part, here)
        else:
            writer.write_text(rng, layout, part, segment.fillers, here)
    length = len(writer.text)
    asked, spans = _questions(rng, layout, facts, kinds, links, spare[: layout.absent]), []
    if layout.listed:
        keys = dict.fromkeys(facts[number].key for number in writer.order)
        asked.append(_Asking("List the keys.", "", ", ".join(keys), LIST))
    asked += _repeats(rng, layout, writer)
    for one in asked:
        writer.text += f"\n{one.question}<|im_end|>"
        first = len(writer.text)
        writer.text += one.answer
        spans.append((first, len(writer.text)))
        writer.text += "<|endoftext|>"
    return _tokenize(writer, length, facts, [kind != TEXT for kind in kinds], asked, spans)


def _repeats(rng: Random, layout: Layout, writer: Writer) -> list[_Asking]:
    """Requests to repeat: the words that follow some words of the text, which stand there once, or the only page."""
    if not layout.repeated:
        return []
    if len(writer.pages) == 1:
        return [_Asking("Transcribe the page.", "", "\n".join(writer.pages[0].texts), REPEAT)]
    starts = [0, *(place + 1 for place, letter in enumerate(writer.text) if letter in " \n")]
    found = []
    for first in rng.sample(range(1, len(starts) - _START - 1), min(layout.repeated, len(starts) - _START - 2)):
        end = min(first + _START + _REPEATED, len(starts) - 1)
        start = writer.text[starts[first] : starts[first + _START]].strip()
        rest = writer.text[starts[first + _START] : starts[end]].strip()
        if "\n" not in start and writer.text.count(start) == 1 and rest:
            found.append(_Asking(f"Repeat the text. {start}", "", rest, REPEAT))
    return found


def _told(rng: Random, layout: Layout, links: int) -> list[int]:
    """The segments that hold the statements that lead on; a page of lines takes at most two of them."""
    texts = [place for place, segment in enumerate(layout.segments) if not segment.page]
    pages = [place for place, segment in enumerate(layout.segments) if segment.kind == IMAGE] * 2
    rng.shuffle(pages)
    told = []
    for _ in range(links):
        pictured = pages and (not texts or rng.random() < layout.pictured)
        told.append(pages.pop() if pictured else rng.choice(texts))
    return told


def _tokenize(
    writer: Writer,
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
    places: list[tuple[int, ...]] = []
    heads: list[tuple[int, ...]] = []
    for number, fact in enumerate(facts):
        if number in writer.values:
            first = bisect_left(starts, writer.values[number])
            places.append(tuple(range(first, first + len(fact.value))))
            heads.append(())
        else:
            page, cells = writer.cells[number]
            start = page_starts[page]
            places.append(tuple(start + cell if cell >= 0 else -1 for cell in cells))
            heads.append(tuple(start + cell for cell in dict.fromkeys(writer.heads.get(number, ())) if cell >= 0))
    hops = {
        number: tuple(range(bisect_left(starts, start), bisect_left(starts, end)))
        for number, (start, end) in writer.links.items()
    }
    for number, (page, cells) in writer.pictured.items():
        hops[number] = tuple(page_starts[page] + cell for cell in dict.fromkeys(cells) if cell >= 0)
    asked = tuple(
        Asked(
            one.key,
            one.answer,
            one.kind,
            one.fact,
            bisect_left(starts, first),
            bisect_left(starts, last),
            () if one.link is None else hops[one.link],
            one.column,
            one.counted,
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
        heads=tuple(heads),
        asked=asked,
    )
