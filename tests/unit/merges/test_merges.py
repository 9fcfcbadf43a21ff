"""Eviction and FlowMM's matching on keys of two numbers."""

from dataclasses import replace
from math import log

import pytest
import torch

from flowmm.errors import UsageError
from flowmm.merges.evict import Evict
from flowmm.merges.flow_guided import FlowGuided
from flowmm.merges.selection import Selection
from tests.unit.plain_layers import T, V, layer

# Slots 0 and 1 are pivots along x and y; slots 2 and 3 are evicted, nearest to x; slot 4 is evicted, nearest to y.
FIVE = layer([[[2.0, 0.0], [0.0, 2.0], [1.0, 0.1], [3.0, 0.1], [0.1, 1.0]]], modality=[[T, V, T, V, V]])
SCORES = [[0.3, 0.4, 0.1, 0.2, 0.1]]


def selection(of=FIVE, scores=SCORES, kept=((0, 1),), *, protected=(), strategy="cross", tau=1.0) -> Selection:
    mask = torch.zeros(of.position.shape, dtype=torch.bool)
    for head, index in enumerate(kept):
        mask[head, list(index)] = True
    free = ~of.padding
    free[:, list(protected)] = False
    return Selection(of, torch.tensor(scores), mask, free, strategy, tau)


def test_eviction_keeps_slots_in_order_and_pads_ragged_heads_with_zeros():
    two = layer([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]], bias=[[0.0, 0.5, 0.0], [0.0, 0.0, 0.7]])
    small, merged = Evict()(selection(two, [[0.0] * 3] * 2, kept=((0, 2), (2,))))
    assert small.keys[..., 0].tolist() == [[1.0, 3.0], [6.0, 0.0]]
    assert small.position.tolist() == [[100, 102], [102, 0]]
    assert small.lengths.tolist() == [2, 1]
    assert small.bias is not None
    assert small.bias.tolist() == [[0.0, 0.0], [pytest.approx(0.7), 0.0]]
    assert merged == 0


def test_mean_of_a_pivot_and_all_that_join_it():
    small, merged = FlowGuided(merge="mean")(selection())
    assert small.keys[0].tolist() == [pytest.approx([6 / 3, 0.2 / 3]), pytest.approx([0.05, 1.5])]
    assert torch.equal(small.keys, small.values)
    assert small.position.tolist() == [[100, 101]]
    assert merged == 3


def test_pivotal_is_look_ms_formula():
    # (c + 1/2 sum (s + c)) / (m + 1): x of the first pivot is (2 + (1 + 2) / 2 + (3 + 2) / 2) / 3.
    small, _ = FlowGuided(merge="pivotal")(selection())
    assert small.keys[0, :, 0].tolist() == pytest.approx([(2 + 3 / 2 + 5 / 2) / 3, (0 + 0.1 / 2) / 2])


def test_weighted_mean_counts_each_slot_by_its_score():
    small, _ = FlowGuided(merge="weighted")(selection())
    assert small.keys[0, 0].tolist() == pytest.approx([(0.6 + 0.1 + 0.6) / 0.6, (0.01 + 0.02) / 0.6])


def test_slots_that_nobody_looked_at_have_a_plain_weighted_mean():
    small, _ = FlowGuided(merge="weighted")(selection(scores=[[0.0] * 5]))
    assert small.keys[0, 0].tolist() == pytest.approx([2.0, 0.2 / 3])


def test_weighted_refuses_negative_scores():
    with pytest.raises(UsageError, match="at least 0"):
        FlowGuided(merge="weighted")(selection(scores=[[-1.0] * 5]))


def test_intra_layers_match_within_one_modality():
    # Slot 2 (text) joins pivot 0 (text); slots 3 and 4 (visual) join pivot 1 (visual).
    small, merged = FlowGuided(merge="mean")(selection(strategy="intra"))
    assert small.keys[0].tolist() == [pytest.approx([1.5, 0.05]), pytest.approx([3.1 / 3, 3.1 / 3])]
    assert merged == 3


