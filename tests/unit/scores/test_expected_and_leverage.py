"""Expected attention and leverage at numbers checkable by eye, and what values add to attention."""

from dataclasses import replace
from math import log, sqrt

import pytest
import torch

from flowmm.scores.attention import Attention
from flowmm.scores.cumulative import Cumulative
from flowmm.scores.expected_attention import ExpectedAttention
from flowmm.scores.leverage import Leverage
from tests.unit.plain_layers import T, V, evidence, layer

PLAIN = {"epsilon": 0.0, "times_value_norm": False}


def expected(keys, queries, *, values=None, scale=1.0, **fields) -> list[float]:
    rule = ExpectedAttention(window=len(queries[0]), **fields)
    index = list(range(200, 200 + len(queries[0])))
    return rule(layer([keys], values=values), evidence(queries, index, scale=scale), 0)[0].tolist()


def test_queries_that_agree_give_their_attention():
    assert expected([[0.0, 0.0], [log(3), 0.0]], [[[1.0, 0.0]] * 2], **PLAIN) == pytest.approx([1 / 4, 3 / 4])


def test_the_spread_of_the_queries_adds_half_the_variance_of_the_logit():
    # q is +1 or -1: mean 0, variance 1, so the expectation of exp(q k) is exp(k^2 / 2) of a Gaussian.
    keys, queries = [[0.0, 0.0], [sqrt(2 * log(3)), 0.0]], [[[1.0, 0.0], [-1.0, 0.0]]]
    assert expected(keys, queries, **PLAIN) == pytest.approx([1 / 4, 3 / 4])
    assert expected(keys, queries, covariance=False, **PLAIN) == pytest.approx([1 / 2, 1 / 2])
    doubled = [[[2.0, 0.0], [-2.0, 0.0]]]
    assert expected(keys, doubled, scale=0.5, **PLAIN) == pytest.approx([1 / 4, 3 / 4])


def test_heads_of_a_group_are_averaged():
    group = [[[1.0, 0.0]], [[0.0, 0.0]]]
    assert expected([[0.0, 0.0], [log(3), 0.0]], group, **PLAIN) == pytest.approx([3 / 8, 5 / 8])


def test_values_and_epsilon_weigh():
    found = expected([[0.0, 0.0], [log(3), 0.0]], [[[1.0, 0.0]]], values=[[[3.0, 4.0], [0.0, 1.0]]], epsilon=0.05)
    assert found == pytest.approx([0.3 * 5, 0.8])


def test_sinks_and_padding_take_no_share_of_the_expectation():
    three = layer([[[9.0, 0.0], [0.0, 0.0], [log(3), 0.0], [9.0, 0.0]]], lengths=[3], position=[[0, 8, 9, 0]])
    found = ExpectedAttention(window=1, **PLAIN)(three, evidence([[[1.0, 0.0]]], [9]), 0)
    assert found[0, 1:3].tolist() == pytest.approx([1 / 4, 3 / 4])


def test_blocks_of_slots_do_not_change_the_expectation(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    keys, queries = (torch.randn(*shape, generator=generator).tolist() for shape in ((9, 4), (2, 5, 4)))
    at_once = expected(keys, queries)
    monkeypatch.setattr("flowmm.blocks.MAX_BYTES", 1)
    assert expected(keys, queries) == pytest.approx(at_once, abs=1e-6)


def test_leverage_is_the_share_of_a_key_in_its_own_direction():
    # Centred already; K'K is 9 + 3 = 12.
    found = Leverage(ridge=1e-6)(layer([[[3.0], [-1.0], [-1.0], [-1.0]]]), None, 0)
    assert found[0].tolist() == pytest.approx([9 / 12, 1 / 12, 1 / 12, 1 / 12], rel=1e-4)


def test_leverage_centres_the_keys_and_leaves_padding_out():
    found = Leverage(ridge=1e-6)(layer([[[8.0], [4.0], [4.0], [4.0], [99.0]]], lengths=[4]), None, 0)
    assert found[0, :4].tolist() == pytest.approx([9 / 12, 1 / 12, 1 / 12, 1 / 12], rel=1e-4)


def test_the_ridge_is_in_units_of_the_mean_eigenvalue():
    # K'K is 2 on the diagonal; a ridge of 1 adds 2 more.
    cross = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    assert Leverage(ridge=1.0)(layer([cross]), None, 0)[0].tolist() == pytest.approx([1 / 4] * 4)


def test_keys_that_are_all_the_same_have_finite_leverage():
    assert Leverage()(layer([[[1.0, 2.0]] * 3]), None, 0).isfinite().all()


SUMS = torch.tensor([[2.0, 5.0, 1.0], [1.0, 0.0, 0.0]])
MIXED = layer([[[0.0]] * 3] * 2, values=[[[1.0], [2.0], [-6.0]]] * 2, modality=[[T, V, T]] * 2)


def test_the_text_prior_adds_the_heads_largest_sum_to_text():
    found = Cumulative(text_prior=True)(MIXED, evidence([[[1.0]]] * 2, [2], cumulative=SUMS), 0)
    assert found.tolist() == [[7.0, 5.0, 6.0], [2.0, 0.0, 1.0]]


def test_cumulative_attention_can_be_weighed_by_the_length_of_the_value():
    found = Cumulative(times_value_norm=True)(MIXED, evidence([[[1.0]]] * 2, [2], cumulative=SUMS), 0)
    assert found.tolist() == [[2.0, 10.0, 6.0], [1.0, 0.0, 0.0]]


def test_window_attention_can_be_weighed_by_the_length_of_the_value():
    two = layer([[[0.0], [log(3)]]], values=[[[4.0], [2.0]]], position=[[0, 1]])
    found = Attention(window=1, times_value_norm=True)(two, evidence([[[1.0]]], [1]), 0)
    assert found[0].tolist() == pytest.approx([4 / 4, 2 * 3 / 4])


def test_the_windows_own_slots_stay_above_long_values():
    long = replace(MIXED, values=MIXED.values * 1000, position=torch.tensor([[0, 1, 2]] * 2))
    found = Attention(window=1, keep_window=True, times_value_norm=True)(long, evidence([[[1.0]]] * 2, [2]), 0)
    assert found.argmax(1).tolist() == [2, 2]


def test_leverage_may_count_by_what_a_value_moves():
    keys, plain = [[[3.0], [-1.0], [-1.0], [-1.0]]], [3 / 4, 1 / 12, 1 / 12, 1 / 12]
    seen = replace(evidence([[[1.0]]], [103]), value_weight=torch.tensor([[1.0, 12.0, 6.0, 0.0]]))
    found = Leverage(ridge=1e-6, times_value_norm=True)(layer(keys), seen, 0)
    assert found[0].tolist() == pytest.approx([plain[0], 1, 1 / 2, 0], abs=1e-5)
    assert Leverage(ridge=1e-6)(layer(keys), seen, 0)[0].tolist() == pytest.approx(plain, abs=1e-5)
    assert (Leverage().needs, Leverage(times_value_norm=True).needs) == (frozenset(), {"value_weight"})
