"""What every generated kind promises: enough questions, answers at their evidence, the size that was asked for."""

import re
from collections import Counter
from importlib import import_module
from random import Random

import numpy as np
import pytest

from flowmm.bench.make import KINDS, draw
from flowmm.bench.making import badges, paper
from flowmm.bench.making.draft import Statement, image_tokens
from flowmm.bench.making.facts import Fact
from flowmm.bench.making.names import Names
from flowmm.bench.making.splits import DEV, SPLITS, TEST
from flowmm.reader import sheet
from flowmm.reader.sheet import Line

table = import_module("flowmm.bench.kinds.table")  # the package's own name "table" is the function
EACH = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
EVERY = pytest.mark.parametrize("kind", KINDS)


def texts_of(draft):
    return [block.part for block in draft.blocks if isinstance(block.part, str)]


def images_of(draft):
    return [block for block in draft.blocks if not isinstance(block.part, str)]


def names_in(text):
    return set(re.findall(r"[A-Z][a-z]+(?: [A-Z][a-z]+)?", text))


@EVERY
@EACH
@pytest.mark.parametrize("size", [1000, 2000, 4000])
def test_a_context_has_its_size_and_eight_questions(kind, split, size):
    draft = draw(kind, split, 1, size, 0)
    assert draft.tokens == pytest.approx(size, rel=0.1)
    assert len({asked.question for asked in draft.asked}) == len(draft.asked) >= 8
    assert all(block.tokens <= paper.MOST_CELLS + 2 for block in images_of(draft))
    assert all(image.part.width * image.part.height <= 200_704 for image in images_of(draft))


@EVERY
@EACH
def test_what_gives_the_answer_stands_at_its_evidence(kind, split):
    draft = draw(kind, split, 2, 1000, 0)
    for asked in draft.asked:
        for statement, place in zip(asked.shown, draft.evidence(asked), strict=True):
            part = draft.blocks[place.part].part
            if place.span is not None:
                assert part[slice(*place.span)] == statement.mark
                assert part[: place.span[0]].endswith(statement.text[: statement.text.rindex(statement.mark)])
            else:
                left, top, right, bottom = place.box
                assert 0 <= left < right <= part.width
                assert 0 <= top < bottom <= part.height
                assert np.ptp(np.asarray(part.crop(place.box).convert("L"))) > 60  # there is print
        if asked.shown and kind != "count":
            assert asked.shown[-1].mark == asked.answer


@pytest.fixture
def lines(monkeypatch):
    """Every line that is drawn on an image."""
    drawn, plain = [], sheet.draw

    def draw_and_note(face, size, lines, width, height):
        drawn.extend(lines)
        return plain(face, size, lines, width, height)

    monkeypatch.setattr(sheet, "draw", draw_and_note)
    return drawn


@EVERY
@EACH
def test_the_print_of_a_statement_is_where_its_box_is(kind, split, lines):
    for image in images_of(draw(kind, split, 2, 1000, 0)):
        for statement, (left, top, right, bottom) in image.places.items():
            (line,) = (line for line in lines if line.text == statement.text)
            assert top < line.baseline < bottom
            assert line.x < right
            assert line.x > left or statement.text != statement.mark


@EVERY
@EACH
def test_no_two_marks_of_an_image_overlap(kind, split):
    for block in images_of(draw(kind, split, 3, 2000, 0)):
        boxes = list(block.places.values())
        for number, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[:number]:
                apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
                assert apart, (boxes[number], other)


@EACH
def test_the_mark_of_a_line_is_drawn_within_its_box(split):
    for seed in range(6):
        page = paper.new_paper(Random(seed), split, 150)
        line = Line("The code of Lufe is QW5J.", page.margin, page.top)
        without = Line("The code of Lufe is ", page.margin, page.top)
        only = Line("QW5J", page.margin + page.length(without.text), page.top)
        full, rest, mark = (np.asarray(paper.printed(paper.blank(page), page, [x])) for x in (line, without, only))
        ys, xs = np.nonzero((mark != np.asarray(paper.blank(page))).any(axis=2))
        left, top, right, bottom = paper.mark_box(page, line, "QW5J")
        assert left <= xs.min()
        assert xs.max() < right
        assert top <= ys.min()
        assert ys.max() < bottom
        assert (full != rest).any()


