"""KVMerger's sets of neighbours, on keys of two numbers."""

from dataclasses import replace
from math import exp

import pytest
import torch

from flowmm.merges.gaussian import Gaussian
from tests.unit.merges.test_merges import selection
from tests.unit.plain_layers import layer

# Slots 0 and 1 point the same way, 2 and 3 nearly, 1 and 2 do not.
FOUR = layer([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.1, 1.0]]])
SETS = Gaussian(recent=0, heavy=0)
HALF = exp(-1 / 2)  # a set of two: the other member is one mean distance away


def test_the_most_similar_neighbours_join_until_the_places_suffice():
    small, merged = SETS(selection(FOUR, [[0.1, 0.4, 0.3, 0.2]], kept=((0, 1),)))
    assert small.position.tolist() == [[101, 102]]  # the most attended of each set
    assert small.keys[0].tolist() == [
        pytest.approx([(2 + HALF * 1) / (1 + HALF), 0.0]),
        pytest.approx([HALF * 0.1 / (1 + HALF), 1.0]),
    ]
    assert torch.equal(small.keys, small.values)
    assert merged == 2


def test_with_room_for_three_only_the_best_pair_joins():
    small, merged = SETS(selection(FOUR, [[0.1, 0.4, 0.3, 0.2]], kept=((0, 1, 2),)))
    assert small.position.tolist() == [[101, 102, 103]]
    assert small.keys[0, 1:].tolist() == FOUR.keys[0, 2:].tolist()
    assert merged == 1


def test_weights_are_gaussian_in_the_distance_to_the_pivot_over_the_mean_distance():
    # Distances 1 and 3 to the pivot, sigma 2.
    line = layer([[[1.0], [2.0], [5.0]]])
    small, merged = SETS(selection(line, [[0.1, 0.9, 0.2]], kept=((0,),)))
    near, far = exp(-1 / 8), exp(-9 / 8)
    assert small.keys[0, 0].tolist() == pytest.approx([(2 + near * 1 + far * 5) / (1 + near + far)])
    assert merged == 2


def test_heavy_hitters_and_the_newest_stay_verbatim_and_part_sets():
    # Of four slots one is the newest (5), one the heaviest (2): 0-1 and 3-4 are what can join, and two places are left.
    six = layer([[[1.0, 0.0]] * 6])
    small, merged = Gaussian(recent=0.25, heavy=0.25)(
        selection(six, [[0.1, 0.2, 0.9, 0.3, 0.1, 0.0]], kept=((0, 1, 2, 3),))
    )
    assert small.position.tolist() == [[101, 102, 103, 105]]
    assert merged == 2


def test_sets_beyond_the_places_are_gone_the_lowest_first():
    # Slot 1 is protected and kept, so 0 and 2 are sets by themselves, with one place.
    three = layer([[[1.0], [1.0], [1.0]]])
    small, merged = SETS(selection(three, [[0.1, 0.0, 0.2]], kept=((0, 1),), protected=[1]))
    assert small.position.tolist() == [[101, 102]]
    assert merged == 0


def test_equal_keys_merge_into_themselves():
    same = layer([[[1.0, 2.0]] * 3])
    small, merged = SETS(selection(same, [[0.0] * 3], kept=((0,),)))
    assert small.keys[0, 0].tolist() == pytest.approx([1.0, 2.0])
    assert (merged, small.position.tolist()) == (2, [[100]])


def test_heads_have_places_and_lengths_of_their_own():
    two = layer([FOUR.keys[0].tolist(), [[1.0, 0.0], [3.0, 0.0], [9.0, 9.0], [9.0, 9.0]]], lengths=[4, 2])
    small, merged = SETS(selection(two, [[0.1, 0.4, 0.3, 0.2]] * 2, kept=((0, 1), (0,))))
    assert small.lengths.tolist() == [2, 1]
    assert small.position.tolist() == [[101, 102], [101, 0]]
    assert small.keys[1, 1].tolist() == [0.0, 0.0]
    assert merged == 3


def test_as_many_slots_come_out_as_were_selected():
    generator = torch.Generator().manual_seed(0)
    random = layer(torch.randn(2, 40, 4, generator=generator).tolist())
    scores = torch.rand(2, 40, generator=generator).tolist()
    chosen = selection(random, scores, kept=(range(11), range(10)), protected=[0, 7])
    small, merged = Gaussian()(chosen)
    assert small.lengths.tolist() == [11, 10]
    assert 0 < merged <= 80 - 21


def test_blocks_of_slots_give_the_same_layer(monkeypatch):
    chosen = selection(replace(FOUR), [[0.1, 0.4, 0.3, 0.2]], kept=((0, 1),))
    at_once, _ = SETS(chosen)
    monkeypatch.setattr("flowmm.blocks.MAX_BYTES", 1)
    assert torch.equal(SETS(chosen)[0].keys, at_once.keys)
