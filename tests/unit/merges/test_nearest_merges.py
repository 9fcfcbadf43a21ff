"""Merging into the nearest kept key, on keys of two numbers."""

from dataclasses import replace
from math import e, exp, log

import pytest
import torch

from flowmm.errors import UsageError
from flowmm.merges.d2o import D2O
from flowmm.merges.mass_fold import MassFold
from flowmm.merges.nearest import Mean, Pivotal
from tests.unit.merges.test_merges import FIVE, SCORES, selection
from tests.unit.plain_layers import layer


def test_mean_is_of_the_pivot_and_all_that_are_nearest_to_it():
    small, merged = Mean()(selection())
    assert small.keys[0].tolist() == [pytest.approx([6 / 3, 0.2 / 3]), pytest.approx([0.05, 1.5])]
    assert torch.equal(small.keys, small.values)
    assert merged == 3


def test_pivotal_goes_half_way():
    small, _ = Pivotal()(selection())
    assert small.keys[0, :, 0].tolist() == pytest.approx([(2 + 3 / 2 + 5 / 2) / 3, (0 + 0.1 / 2) / 2])


def test_sensitivity_and_modality_do_not_matter():
    by_flow = selection(strategy=None, tau=0.0)
    assert torch.equal(Mean()(by_flow)[0].keys, Mean()(selection())[0].keys)


def test_protected_slots_neither_give_nor_receive():
    small, merged = Mean()(selection(protected=[0, 3]))
    assert small.keys[0, 0].tolist() == [2.0, 0.0]
    assert merged == 2


# Slot 0 is kept; slot 1 has a cosine of 1 to it, slot 2 one of 0.6: their mean is 0.8.
THREE = layer([[[2.0, 0.0], [1.0, 0.0], [0.6, 0.8]]])


def test_d2o_merges_what_is_at_least_as_similar_as_the_mean():
    small, merged = D2O()(selection(THREE, [[1.0, 0.0, 0.0]], kept=((0,),)))
    assert small.keys[0, 0].tolist() == pytest.approx([(e * 2 + e * 1) / (2 * e), 0.0])
    assert merged == 1


def test_d2o_weighs_by_the_exponential_of_the_cosine():
    # Two heads would have thresholds of their own; here both slots have the same cosine, so both join.
    same = layer([[[2.0, 0.0], [0.6, 0.8], [0.6, 0.8]]])
    small, merged = D2O()(selection(same, [[1.0, 0.0, 0.0]], kept=((0,),)))
    weight = exp(0.6)
    assert merged == 2
    assert small.keys[0, 0].tolist() == pytest.approx(
        [(e * 2 + 2 * weight * 0.6) / (e + 2 * weight), 2 * weight * 0.8 / (e + 2 * weight)]
    )


def test_d2o_with_nothing_evicted_changes_nothing():
    small, merged = D2O()(selection(kept=((0, 1, 2, 3, 4),)))
    assert torch.equal(small.keys, FIVE.keys)
    assert merged == 0


def test_mass_fold_leaves_keys_and_moves_values_and_bias():
    # Slots 2 and 3 (scores 0.1, 0.2) join pivot 0 (0.3); slot 4 (0.1) joins pivot 1 (0.4).
    small, merged = MassFold()(selection())
    assert small.keys[0].tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert small.values[0, 0].tolist() == pytest.approx([(0.6 + 0.1 + 0.6) / 0.6, (0.01 + 0.02) / 0.6])
    assert small.bias is not None
    assert small.bias[0].tolist() == pytest.approx([log(0.6 / 0.3), log(0.5 / 0.4)])
    assert merged == 3


def test_mass_fold_can_count():
    small, _ = MassFold(weight="count")(selection())
    assert small.values[0, 0].tolist() == pytest.approx([2.0, 0.2 / 3])
    assert small.bias is not None
    assert small.bias[0].tolist() == pytest.approx([log(3), log(2)])


def test_mass_fold_gives_the_same_output_for_the_attention_it_was_weighed_by():
    keys = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.7]]
    values = [[1.0, 2.0], [3.0, 5.0], [-1.0, 4.0], [2.0, 2.0]]
    full, query = layer([keys], values=[values]), torch.tensor([0.3, -0.4])
    attention = (full.keys @ query).softmax(-1)
    small, _ = MassFold()(selection(full, attention.tolist(), kept=((0, 2),)))
    found = (small.keys @ query + small.bias).softmax(-1)[:, None] @ small.values
    assert torch.allclose(found, attention[:, None] @ full.values, atol=1e-6)


def test_mass_fold_adds_to_a_bias_up_to_its_limit():
    before = replace(FIVE, bias=torch.tensor([[log(2), 0.0, 0.0, 0.0, 0.0]]))
    small, _ = MassFold(limit=0.5)(selection(before))
    assert small.bias is not None
    assert small.bias[0].tolist() == pytest.approx([log(2) + 0.5, log(0.5 / 0.4)])


def test_mass_fold_refuses_negative_scores():
    with pytest.raises(UsageError, match="at least 0"):
        MassFold()(selection(scores=[[-value for value in SCORES[0]]]))