@EACH
def test_a_badge_shows_its_colour_and_its_code(split):
    drawn = [badges.Badge(colour, f"A{n}B") for n, colour in enumerate(split.shades)]
    block = badges.board(Random(0), split, drawn, 4)
    for badge in drawn:
        box = block.places[badge.statement]
        pixels = Counter(block.part.crop(box).get_flattened_data())
        assert pixels.most_common(1)[0][0] == split.shades[badge.colour]
        levels = np.asarray(block.part.crop(box).convert("L"))[3:-3, 3:-3]
        assert np.ptp(levels) > 80


@pytest.mark.parametrize("size", [1000, 2000])
@EACH
def test_cross_cannot_be_answered_from_one_modality(split, size):
    draft = draw("cross", split, 0, size, 0)
    text = " ".join(texts_of(draft))
    boxes = [statement.mark for image in images_of(draft) for statement in image.places]
    assert len(boxes) == len(set(boxes)) == 10  # a blind guess among them is right one time in ten
    for asked in draft.asked:
        (name,) = re.findall(r"What is the badge code of (\w+)\?", asked.question)
        wears, shows = asked.shown
        assert wears.text == f"{name} wears the {wears.mark} badge."
        assert asked.answer not in text  # the text has no code
        assert shows.text == asked.answer  # the image has no name: its print is the code alone
        assert [name in block.part for block in draft.blocks if isinstance(block.part, str)].count(True) == 1
    assert Counter(re.findall(r"wears the (\w+) badge", text)) == dict.fromkeys(split.shades, 1)


@EACH
def test_chain_takes_two_hops(split):
    for asked in draw("chain", split, 0, 1000, 0).asked:
        first, second = asked.shown
        assert asked.question == f"What is the code of the keeper of {first.text.split()[3]}?"
        assert first.text.endswith(f"is {first.mark}.")
        assert second.text == f"{first.mark}: {asked.answer}."


@EACH
@pytest.mark.parametrize("size", [1000, 4000])
def test_counts_are_those_of_what_is_there(split, size):
    draft = draw("count", split, 0, size, 0)
    text = " ".join(texts_of(draft))
    for asked in draft.asked:
        assert int(asked.answer) == len(asked.shown) == len(set(asked.shown)) > 0
    (facts,) = (asked for asked in draft.asked if asked.question == "How many facts are there?")
    in_text = len(re.findall(r"[A-Z][a-z]+: \w+\.|The code of", text))
    on_pages = [s for image in images_of(draft) for s in image.places if s.text != s.mark]
    assert int(facts.answer) == in_text + len(on_pages)
    on_boards = [s for image in images_of(draft) for s in image.places if s.text == s.mark]
    assert sum(int(asked.answer) for asked in draft.asked) - int(facts.answer) == len(on_boards)


@EACH
def test_each_twin_has_two_that_differ_in_one_letter(split):
    draft = draw("twins", split, 0, 1000, 0)
    statements = [s.text for block in draft.blocks for s in block.places]
    keys = [re.search(r"^(?:The code of )?(\w+)(?: is|:)", text)[1] for text in statements]
    assert len(set(keys)) == len(keys) == 12
    for key in keys:
        near = [k for k in keys if len(k) == len(key) and sum(a != b for a, b in zip(k, key, strict=True)) == 1]
        assert near, key


@EACH
def test_absent_keys_are_nowhere_and_half_nearly_equal_one_that_is_there(split):
    draft = draw("absent", split, 0, 1000, 0)
    stated = " ".join(s.text for block in draft.blocks for s in block.places)
    there = names_in(stated) | names_in(" ".join(texts_of(draft)))
    asked = [re.fullmatch(r"What is the code of (.+)\?", a.question)[1] for a in draft.asked]
    near = 0
    for key in asked:
        assert not {key, *key.split()} & {word for name in there for word in (name, *name.split())}
        near += any(len(n) == len(key) and sum(a != b for a, b in zip(n, key, strict=True)) == 1 for n in there)
    assert near >= 4
    assert {a.answer for a in draft.asked} == {"not stated"}


