from random import Random

import numpy as np

from flowmm.reader import fonts, tokens
from flowmm.reader.batches import KEY_LETTERS, Look, collate, draw_batch, key_letters, value_letters
from flowmm.reader.contexts import Context, draw_context
from flowmm.reader.language import ABSENT, is_held_out
from flowmm.reader.layouts import Layout, Segment
from flowmm.reader.pages import PageStyle

LAYOUT = Layout(
    (Segment(6, 3), Segment(3, 1, page=True), Segment(4, 2), Segment(3, 1, page=True)),
    questions=8,
    absent=2,
    near=0.3,
    rows=7,
    columns=10,
    style=PageStyle(fonts.standard()),
)


def text_of(context: Context, ids: list[int]) -> str:
    return tokens.tokenizer().decode(ids, skip_special_tokens=False)


def _seen(look: Look, place: int) -> list[int]:
    """What a place of the only context of a batch should look at."""
    return [int(at) for at in np.flatnonzero(look.target[0, list(look.source[0]).index(place)])]


def test_answers_are_the_values_and_end_with_the_end_token():
    context = draw_context(Random(0), LAYOUT)
    facts = {fact.key: fact.value for fact in context.facts}
    for asked in context.asked:
        assert text_of(context, context.ids[asked.first : asked.last]) == facts.get(asked.key, ABSENT)
        assert context.ids[asked.last] == tokens.END


def test_places_show_the_value():
    context = draw_context(Random(1), LAYOUT)
    for fact, on_page, places in zip(context.facts, context.on_page, context.places, strict=True):
        assert len(places) == len(fact.value)
        shown = [context.ids[place] for place in places]
        if on_page:
            assert set(shown) == {tokens.IMAGE_PAD}
        else:
            assert text_of(context, shown) == fact.value


def test_a_context_begins_and_goes_on_as_the_chat_template_writes_it():
    context = draw_context(Random(2), LAYOUT)
    text = text_of(context, context.ids)
    question = next(iter(context.asked)).key
    assert text.startswith("<|im_start|>")
    assert text[: text.index("What is")].endswith("<|vision_end|>\n")
    assert f"\nWhat is the code of {question}?<|im_end|>" in text
    assert context.ids[context.length] == tokens.tokenizer().token_to_id("Ċ")


def test_held_out_contexts_hold_only_held_out_keys():
    context = draw_context(Random(3), LAYOUT, held_out=True)
    assert all(is_held_out(fact.key) for fact in context.facts)
    assert all(is_held_out(asked.key) for asked in context.asked)


def test_the_same_seed_draws_the_same_context():
    first, second = (draw_context(Random(4), LAYOUT) for _ in range(2))
    assert first.ids == second.ids
    assert all((a.pixels == b.pixels).all() for a, b in zip(first.pages, second.pages, strict=True))


def test_a_batch_points_at_its_answers_and_pages():
    contexts = [draw_context(Random(seed), LAYOUT) for seed in (5, 6)]
    batch = collate(contexts, LAYOUT)
    flat = batch.ids.reshape(-1)
    assert (flat[batch.predicts + 1] == batch.targets).all()
    assert (flat[batch.pads] == tokens.IMAGE_PAD).all()
    assert batch.pixels.shape == (4, 7 * 28, 10 * 28, 3)
    assert (batch.named[-len(batch.cells) :] == batch.pads[batch.cells]).all()
    look = batch.looks["value"]
    known = look.source >= 0
    assert look.target[known].any(axis=-1).all()
    assert not look.target[~known].any()


def test_letters_become_classes():
    assert key_letters("Ab C") == [1, 2, 27, 3] + [0] * 8
    assert value_letters("A9Z0") == [1, 36, 26, 27, 0, 0, 0, 0]
    assert max(np.array([value_letters("Z9")]).reshape(-1)) == 36


BADGES = Layout(
    (Segment(2, 1), Segment(4, page=True, badges=True)),
    1,
    1,
    links=3,
    rows=6,
    columns=10,
    style=PageStyle(fonts.standard()),
)


def test_a_badge_question_leads_over_the_colour_to_the_code_on_the_image():
    context = draw_context(Random(7), BADGES)
    text = text_of(context, context.ids)
    linked = [asked for asked in context.asked if asked.kind == "linked"]
    assert len(linked) == 3
    for asked in linked:
        assert asked.fact is not None
        fact = context.facts[asked.fact]
        assert asked.answer == fact.value
        assert text_of(context, [context.ids[place] for place in asked.hop]).strip() == fact.key
        assert f"{asked.key} wears the {fact.key} badge." in text
        assert f"What is the badge code of {asked.key}?" in text
        assert {context.ids[place] for place in context.places[asked.fact]} == {tokens.IMAGE_PAD}


def test_a_chain_leads_over_the_keeper_to_a_fact():
    context = draw_context(Random(8), Layout((Segment(5, 2),), 2, 1, links=2))
    for asked in [asked for asked in context.asked if asked.kind == "linked"]:
        assert asked.fact is not None
        keeper = context.facts[asked.fact].key
        assert f"The keeper of {asked.key} is {keeper}." in text_of(context, context.ids)
        assert text_of(context, [context.ids[place] for place in asked.hop]).strip() == f"{keeper}."


