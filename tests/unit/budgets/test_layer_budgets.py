"""How layers share one budget, at numbers checkable by eye."""

from dataclasses import replace
from math import log

import pytest
import torch

from flowmm.budgets.broadcast import Broadcast
from flowmm.budgets.choose import Ranking, choose, share_out
from flowmm.budgets.entropy import Entropy, crossing_entropy
from flowmm.budgets.modality import ModalitySplit
from flowmm.budgets.pyramid import Pyramid
from flowmm.budgets.variance import Variance, variance
from flowmm.context import LayerCache
from flowmm.errors import UsageError
from tests.unit.budgets.test_budgets import ranking, slots
from tests.unit.plain_layers import T, V, evidence, layer


def lengths(masks) -> list[list[int]]:
    return [mask.sum(1).tolist() for mask in masks]


def plain(count, *, num_slots=60, protected=()) -> Ranking:
    return ranking([[0.0] * num_slots] * 2, count, protected=protected)


@pytest.mark.parametrize(
    ("wanted", "total", "low", "high", "shares"),
    [
        ([1, 1, 2], 8, [0, 0, 0], [10, 10, 10], [2, 2, 4]),
        ([1, 1, 1], 10, [0, 0, 0], [10, 10, 10], [4, 3, 3]),
        ([1, 1, 2], 8, [0, 0, 0], [10, 10, 3], [3, 2, 3]),
        ([1, 9], 10, [3, 0], [10, 10], [3, 7]),
        ([0, 0], 4, [0, 0], [10, 10], [2, 2]),
        ([0, 5], 4, [0, 0], [10, 3], [1, 3]),
        ([1, 2], 1, [1, 2], [5, 5], [1, 2]),
        ([1, 2], 99, [1, 2], [5, 6], [5, 6]),
    ],
)
def test_a_total_is_shared_out_within_bounds(wanted, total, low, high, shares):
    assert share_out(wanted, total, low, high) == shares


def test_heads_can_keep_different_numbers():
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert slots(choose(scores, torch.zeros(2, 3, dtype=torch.int), torch.tensor([1, 2]))) == [[0], [1, 2]]


def test_the_pyramid_falls_from_nearly_twice_the_mean_to_a_twentieth():
    # b is 20: the last layer keeps 20 / 20, the first 2 * 20 - 1.
    assert lengths(Pyramid(beta=20)([plain(20)] * 3)) == [[39, 39], [20, 20], [1, 1]]


def test_a_beta_of_1_is_flat():
    assert lengths(Pyramid(beta=1)([plain(20)] * 3)) == [[20, 20]] * 3


def test_the_window_stands_outside_the_pyramid():
    # Of 30 slots 10 are the window's; b is 20.
    assert lengths(Pyramid(beta=20, window=10)([plain(30)] * 3)) == [[49, 49], [30, 30], [11, 11]]


def test_a_first_layer_that_has_fewer_slots_leaves_a_flatter_pyramid():
    assert lengths(Pyramid(beta=20)([plain(20, num_slots=30)] * 3)) == [[30, 30], [20, 20], [10, 10]]


def test_the_last_layer_keeps_what_is_protected():
    kept = lengths(Pyramid(beta=20)([plain(20, protected=range(5))] * 3))
    assert kept[2] == [5, 5]
    assert [sum(head) for head in zip(*kept, strict=True)] == [60, 60]


def test_one_layer_is_no_pyramid():
    assert lengths(Pyramid()([plain(20)])) == [[20, 20]]


def test_variance_is_of_scores_scaled_to_a_mean_of_1():
    assert variance(ranking([[8.0, 0.0, 0.0, 0.0]], 1)) == pytest.approx((3**2 + 1 + 1 + 1) / 4)
    assert variance(ranking([[8.0, 2.0, 2.0]], 1, protected=[0])) == 0


def test_layers_that_look_everywhere_get_more():
    # F is 0 and 29, scaled to 0 and 2: of 20 slots, shares of 1 to exp(-2) are 17.6 and 2.4.
    even, peak = [[1.0] * 30], [[30.0] + [0.0] * 29]
    assert lengths(Variance()([ranking(even, 10), ranking(peak, 10)])) == [[18], [2]]