@EACH
def test_a_table_is_asked_about_by_column_and_row(split):
    draft = draw("table", split, 0, 1000, 0)
    asked = [re.fullmatch(r"What is the (\w+) of (\w+)\?", a.question).groups() for a in draft.asked]
    assert all(column in split.words.columns for column, _ in asked)
    assert len(asked) == len(set(asked))
    assert not any(name in text for _, name in asked for text in texts_of(draft))


@EACH
def test_a_cell_stands_under_its_column_and_beside_its_row(split, monkeypatch):
    tables, plain = [], table.printed

    def print_and_note(image, sheet, lines):
        tables.append({line.text: line for line in lines})
        return plain(image, sheet, lines)

    monkeypatch.setattr(table, "printed", print_and_note)
    for asked in draw("table", split, 0, 1000, 0).asked:
        column, row = re.fullmatch(r"What is the (\w+) of (\w+)\?", asked.question).groups()
        (drawn,) = (lines for lines in tables if row in lines)
        assert drawn[asked.answer].x == drawn[column].x
        assert drawn[asked.answer].baseline == drawn[row].baseline


@EACH
def test_dense_has_nothing_but_facts(split):
    draft = draw("dense", split, 0, 1000, 0)
    for text in texts_of(draft):
        lines = re.sub(r"(?<=\.)\s+", "\n", text).strip().split("\n")
        assert all(re.fullmatch(r"The code of [A-Z][\w ]+ is \w+\.|[A-Z][\w ]+: \w+\.", line) for line in lines)
    assert sum(len(block.places) for block in draft.blocks) > 50


@EACH
def test_pages_are_four_to_eight_and_some_are_screenshots(split):
    for size, number in ((1000, 4), (4000, 8)):
        images = images_of(draw("pages", split, 0, size, 0))
        assert len(images) == number
        bars = [image.part.getpixel((image.part.width // 2, 4)) == split.bar for image in images]
        assert 1 <= sum(bars) < number


def test_values_and_names_keep_to_the_readers_language():
    names = Names(Random(0), TEST)
    values = [names.value() for _ in range(400)]
    assert all(re.fullmatch(r"[A-Z0-9]{2,8}", value) and not re.search("[IO]", value) for value in values)
    assert not any(value.isdigit() and len(value) < 3 for value in values)
    keys = [names.key() for _ in range(200)]
    assert all(re.fullmatch(r"[A-Z][a-z]{2,9}( [A-Z][a-z]{2,9})?", key) for key in keys)
    assert len({*values, *keys}) == 600


def test_twins_are_never_told_apart_by_letters_that_look_alike():
    names = Names(Random(1), DEV)
    for _ in range(30):
        first, *others = (key.lower() for key in names.family(3))
        for other in others:
            (pair,) = [{a, b} for a, b in zip(first, other, strict=True) if a != b]
            assert not pair <= set("ilj")


def test_a_fact_asks_for_its_value():
    asked = Fact("Lufe", "5000", Statement("Lufe: 5000.", "5000")).asked
    assert (asked.question, asked.answer) == ("What is the code of Lufe?", "5000")


def test_tokens_are_those_that_the_reader_counts():
    from flowmm.hf.loading import load_model
    from flowmm.hf.prompt import context_prompt
    from flowmm.records import Part, Source

    loaded = load_model("flowmm/reader", device="cpu")
    for split, kind in ((DEV, "count"), (TEST, "pages")):
        draft = draw(kind, split, 0, 1000, 0)
        parts = [
            Part("text" if isinstance(block.part, str) else "image", block.part, Source("a", "0", "text"))
            for block in draft.blocks
        ]
        assert int(context_prompt(parts, loaded).modality.shape[0]) == draft.tokens


def test_an_image_is_as_many_tokens_as_cells_of_28_pixels_and_two_around_it():
    assert image_tokens(10 * 28 + 13, 5 * 28 - 13) == 52
