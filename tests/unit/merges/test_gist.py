"""Gist slots: what is kept verbatim stays so, the rest becomes centroids that stand for all of it."""

from dataclasses import replace
from math import log

import pytest
import torch

from flowmm.merges.gist import Gist, runs
from flowmm.merges.selection import Selection
from tests.unit.plain_layers import T, V, layer

# Eight slots of which 0, 1 and 7 are kept; 1 has the lowest score of them and gives its place to the gist.
KEYS = [[[9.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0], [2.0, 2.0], [0.0, 3.0], [0.0, 9.0]]]
SCORES = [[0.9, 0.5, 0.1, 0.2, 0.3, 0.4, 0.1, 0.8]]


def selection(of=None, scores=SCORES, kept=((0, 1, 7),), *, protected=(), strategy="cross") -> Selection:
    of = layer(KEYS) if of is None else of
    mask = torch.zeros(of.position.shape, dtype=torch.bool)
    for head, index in enumerate(kept):
        mask[head, list(index)] = True
    free = ~of.padding
    free[:, list(protected)] = False
    return Selection(of, torch.tensor(scores), mask, free, strategy)


@pytest.mark.parametrize("near", ["keys", "order"])
def test_the_rest_becomes_one_mean_with_the_mass_of_all_its_members(near):
    small, merged = Gist(share=0.34, near=near)(selection())
    assert small.position.tolist() == [[100, 103, 107]]  # slots 1 to 6 are left over; slot 3 is their middle
    assert small.keys[0, 1].tolist() == pytest.approx([5 / 6, 12 / 6])
    assert torch.equal(small.keys, small.values)
    assert small.bias is not None
    assert small.bias[0].tolist() == pytest.approx([0, log(6), 0])
    assert merged == 5


def test_sensitive_slots_never_receive():
    small, _ = Gist(share=0.34)(selection())
    assert torch.equal(small.keys[0, [0, 2]], layer(KEYS).keys[0, [0, 7]])


def test_a_gist_slot_takes_no_more_attention_than_its_members_had():
    small, _ = Gist(share=0.34)(selection())
    for query in torch.randn(50, 2, generator=torch.Generator().manual_seed(0)):
        members = (layer(KEYS).keys[0, 1:7] @ query).exp().sum()
        assert float((small.keys[0, 1] @ query + small.bias[0, 1]).exp()) <= float(members) + 1e-5


def test_two_gist_slots_take_what_is_nearest_by_key_or_by_order():
    # 7 and 1 pay; 1 to 7 are left over, in two runs: 1 2 3 4 with the middle 2 and 5 6 7 with the middle 6.
    by_order, _ = Gist(share=0.67, near="order")(selection())
    assert by_order.position.tolist() == [[100, 102, 106]]
    assert by_order.bias[0].exp().tolist() == pytest.approx([1, 4, 3])
    # 5 points where 2 does, and 3 nearly; 1 and 7 point where 6 does, and 4 nearly.
    by_key, _ = Gist(share=0.67, near="keys")(selection())
    assert by_key.bias[0].exp().tolist() == pytest.approx([1, 3, 4])
    assert by_key.keys[0, 1].tolist() == pytest.approx([(1 + 1 + 2) / 3, (1 + 2 + 2) / 3])


def test_low_flow_keeps_the_modalities_apart():
    mixed = layer(KEYS, modality=[[T, V, T, V, T, V, T, T]])
    small, merged = Gist(share=0.67)(selection(mixed, strategy="intra"))
    # Slots 0 stays; 1 to 7 are left over, 1 3 5 of them visual: one place for each modality.
    assert small.modality.tolist() == [[T, V, T]]
    assert small.keys[0, 1].tolist() == pytest.approx([3 / 3, 5 / 3])
    assert small.keys[0, 2].tolist() == pytest.approx([2 / 4, (1 + 3 + 3 + 9) / 4])
    assert small.bias[0].tolist() == pytest.approx([0, log(3), log(4)])
    assert merged == 5


def test_protected_slots_give_and_receive_nothing():
    small, merged = Gist(share=1.0)(selection(kept=((0, 7),), protected=[0, 7]))
    assert torch.equal(small.keys[0], layer(KEYS).keys[0, [0, 7]])
    assert (small.bias, merged) == (None, 0)


def test_without_a_share_it_is_eviction():
    small, merged = Gist(share=0.0)(selection())
    assert small.position.tolist() == [[100, 101, 107]]
    assert (small.bias, merged) == (None, 0)


def test_a_bias_that_is_there_counts_as_mass():
    of = replace(layer(KEYS), bias=torch.tensor([[0.0, log(3), 0, 0, 0, 0, 0, 0]]))
    small, _ = Gist(share=0.34)(selection(of))
    assert small.bias[0, 1] == pytest.approx(log(3 + 5))


def test_heads_pay_by_themselves():
    of = layer(KEYS * 2)
    small, merged = Gist(share=0.5, near="order")(selection(of, SCORES * 2, kept=((0, 7), (0, 1, 6, 7))))
    assert small.lengths.tolist() == [2, 4]
    assert small.position[0].tolist()[:2] == [100, 104]  # one of two; slots 1 .. 7 are left over
    assert small.bias[0].exp().round().tolist() == [1, 7, 1, 1]
    assert small.bias[1].exp().round().tolist() == [1, 3, 3, 1]  # two of four; slots 1 .. 6
    assert merged == 6 + 4


@pytest.mark.parametrize(("members", "number"), [(5, 4), (7, 3), (6, 6), (9, 1), (4, 0), (100, 7)])
def test_runs_cover_all_members_in_order_and_differ_by_one_at_most(members, number):
    found = runs(torch.tensor([[True] * members + [False]]), torch.tensor([number]))
    middles = found.is_middle[0].nonzero()[:, 0].tolist()
    assert len(middles) == number
    if number:
        of = found.middle[0, :members].tolist()
        assert of == sorted(of)
        sizes = [of.count(middle) for middle in middles]
        assert sum(sizes) == members
        assert max(sizes) - min(sizes) <= 1
        assert all(of[middle] == middle for middle in middles)