def test_a_layer_keeps_at_least_one_slot():
    assert lengths(Variance()([ranking([[1.0] * 4], 2), ranking([[4.0, 0.0, 0.0, 0.0]], 2)])) == [[3], [1]]


def test_the_newest_slots_get_their_share_in_every_layer():
    kept = Variance(recent=0.5)([ranking([[9.0, 8.0, 7.0, 0.0]], 2), ranking([[9.0, 8.0, 7.0, 0.0]], 2)])
    assert [slots(mask) for mask in kept] == [[[0, 3]], [[0, 3]]]


class WithoutSinks(LayerCache):
    """A layer of tokens 0, 1, ... of which none is protected."""

    @property
    def protected(self):
        return torch.zeros_like(self.padding)


def seen(keys, queries, index, modality, *, count=3, scores=None) -> Ranking:
    """A ranking of a full cache with a sample of queries."""
    full = layer(keys, position=[list(range(len(keys[0])))], modality=[modality])
    scores = torch.zeros(1, len(keys[0])) if scores is None else torch.tensor(scores)
    return Ranking(scores, WithoutSinks(**vars(full)), count, evidence(queries, index))


FLAT = [[[0.0, 0.0]] * 4]


def test_entropy_is_of_each_direction_over_the_keys_it_sees():
    # The last text query looks at both visual keys alike: ln 2. The visual query sees one text key: 0.
    assert crossing_entropy(seen(FLAT, [[[0.0, 0.0]] * 2], [2, 3], [T, V, V, T])) == pytest.approx(log(2))
    # Keys 1 and 2 in proportion 3 to 1.
    keys = [[[9.0, 0.0], [log(3), 0.0], [0.0, 0.0], [9.0, 0.0]]]
    expected = 0.75 * log(4 / 3) + 0.25 * log(4)
    assert crossing_entropy(seen(keys, [[[0.0, 0.0], [1.0, 0.0]]], [2, 3], [T, V, V, T])) == pytest.approx(expected)


def test_entropy_is_a_mean_over_queries_that_see_something():
    # Query 0 sees no visual key, query 2 one, query 4 two: (0 + ln 2) / 2; and query 3, visual, sees 0 and 2: ln 2.
    five = seen([[[0.0, 0.0]] * 5], [[[0.0, 0.0]] * 4], [0, 2, 3, 4], [T, V, T, V, T])
    assert crossing_entropy(five) == pytest.approx(1.5 * log(2))


def test_entropy_counts_both_directions():
    # Text at 3 over visual 1, 2: ln 2; visual at 4 over text 0, 3: ln 2.
    both = seen([[[0.0, 0.0]] * 5], [[[0.0, 0.0]] * 2], [3, 4], [T, V, V, T, V])
    assert crossing_entropy(both) == pytest.approx(2 * log(2))


def test_layers_get_slots_by_the_softmax_of_their_entropy():
    # Text looks at both visual keys alike, then at one of them: exp(ln 2) to exp(0) is 2 to 1 of 6 slots.
    queries = [[[0.0, 0.0], [1.0, 0.0]]]
    even = seen(FLAT, queries, [2, 3], [T, V, V, T])
    peaked = seen([[[0.0, 0.0], [50.0, 0.0], [0.0, 0.0], [0.0, 0.0]]], queries, [2, 3], [T, V, V, T])
    assert lengths(Entropy(recent=0)([even, peaked])) == [[4], [2]]
    assert lengths(Entropy(recent=0, least=0.75)([even, peaked])) == [[3], [3]]


def test_layers_get_equal_shares_in_one_modality():
    assert lengths(Entropy(recent=0)([plain(20)] * 2)) == [[20, 20]] * 2


def test_a_sample_without_visual_queries_is_refused():
    with pytest.raises(UsageError, match="queries of visual tokens, but none of the 1 that were sampled is one"):
        crossing_entropy(seen(FLAT, [[[0.0, 0.0]]], [3], [T, V, V, T]))


