from random import Random

import numpy as np

from flowmm.reader import fonts, tokens
from flowmm.reader.batches import collate, key_letters, value_letters
from flowmm.reader.contexts import Context, Layout, Segment, draw_context
from flowmm.reader.language import ABSENT, is_held_out
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
    known = batch.look_from >= 0
    assert batch.look_at[known].any(axis=-1).all()
    assert not batch.look_at[~known].any()


def test_letters_become_classes():
    assert key_letters("Ab C") == [1, 2, 27, 3] + [0] * 8
    assert value_letters("A9Z0") == [1, 36, 26, 27, 0, 0, 0, 0]
    assert max(np.array([value_letters("Z9")]).reshape(-1)) == 36
