"""Slots by the profile's head budget: shared out over all layers and heads, at numbers checkable by eye."""

import pytest
import torch

from flowmm.budgets.choose import Ranking, count_by_head
from flowmm.budgets.uniform import Uniform
from flowmm.compress import compress
from flowmm.errors import UsageError
from flowmm.profiles import load_method, load_profile
from tests.unit.plain_layers import P, T, layer, random_context

CONTEXT = random_context()  # 60 tokens, 3 layers of 2 heads, 6 protected slots a head
PLAIN = load_profile()
BY_HEAD = load_method("keydiff").model_copy(
    update={"budget": load_method("attention-matching").budget}  # uniform, head_budget: true
)


def ten_slots(heads, protected=0):
    return layer([[[0.0]] * 10] * heads, modality=[[P] * protected + [T] * (10 - protected)] * heads)


def lengths(method, budget, **options):
    profile = PLAIN.model_copy(update={"head_budget": budget})
    return [one.lengths.tolist() for one in compress(CONTEXT, method, profile=profile, **options).layers]


def test_heads_of_all_layers_share_in_proportion():
    # 4 slots for each of 3 heads: 12 as 1 : 2 : 3.
    counts = count_by_head([ten_slots(2), ten_slots(1)], [[1.0, 2.0], [3.0]], 4)
    assert [one.tolist() for one in counts] == [[2, 4], [6]]


def test_protected_slots_and_the_length_of_a_head_are_bounds():
    # 15 slots as 0.1 : 14 : 2 would be 0, 13 and 2; but three are protected, and a head has no more than ten.
    counts = count_by_head([ten_slots(1, protected=3), ten_slots(2)], [[0.1], [14.0, 2.0]], 5)
    assert [one.tolist() for one in counts] == [[3], [10, 2]]


def test_a_method_that_asks_keeps_what_the_profile_gives_each_head():
    # 12 slots for each of 6 heads: 72 in total, as 3 : 3 : 3 : 1 : 1 : 1.
    budget = [[1.5, 1.5], [1.5, 0.5], [0.5, 0.5]]
    assert lengths(BY_HEAD, budget, keep=0.2) == [[18, 18], [18, 6], [6, 6]]


def test_a_method_that_does_not_ask_keeps_equally_many():
    assert lengths(load_method("keydiff"), [[9.0, 1.0]] * 3, keep=0.2) == [[12, 12]] * 3


def test_a_profile_without_head_budgets_changes_nothing():
    assert lengths(BY_HEAD, None, keep=0.2) == [[12, 12]] * 3


def test_each_head_keeps_its_own_best_and_its_own_newest():
    scores = torch.tensor([[9.0, 8.0, 7.0, 0.0], [9.0, 8.0, 7.0, 0.0]])
    ranking = Ranking(scores, layer([[[0.0]] * 4] * 2), 3, head_counts=torch.tensor([2, 4]))
    (kept,) = Uniform(head_budget=True, recent=0.5)([ranking])
    assert kept.tolist() == [[True, False, False, True], [True] * 4]
    (kept,) = Uniform()([ranking])
    assert kept.sum(1).tolist() == [3, 3]


def test_a_refit_works_on_heads_of_different_lengths():
    profile = PLAIN.model_copy(update={"head_budget": [[1.5, 0.5]] * 3})
    done = compress(CONTEXT, load_method("attention-matching"), profile=profile, keep=0.3)
    assert [one.lengths.tolist() for one in done.layers] == [[27, 9]] * 3
    assert all(one.values.isfinite().all() for one in done.layers)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ([[1.0, 1.0]], "head_budget lists 1 layers, but the model has 3"),
        ([[1.0, 1.0], [1.0], [1.0, 1.0]], "head_budget of layer 1 lists 1 heads, but the model has 2"),
    ],
)
def test_a_budget_for_another_model_is_refused(budget, message):
    with pytest.raises(UsageError, match=message):
        lengths(BY_HEAD, budget, keep=0.2)
