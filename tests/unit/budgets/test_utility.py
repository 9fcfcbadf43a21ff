"""The split by measured utility, at numbers checkable by eye."""

from dataclasses import replace
from math import log, sqrt

import pytest
import torch

from flowmm.budgets.choose import OUT_OF_SIGHT
from flowmm.budgets.utility import Utility, gated, utility
from flowmm.context import LayerCache
from tests.unit.budgets.test_budgets import slots
from tests.unit.budgets.test_layer_budgets import seen
from tests.unit.plain_layers import T, V

KINDS = [T, V, V, V, T]  # pi is 3/5; the last token looks
LOOK = [[[0.0]]]  # one query head that looks at all slots alike


def looked(values, *, keys=None, queries=None, index=(4,), kinds=None, count=3, scores=None):
    """A layer of slots with values, seen by the queries of the tokens ``index``."""
    keys = keys or [[[0.0]] * len(values[0])] * len(values)
    found = seen(keys, queries or LOOK, list(index), kinds or KINDS, count=count, scores=scores)
    return replace(found, layer=type(found.layer)(**(vars(found.layer) | {"values": torch.tensor(values)})))


def test_utility_is_what_a_modality_adds_to_the_output():
    # Five slots alike: text adds (5 + 10, 0) / 5, images (0, 5 + 5 + 10) / 5; all of it is (3, 4), of length 5.
    one = looked([[[5.0, 0.0], [0.0, 5.0], [0.0, 5.0], [0.0, 10.0], [10.0, 0.0]]])
    assert utility(one).tolist() == [[pytest.approx(3 / 5)], [pytest.approx(4 / 5)]]


def test_contributions_that_cancel_are_worth_nothing_however_much_attention_they_get():
    one = looked([[[1.0, 0.0], [0.0, 5.0], [0.0, -5.0], [0.0, 0.0], [1.0, 0.0]]])
    assert utility(one).tolist() == [[1.0], [0.0]]


class FirstIsSink(LayerCache):
    @property
    def protected(self):
        return self.position == 0


def test_a_head_that_looks_at_sinks_hardly_votes():
    # Slot 0 is protected and gets 97 parts of 100, images 2, text 1; values point three ways.
    values = [[[1.0, 0, 0], [0, 0, 1.0], [0, 0, 1.0], [0, 1.0, 0]]]
    keys = [[[log(97)], [0.0], [0.0], [0.0]]]
    one = looked(values, keys=keys, queries=[[[1.0]]], index=(3,), kinds=[T, V, V, T])
    whole = sqrt(97**2 + 2**2 + 1)
    sink = replace(one, layer=FirstIsSink(**vars(one.layer)))
    assert utility(sink).flatten().tolist() == pytest.approx([1 / whole, 2 / whole], rel=1e-4)


def test_without_a_text_query_after_both_modalities_nothing_is_known():
    # Token 1 sees no image, token 3 is one.
    values = [[[1.0, 0.0]] * 4]
    one = looked(values, queries=[[[0.0], [0.0]]], index=(1, 3), kinds=[T, T, V, V])
    assert utility(one).shape == (2, 0)


def test_visual_queries_and_those_before_either_modality_do_not_look():
    # Token 0 sees no image and token 3 is one: with token 4 the answer is token 4's.
    values = [[[5.0, 0.0], [0.0, 5.0], [0.0, 5.0], [0.0, 10.0], [10.0, 0.0]]]
    alone = utility(looked(values))
    among = utility(looked(values, queries=[[[0.0], [0.0], [0.0]]], index=(0, 3, 4)))
    assert torch.equal(alone, among)


def test_the_gate_opens_fully_where_all_heads_agree():
    # p is 4 / 5, pi 1 / 2, both heads on the side of the images.
    assert gated(torch.tensor([[1.0, 1.0], [4.0, 4.0]]), 0.5, 1.0) == pytest.approx(0.8)
    assert gated(torch.tensor([[1.0, 1.0], [4.0, 4.0]]), 0.5, 0.5) == pytest.approx(0.65)


def test_the_gate_opens_by_as_much_as_heads_agree():
    # Votes 3 - 4 / 2 = 1 and 1 - 3 / 2 = -1 / 2: g is 1 / 3; p is 4 / 7.
    assert gated(torch.tensor([[1.0, 2.0], [3.0, 1.0]]), 0.5, 1.0) == pytest.approx(0.5 + (4 / 7 - 0.5) / 3)


def test_the_gate_stays_shut_where_heads_cancel_or_nothing_was_measured():
    assert gated(torch.tensor([[1.0, 3.0], [3.0, 1.0]]), 0.25, 0.0) == 0.25
    assert gated(torch.tensor([[1.0, 3.0], [3.0, 1.0]]), 0.5, 1.0) == 0.5
    assert gated(torch.zeros(2, 3), 0.3, 1.0) == 0.3
    assert gated(torch.zeros(2, 0), 0.3, 1.0) == 0.3


SCORES = [[9.0, 1.0, 2.0, 3.0, 8.0]]


@pytest.mark.parametrize(
    ("images", "kept"),
    [(0.0, [0, 4]), (0.5, [0, 3]), (9.0, [2, 3])],
    ids=["worth nothing", "worth as much", "worth all but a tenth"],
)
def test_a_layer_keeps_the_best_of_each_modality_by_its_utility(images, kept):
    # Text adds 1 in all, images so much in all: of two slots p 2 are visual.
    values = [[[0.5, 0.0], [0.0, 2 * images], [0.0, 0.0], [0.0, 0.0], [0.5, 0.0]]]
    (mask,) = Utility()([looked(values, count=2, scores=SCORES)])
    assert slots(mask) == [kept]


def test_trust_0_splits_by_the_number_of_slots():
    # Images add nothing, but are three of five slots: of two places 1.2.
    values = [[[0.5, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.5, 0.0]]]
    (mask,) = Utility(trust=0.0)([looked(values, count=2, scores=SCORES)])
    assert slots(mask) == [[0, 3]]


def test_a_context_of_one_modality_goes_by_the_scores():
    (mask,) = Utility()([looked([[[1.0, 0.0]] * 5], kinds=[T] * 5, count=2, scores=SCORES)])
    assert slots(mask) == [[0, 4]]


def test_slots_out_of_sight_count_for_no_modality_and_come_last():
    # In a window the first two slots are hidden; of two images and a text in sight, images alone are worth something.
    values = [[[9.0, 9.0], [9.0, 9.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]]
    hidden = [[OUT_OF_SIGHT, OUT_OF_SIGHT, 1.0, 2.0, 9.0]]
    for count, kept in ((2, [2, 3]), (3, [2, 3, 4]), (4, [0, 2, 3, 4])):
        one = looked(values, count=count, scores=hidden)
        one = replace(one, layer=replace(one.layer, window=3))
        (mask,) = Utility()([one])
        assert slots(mask) == [kept]
