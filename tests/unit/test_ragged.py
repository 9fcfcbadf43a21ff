import pytest
import torch
from torch import tensor

from flowmm.ragged import flat, padded, slots_problem


def test_padding_is_left_out_and_comes_back_as_zeros() -> None:
    slots = tensor([[[1], [2], [3]], [[4], [9], [9]]])  # two heads, of 3 and 1 slots; 9 is padding
    assert flat(slots, [3, 1]).tolist() == [[1], [2], [3], [4]]
    assert padded(flat(slots, [3, 1]), [3, 1]).tolist() == [[[1], [2], [3]], [[4], [0], [0]]]


def test_heads_of_equal_length_are_not_copied() -> None:
    slots = torch.zeros(2, 3, 4)
    assert flat(slots, [3, 3]).data_ptr() == slots.data_ptr()
    assert padded(slots.reshape(6, 4), [3, 3]).data_ptr() == slots.data_ptr()


def test_padding_common_to_all_heads_goes_too() -> None:
    assert flat(tensor([[1, 0], [2, 0]]), [1, 1]).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("position", "bias", "problem"),
    [
        ([[0, 2], [1, 0]], [[0.0, 0.0], [0.7, float("inf")]], None),  # the second head's second slot is padding
        ([[2, 0], [1, 0]], None, "do not increase"),
        ([[1, 1], [1, 0]], None, "do not increase"),
        ([[0, 3], [1, 0]], None, "not one of the 3 tokens"),
        ([[0, 2], [-1, 0]], None, "not one of the 3 tokens"),
        ([[0, 2], [1, 0]], [[0.0, float("nan")], [0.0, 0.0]], "not finite"),
    ],
)
def test_impossible_slots_are_found(
    position: list[list[int]], bias: list[list[float]] | None, problem: str | None
) -> None:
    found = slots_problem(tensor(position), tensor([2, 1]), 3, None if bias is None else tensor(bias))
    assert found is None if problem is None else problem in (found or "")
