"""One threshold over layers and heads, and its guards."""

from dataclasses import replace

import pytest
import torch

from flowmm.budgets.choose import OUT_OF_SIGHT
from flowmm.budgets.global_threshold import GlobalThreshold
from flowmm.errors import UsageError
from tests.unit.budgets.test_budgets import ranking, slots
from tests.unit.plain_layers import T, V

LOW = [[0.1, 0.2, 0.3, 0.4]]
HIGH = [[5.0, 6.0, 7.0, 8.0]]


def kept(*layers, **guards) -> list[list[list[int]]]:
    return [slots(mask) for mask in GlobalThreshold(**guards)(list(layers))]


def test_the_highest_scores_of_all_layers_and_heads_stay():
    assert kept(ranking(LOW + HIGH, 2), ranking([[0.0, 9.0, 0.0, 0.35]], 2)) == [[[3], [0, 1, 2, 3]], [[1]]]


def test_protected_slots_stay_whatever_their_score_and_are_counted():
    assert kept(ranking(LOW + HIGH, 2, protected=[0])) == [[[0], [0, 2, 3]]]


def test_a_head_keeps_its_floor():
    # Half of the four slots a head would keep: two, of the head that has low scores.
    assert kept(ranking(LOW + HIGH, 3), floor=0.7) == [[[2, 3], [0, 1, 2, 3]]]
    assert kept(ranking(LOW + HIGH, 2), floor=0.5) == [[[3], [1, 2, 3]]]


def test_each_modality_keeps_its_floor_in_each_head():
    # Of two slots a head, chance leaves one to each modality.
    both = ranking([[0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]], 2, modality=[V, V, T, T])
    assert kept(both, modality_floor=1.0) == [[[1, 3], [1, 3]]]
    assert kept(both) == [[[], [0, 1, 2, 3]]]


def test_important_tokens_stay_alive_in_the_head_that_scores_them_best():
    # Every token's best slot stays: token 0 in head 0, 1 and 2 in head 1; one place is left for 8.0.
    one = ranking([[0.3, 0.1, 0.1, 0.0], [0.2, 0.2, 0.2, 8.0]], 2)
    assert kept(one, alive=1.0) == [[[0], [1, 2, 3]]]
    # Of two layers, the better one keeps it.
    first, second = ranking([[0.5, 7.0, 6.0]], 1), ranking([[0.4, 9.0, 8.0]], 2)
    assert kept(first, second) == [[[1]], [[1, 2]]]
    assert kept(first, second, alive=1.0) == [[[0]], [[1, 2]]]


def test_one_layer_is_enough_to_keep_a_token_alive():
    # Token 0 is as good in both layers; the first keeps it, and tokens 1 and 2 keep their place in the second.
    first, second = ranking([[5.0, 0.0, 0.0]], 1), ranking([[5.0, 0.1, 0.2]], 2)
    assert kept(first, second, alive=1.0) == [[[0]], [[1, 2]]]


def test_alive_takes_the_share_of_tokens_that_score_best():
    first, second = ranking([[0.5, 0.6, 6.0]], 1), ranking([[0.4, 9.0, 8.0]], 1)
    assert kept(first, second, alive=0.34) == [[[]], [[1, 2]]]
    assert kept(first, second, alive=1.0) == [[[]], [[1, 2]]]  # guards beyond the budget: the best of them


def test_padding_is_never_kept_and_the_total_is_exact():
    ragged = ranking([[0.1, 9.0, 9.0], [0.5, 0.6, 0.7]], 2, lengths=[1, 3])
    assert kept(ragged, floor=0.5, alive=1.0) == [[[0], [0, 1, 2]]]


def test_the_total_is_exact_over_many_layers():
    generator = torch.Generator().manual_seed(0)
    layers = [ranking(torch.rand(3, 40, generator=generator).tolist(), 7, protected=[0, 1]) for _ in range(5)]
    masks = list(GlobalThreshold(floor=0.3, alive=0.2, modality_floor=0.1)(layers))
    assert sum(int(mask.sum()) for mask in masks) == 5 * 3 * 7


def test_the_floor_may_follow_the_heads_of_the_profile():
    # The profile gives the low head three slots; half of them, rounded, are two.
    one = replace(ranking(LOW + HIGH, 2), head_counts=torch.tensor([3, 1]))
    assert kept(one, floor=0.5, head_budget=True) == [[[2, 3], [2, 3]]]
    assert kept(one, floor=0.5) == [[[3], [1, 2, 3]]]
    assert kept(ranking(LOW + HIGH, 2), floor=0.5, head_budget=True) == [[[3], [1, 2, 3]]]


def test_what_a_score_counts_may_follow_the_heads_of_the_profile():
    # 0.4 and 0.3 of the first head against 0.08 to 0.05 of the second.
    one = replace(ranking(LOW + HIGH, 1), head_weights=torch.tensor([1.0, 0.01]))
    assert kept(one, head_weight=True) == [[[2, 3], []]]
    assert kept(one) == [[[], [2, 3]]]
    assert kept(ranking(LOW + HIGH, 1), head_weight=True) == [[[], [2, 3]]]


def test_slots_out_of_sight_stay_last_whatever_their_heads_weight():
    one = replace(ranking([[OUT_OF_SIGHT, 1.0], [0.5, 0.4]], 1), head_weights=torch.tensor([0.01, 0.01]))
    assert kept(one, head_weight=True) == [[[1], [0]]]


def test_no_guard_is_spent_on_slots_out_of_sight():
    one = ranking([[OUT_OF_SIGHT, OUT_OF_SIGHT, 0.1], [0.5, 0.4, 0.3]], 2, modality=[V, V, T])
    assert kept(one) == [[[2], [0, 1, 2]]]
    for guards in ({"floor": 1.0}, {"modality_floor": 1.0}, {"alive": 1.0}):
        assert kept(one, **guards) == [[[2], [0, 1, 2]]], guards


def test_negative_scores_cannot_be_weighed():
    one = replace(ranking([[-1.0, 2.0]], 1), head_weights=torch.tensor([0.5]))
    with pytest.raises(UsageError, match="at least 0"):
        kept(one, head_weight=True)
    assert kept(one) == [[[1]]]


def test_what_one_head_needs_counts_in_all_by_their_weights():
    # Token 0 is worth 8 in the first head, so 8 times a half in the second, which sees nothing in it.
    weights = torch.tensor([1.0, 0.5])
    one = replace(ranking([[8.0, 1.0, 2.0], [0.0, 3.0, 3.5]], 1), head_weights=weights)
    assert kept(one, head_weight=True) == [[[0, 2], []]]
    assert kept(one, head_weight=True, shared_tokens=True) == [[[0], [0]]]
    # The same over layers; what is out of sight or not there does not come back.
    first = replace(ranking([[8.0, 1.0, 2.0]], 1), head_weights=weights[:1])
    second = replace(ranking([[OUT_OF_SIGHT, 3.0, 0.1]], 1), head_weights=weights[1:])
    assert kept(first, second, head_weight=True, shared_tokens=True) == [[[0, 2]], [[]]]


def test_tokens_are_shared_by_measured_weights_only():
    one = ranking([[8.0, 1.0, 2.0], [0.0, 3.0, 3.5]], 1)
    assert kept(one, head_weight=True, shared_tokens=True) == kept(one) == [[[0], [2]]]
    weighed = replace(one, head_weights=torch.tensor([1.0, 0.5]))
    assert kept(weighed, shared_tokens=True) == kept(weighed)