# Query 3 looks at slots 0..3 as 1:2:4:1, query 4 at slots 0..4 as 1:0:7:1:1.
LOOKED = [[[0.0, 0.0], [log(2), -50.0], [log(4), log(7)], [0.0, 0.0], [0.0, 0.0]]]


@pytest.mark.parametrize(("threshold", "kept"), [(0.17, [1, 4]), (0.2, [1, 4]), (0.26, [2, 4]), (0.75, [2, 4])])
def test_visual_tokens_stay_when_their_share_or_their_maximum_is_above_the_threshold(threshold, kept):
    # Slot 1, of the best score, gets 0.25 and 0: a share of 0.25 / 1.45 = 0.172, and at most 0.25.
    # Slot 2 gets 0.5 and 0.7: a share of 0.83, and at most 0.7.
    scores = [[0.0, 9.0, 5.0, 1.0, 8.0]]
    judge = seen(LOOKED, [[[1.0, 0.0], [0.0, 1.0]]], [3, 4], [T, V, V, T, T], scores=scores, count=2)
    later = replace(judge, evidence=None)  # what the first layer says holds here too
    assert [slots(mask) for mask in Broadcast(threshold=threshold)([judge, later])] == [[kept], [kept]]


def test_pruned_tokens_come_back_where_the_budget_has_room():
    judge = seen(LOOKED, [[[1.0, 0.0], [0.0, 1.0]]], [3, 4], [T, V, V, T, T], count=5)
    assert lengths(Broadcast(threshold=0.5)([judge])) == [[5]]


def test_a_later_layer_can_judge():
    judge = seen(
        LOOKED, [[[1.0, 0.0], [0.0, 1.0]]], [3, 4], [T, V, V, T, T], scores=[[0.0, 9.0, 5.0, 1.0, 8.0]], count=2
    )
    first = replace(judge, evidence=None)
    assert [slots(mask) for mask in Broadcast(source=1, threshold=0.26)([first, judge])] == [[[2, 4]], [[2, 4]]]


def test_a_layer_that_is_not_there_cannot_judge():
    with pytest.raises(UsageError, match="judges by layer 3, but the model has 1"):
        list(Broadcast(source=3)([plain(5)]))


def test_heads_split_their_slots_by_what_they_look_at():
    # Text 6, images 2: of four slots three are text; the second head looks at images alone.
    two = ranking([[4.0, 1.0, 1.0, 1.0, 0.5, 0.5], [0.0, 0.0, 0.0, 3.0, 2.0, 1.0]], 4, modality=[T, T, T, V, V, V])
    (kept,) = ModalitySplit()([two])
    assert slots(kept) == [[0, 1, 2, 3], [0, 3, 4, 5]]


def test_where_one_modality_has_too_few_slots_the_other_gets_its_places():
    # Text 9, images 3: of three slots two and a quarter are text, but there is one.
    (kept,) = ModalitySplit()([ranking([[9.0, 1.0, 1.0, 1.0]], 3, modality=[T, V, V, V])])
    assert slots(kept) == [[0, 1, 2]]


def test_protected_slots_are_kept_besides_and_do_not_tip_the_split():
    one = ranking([[99.0, 1.0, 1.0, 1.0, 0.5, 0.5]], 3, modality=[T, T, T, V, V, V], protected=[0])
    (kept,) = ModalitySplit()([one])  # text 2, images 2
    assert slots(kept) == [[0, 1, 3]]


def test_a_layer_that_needs_less_leaves_it_to_those_after_it():
    # One slot covers 0.8 of the first layer; phi of the second is 3 - (1 - 3) / 1 = 5.
    kept = ModalitySplit(cover=0.8)([ranking([[9.0, 1.0] + [0.0] * 6], 3), ranking([[1.0] * 8], 3)])
    assert lengths(kept) == [[1], [5]]


def test_a_layer_that_needs_more_takes_at_most_its_share_and_a_half():
    kept = ModalitySplit(cover=0.9, most=1.5)([ranking([[1.0] * 8], 4), ranking([[1.0] * 8], 4)])
    assert lengths(kept) == [[6], [2]]