def test_without_a_pivot_of_its_modality_a_slot_is_gone():
    small, merged = FlowGuided(merge="mean")(selection(kept=((0,),), strategy="intra"))
    assert small.keys[0].tolist() == [pytest.approx([1.5, 0.05])]  # only slot 2 is text
    assert merged == 1


def test_pivots_above_the_quantile_stay_verbatim():
    # Of the pivots' scores 0.3 and 0.4 the quantile 0.5 is 0.35: only pivot 0 receives, and all three join it.
    small, merged = FlowGuided(merge="mean")(selection(tau=0.5))
    assert small.keys[0, 1].tolist() == [0.0, 2.0]
    assert small.keys[0, 0].tolist() == pytest.approx([6.1 / 4, 1.2 / 4])
    assert merged == 3


def test_pivots_that_receive_nothing_keep_their_bits():
    # In float32 0.01 * 0.05 / 0.05 is not 0.01, so a weighted mean of the pivot alone would show.
    alone = layer([[[0.0, 0.01], [1.0, 0.0], [0.9, 0.0]]])
    small, merged = FlowGuided(merge="weighted")(selection(alone, [[0.05, 0.3, 0.1]]))
    assert merged == 1
    assert torch.equal(small.keys[0, 0], alone.keys[0, 0])


def test_protected_slots_neither_give_nor_receive():
    small, merged = FlowGuided(merge="mean")(selection(protected=[0, 3]))
    assert small.keys[0, 0].tolist() == [2.0, 0.0]
    assert small.keys[0, 1].tolist() == pytest.approx([1.1 / 3, 3.1 / 3])  # slots 2 and 4; slot 3 is gone
    assert merged == 2


def test_mass_is_the_logarithm_of_how_many_tokens_a_slot_stands_for():
    small, _ = FlowGuided(mass=True)(selection())
    assert small.bias is not None
    assert small.bias[0].tolist() == pytest.approx([log(3), log(2)])


def test_mass_of_slots_merged_before_is_added_up():
    before = replace(FIVE, bias=torch.tensor([[log(2), 0, log(4), 0, 0]]))
    small, _ = FlowGuided(mass=True)(selection(before))
    assert small.bias is not None
    assert small.bias[0].tolist() == pytest.approx([log(2 + 4 + 1), log(2)])


def test_without_mass_there_is_no_bias():
    assert FlowGuided()(selection())[0].bias is None


def test_nothing_evicted_is_nothing_merged():
    small, merged = FlowGuided(mass=True)(selection(kept=((0, 1, 2, 3, 4),)))
    assert torch.equal(small.keys, FIVE.keys)
    assert (small.bias, merged) == (None, 0)


def test_heads_with_different_numbers_of_pivots_and_sources():
    # Head 0 keeps slots 0 and 1 of five; head 1 has two slots and keeps one, which the other joins.
    two = layer([FIVE.keys[0].tolist(), [[1.0, 0.0], [3.0, 0.0], [9.0, 9.0], [9.0, 9.0], [9.0, 9.0]]], lengths=[5, 2])
    small, merged = FlowGuided(merge="mean")(selection(two, SCORES * 2, kept=((0, 1), (1,))))
    assert small.keys[1].tolist() == [[2.0, 0.0], [0.0, 0.0]]
    assert small.keys[0, 0].tolist() == pytest.approx([2.0, 0.2 / 3])
    assert (small.lengths.tolist(), merged) == ([2, 1], 4)


def test_blocks_of_slots_give_the_same_layer(monkeypatch):
    at_once, _ = FlowGuided(mass=True)(selection())
    monkeypatch.setattr("flowmm.blocks.MAX_BYTES", 1)
    in_blocks, merged = FlowGuided(mass=True)(selection())
    assert torch.equal(at_once.keys, in_blocks.keys)
    assert merged == 3
