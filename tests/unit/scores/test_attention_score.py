"""Window attention by hand: keys whose logits are log 1, log 2, ... give attention in small fractions."""

from dataclasses import replace
from math import log

import pytest
import torch

from flowmm.errors import UsageError
from flowmm.scores.attention import Attention
from tests.unit.plain_layers import evidence, layer


def keys(*weights: float) -> list[list[list[float]]]:
    """One head whose slots attract a query (1, 0) in these proportions."""
    return [[[log(weight), 0.0] for weight in weights]]


TWO_QUERIES = evidence([[[1.0, 0.0], [1.0, 0.0]]], [2, 3])
FOUR = layer(keys(1, 2, 1, 4), position=[[0, 1, 2, 3]])


def test_sums_causal_attention_over_the_window():
    # Query 2 sees 1:2:1 of 4, query 3 sees 1:2:1:4 of 8.
    scores = Attention(window=2)(FOUR, TWO_QUERIES, 0)
    assert scores[0].tolist() == pytest.approx([1 / 4 + 1 / 8, 2 / 4 + 2 / 8, 1 / 4 + 1 / 8, 4 / 8])


def test_a_smaller_window_looks_through_the_last_queries():
    assert Attention(window=1)(FOUR, TWO_QUERIES, 0)[0].tolist() == pytest.approx([1 / 8, 2 / 8, 1 / 8, 4 / 8])


def test_query_heads_of_a_group_are_averaged():
    # The second query head looks at nothing in particular: a quarter each.
    group = evidence([[[1.0, 0.0]], [[0.0, 0.0]]], [3])
    scores = Attention(window=1)(FOUR, group, 0)
    assert scores[0].tolist() == pytest.approx([(1 / 8 + 1 / 4) / 2, (2 / 8 + 1 / 4) / 2, (1 / 8 + 1 / 4) / 2, 3 / 8])


def test_heads_keep_their_own_groups():
    two = layer([keys(1, 3)[0], keys(3, 1)[0]], position=[[0, 1], [0, 1]])
    queries = evidence([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]], [1])
    assert Attention(window=1)(two, queries, 0).tolist() == [
        pytest.approx([1 / 4, 3 / 4]),
        pytest.approx([1 / 2, 1 / 2]),
    ]


def test_a_sliding_layer_hides_old_slots():
    # At window 2, query 3 sees slots 2 and 3 in proportion 1:4.
    sliding = replace(FOUR, window=2)
    assert Attention(window=1)(sliding, TWO_QUERIES, 0)[0].tolist() == pytest.approx([0, 0, 1 / 5, 4 / 5])


def test_the_bias_of_a_merged_slot_and_padding_count():
    # log 2 doubles the first slot: 2:2 of 4; the third slot is padding.
    ragged = layer(keys(1, 2, 9), position=[[0, 1, 0]], lengths=[2], bias=[[log(2), 0.0, 0.0]])
    scores = Attention(window=1)(ragged, evidence([[[1.0, 0.0]]], [1]), 0)
    assert scores[0].tolist() == pytest.approx([1 / 2, 1 / 2, 0])


def test_average_pooling_shares_with_neighbours():
    scores = Attention(window=1, kernel=3)(FOUR, TWO_QUERIES, 0)
    assert scores[0].tolist() == pytest.approx([3 / 24, 4 / 24, 7 / 24, 5 / 24])


def test_max_pooling_takes_the_best_neighbour():
    scores = Attention(window=1, kernel=3, pool="max")(FOUR, TWO_QUERIES, 0)
    assert scores[0].tolist() == pytest.approx([2 / 8, 2 / 8, 4 / 8, 4 / 8])


def test_the_windows_own_slots_come_first_the_newest_highest():
    scores = Attention(window=2, keep_window=True, kernel=3)(FOUR, TWO_QUERIES, 0)[0]
    # The prefix pools without the window's slots: (3/8 + 6/8) / 3 twice.
    assert scores[:2].tolist() == pytest.approx([3 / 8, 3 / 8])
    assert scores[3] > scores[2] > 2


def test_fewer_queries_than_the_window_are_an_error_unless_they_are_the_whole_context():
    with pytest.raises(UsageError, match="looks through the last 3 queries, but 2 were recorded"):
        Attention(window=3)(FOUR, TWO_QUERIES, 0)
    short = layer(keys(1, 1), position=[[0, 1]])
    whole = evidence([[[1.0, 0.0], [1.0, 0.0]]], [0, 1])
    assert Attention(window=3)(short, whole, 0)[0].tolist() == pytest.approx([1 + 1 / 2, 1 / 2])


def test_blocks_of_queries_do_not_change_the_sums(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    many = evidence(torch.randn(4, 8, 4, generator=generator).tolist(), list(range(12, 20)))
    random = layer(torch.randn(2, 20, 4, generator=generator).tolist(), position=[list(range(20))] * 2)
    at_once = Attention(window=8)(random, many, 0)
    monkeypatch.setattr("flowmm.blocks.MAX_BYTES", 1)
    assert torch.allclose(Attention(window=8)(random, many, 0), at_once, atol=1e-6)