def test_a_table_is_asked_by_row_and_column():
    layout = Layout((Segment(6, page=True, values=2),), 3, rows=7, columns=12, style=PageStyle(fonts.standard()))
    context = draw_context(Random(9), layout)
    values = {(fact.column, fact.key): fact.value for fact in context.facts}
    assert len(values) == 6
    assert len({fact.column for fact in context.facts}) == 2
    for asked in context.asked:
        assert asked.fact is not None
        fact = context.facts[asked.fact]
        assert f"What is the {fact.column} of {fact.key}?" in text_of(context, context.ids)
        assert asked.answer == values[fact.column, fact.key]


def test_facts_are_counted_and_listed_from_the_top_down():
    context = draw_context(Random(10), Layout((Segment(4, 2), Segment(3)), 1, count=True, listed=True))
    answers = {asked.kind: asked.answer for asked in context.asked}
    text = text_of(context, context.ids[: context.length])
    assert answers["count"] == "7"
    listed = answers["list"].split(", ")
    assert sorted(listed) == sorted(fact.key for fact in context.facts)
    assert [text.index(key) for key in listed] == sorted(text.index(key) for key in listed)


def test_a_place_looks_at_the_statement_that_leads_on_and_then_at_the_value():
    contexts = [draw_context(Random(11), BADGES)]
    batch = collate(contexts, BADGES)
    asked = next(one for one in contexts[0].asked if one.hop)
    assert asked.fact is not None
    assert _seen(batch.looks["value"], asked.first - 1) == list(asked.hop)
    assert _seen(batch.looks["then"], asked.first - 1) == [contexts[0].places[asked.fact][0]]
    row = batch.led.tolist().index(asked.first - 1)
    assert batch.led_to[row].tolist() == key_letters(contexts[0].facts[asked.fact].key)


def test_badges_of_a_colour_are_counted():
    layout = Layout(
        (Segment(8, page=True, badges=True),), 0, count=True, rows=8, columns=12, style=PageStyle(fonts.standard())
    )
    for seed in range(5):
        context = draw_context(Random(seed), layout)
        asked = text_of(context, context.ids).split("How many ")[1:]
        assert len(asked) == len(context.asked) == len({fact.key for fact in context.facts})
        look = collate([context], layout).looks["count"]
        for text, one in zip(asked, context.asked, strict=True):
            assert one.answer == str(sum(fact.key == text.split(" ")[0] for fact in context.facts))
            assert [context.facts[i].key for i in one.counted] == [text.split(" ")[0]] * int(one.answer)
            assert _seen(look, one.first - 1) == [0, *sorted(context.places[i][0] for i in one.counted)]


def test_values_of_a_table_look_at_the_header_above_them():
    layout = Layout((Segment(6, page=True, values=2),), 1, rows=6, columns=12, style=PageStyle(fonts.standard()))
    context = draw_context(Random(3), layout)
    batch = collate([context], layout)
    (start,) = context.page_starts
    for fact, places, heads in zip(context.facts, context.places, context.heads, strict=True):
        assert min(heads) < start + 2 * 12  # the header is the first line
        assert heads[0] % 12 in range(places[0] % 12 - 1, places[0] % 12 + 2)  # in its column
        assert _seen(batch.looks["above"], places[0]) == sorted(heads)
        same = [other for other in context.facts if other.column == fact.column]
        assert len({context.heads[context.facts.index(other)] for other in same}) == 1


def test_strange_sentences_hold_words_that_are_spelled():
    context = draw_context(Random(12), Layout((Segment(1, 30),), 0, strange=1.0))
    plain = draw_context(Random(12), Layout((Segment(1, 30),), 0))
    assert len(context.ids) > 1.5 * len(plain.ids)


def test_two_cells_of_a_row_have_names_that_differ_in_the_column_only():
    layout = Layout((Segment(4, page=True, values=2),), 2, 1, rows=5, columns=12, style=PageStyle(fonts.standard()))
    batch = draw_batch(Random(4), layout, 1)
    cells = batch.names[len(batch.names) - len(batch.cells) :]
    keys, columns = ({tuple(row) for row in part} for part in (cells[:, :KEY_LETTERS], cells[:, KEY_LETTERS:]))
    assert (len(keys), len(columns), len({tuple(row) for row in cells})) == (2, 2, 4)
    assert tuple(key_letters("code")) not in columns


def test_a_text_is_repeated_from_words_that_stand_in_it_once():
    for seed in range(5):
        context = draw_context(Random(seed), Layout((Segment(4, 6),), 0, repeated=4))
        text = text_of(context, context.ids[: context.length])
        whole = text_of(context, context.ids)
        assert context.asked
        for one in context.asked:
            before = whole[: whole.index(f"<|im_end|>{one.answer}<|endoftext|>")]
            start = before.rsplit("Repeat the text. ", 1)[1]
            assert text.count(start) == 1
            assert text.split(start)[1].lstrip().startswith(one.answer)


def test_a_page_is_transcribed_as_it_is_shown():
    layout = Layout((Segment(2, 1, page=True),), 0, repeated=1, rows=6, columns=12, style=PageStyle(fonts.standard()))
    context = draw_context(Random(1), layout)
    (asked,) = context.asked
    assert len(asked.answer.split("\n")) == 3
    for fact in context.facts:
        assert f"{fact.key}: {fact.value}" in asked.answer or f"code of {fact.key} is {fact.value}" in asked.answer
