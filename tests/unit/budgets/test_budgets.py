"""Rounding and selection at numbers checkable by eye."""

from itertools import islice

import pytest
import torch

from flowmm.budgets.choose import Ranking, slots_to_keep
from flowmm.budgets.everything import Everything
from flowmm.budgets.uniform import Uniform
from tests.unit.plain_layers import P, T, layer


def ranking(scores, count, *, protected=(), lengths=None, modality=None) -> Ranking:
    """Slots of keys that do not matter; protected ones are template tokens."""
    scores = torch.tensor(scores)
    heads, slots = scores.shape
    kinds = torch.tensor([modality or [T] * slots]).repeat(heads, 1)
    kinds[:, list(protected)] = P
    return Ranking(scores, layer([[[0.0]] * slots] * heads, lengths=lengths, modality=kinds.tolist()), count)


def slots(mask: torch.Tensor) -> list[list[int]]:
    return [row.nonzero()[:, 0].tolist() for row in mask]


@pytest.mark.parametrize(
    ("num_slots", "keep", "kept"),
    [(10, 0.1, 1), (200, 0.2, 40), (10, 0.9, 9), (3, 0.01, 1), (10, 0.26, 3), (7, 1.0, 7), (100, 0.29, 29)],
)
def test_a_share_rounds_to_the_nearest_and_to_at_least_one(num_slots, keep, kept):
    assert slots_to_keep(num_slots, keep) == kept


def test_each_head_keeps_its_own_highest_scores():
    (kept,) = Uniform()([ranking([[0.5, 0.1, 0.9, 0.3], [0.1, 0.2, 0.3, 0.4]], 2)])
    assert slots(kept) == [[0, 2], [2, 3]]


def test_protected_slots_are_kept_and_counted():
    (kept,) = Uniform()([ranking([[0.0, 0.1, 0.9, 0.3]], 2, protected=[0])])
    assert slots(kept) == [[0, 2]]


def test_half_of_the_budget_can_go_to_the_newest_slots():
    (kept,) = Uniform(recent=0.5)([ranking([[9.0, 8.0, 7.0, 6.0, 0.0, 0.0]], 4)])
    assert slots(kept) == [[0, 1, 4, 5]]


def test_newest_and_protected_slots_share_the_budget():
    # The newest two are slots 4 and 5; slot 5 is protected anyway, so two heavy hitters fit.
    (kept,) = Uniform(recent=0.5)([ranking([[9.0, 8.0, 7.0, 6.0, 0.0, 0.0]], 4, protected=[5])])
    assert slots(kept) == [[0, 1, 4, 5]]
    # With three protected slots one place is left, for the newest.
    (kept,) = Uniform(recent=0.5)([ranking([[9.0, 8.0, 7.0, 6.0, 0.0, 0.0]], 4, protected=[0, 1, 2])])
    assert slots(kept) == [[0, 1, 2, 5]]


def test_padding_is_never_kept_and_a_short_head_keeps_all_it_has():
    (kept,) = Uniform(recent=0.5)([ranking([[0.1, 0.2, 9.0, 9.0], [0.1, 0.2, 0.3, 9.0]], 3, lengths=[2, 4])])
    assert slots(kept) == [[0, 1], [1, 2, 3]]


def test_equal_scores_keep_the_earliest():
    (kept,) = Uniform()([ranking([[1.0] * 50], 3)])
    assert slots(kept) == [[0, 1, 2]]


def test_uniform_holds_one_layer_at_a_time():
    taken = []

    def rankings():
        for index in range(3):
            taken.append(index)
            yield ranking([[1.0, 2.0]], 1)

    assert len(list(islice(Uniform()(rankings()), 1))) == 1
    assert taken == [0]


def test_everything_keeps_all_but_padding():
    (kept,) = Everything()([ranking([[0.1, 0.2, 9.0]], 1, lengths=[2])])
    assert slots(kept) == [[0, 1]]


def test_a_uniform_budget_keeps_important_tokens_alive_where_they_score_best():
    # By scores alone token 0 is gone everywhere; head 0 scores it best and gives up token 2 for it.
    one = ranking([[0.3, 0.9, 0.8, 0.0], [0.2, 0.95, 0.85, 0.1]], 2)
    assert [slots(mask) for mask in Uniform()([one])] == [[[1, 2], [1, 2]]]
    assert [slots(mask) for mask in Uniform(alive=0.75)([one])] == [[[0, 1], [1, 2]]]


def test_the_guard_of_a_uniform_budget_looks_at_all_layers():
    first, second = ranking([[0.5, 7.0, 6.0]], 1), ranking([[0.4, 9.0, 8.0]], 1)
    assert [slots(mask) for mask in Uniform(alive=1.0)([first, second])] == [[[0]], [[1]]]
