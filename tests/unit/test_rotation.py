"""Turning keys by tables small enough to check by eye."""

import pytest
import torch
from torch import Tensor

from flowmm.hf.rotation import learn
from flowmm.rotation import Rotation, shared

# Three tokens, turned by 0, 90 and 180 degrees in the dimensions 0 and 2 of three.
QUARTERS = Rotation(torch.tensor([[1.0], [0.0], [-1.0]]), torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[0, 2]]))
KEYS = torch.tensor([[[3.0, 5.0, 4.0]] * 3])
TURNED = torch.tensor([[[3.0, 5.0, 4.0], [-4.0, 5.0, 3.0], [-3.0, 5.0, -4.0]]])
IN_ORDER = torch.tensor([[0, 1, 2]], dtype=torch.int32)


def halves(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Dimension d is paired with d + D/2, as in Llama."""

    def turn(x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, -1)
        return x * cos[:, None] + torch.cat([-x2, x1], -1) * sin[:, None]

    return turn(q), turn(k)


def test_pairs_turn_by_the_angle_of_their_token_and_the_rest_stays():
    assert torch.equal(QUARTERS.applied(KEYS, IN_ORDER), TURNED)
    assert torch.equal(QUARTERS.undone(TURNED, IN_ORDER), KEYS)


def test_each_head_is_turned_by_the_tokens_of_its_own_slots():
    two = QUARTERS.applied(KEYS[:, :2].repeat(2, 1, 1), torch.tensor([[1, 2], [0, 1]]))
    assert torch.equal(two, torch.stack([TURNED[0, 1:], TURNED[0, :2]]))


def test_what_is_given_stays_and_float32_comes_back():
    keys = KEYS.bfloat16()
    assert QUARTERS.applied(keys, IN_ORDER).dtype == torch.float32
    assert torch.equal(keys, KEYS.bfloat16())
    before = KEYS.clone()
    QUARTERS.applied(before, IN_ORDER)
    assert torch.equal(before, KEYS)


def test_a_scaled_rotation_is_undone_with_its_scale():
    twice = Rotation(2 * QUARTERS.cos, 2 * QUARTERS.sin, QUARTERS.pairs)
    assert twice.applied(KEYS, IN_ORDER)[0, 1].tolist() == [-8.0, 5.0, 6.0]
    assert torch.equal(twice.undone(twice.applied(KEYS, IN_ORDER), IN_ORDER), KEYS)


def test_equal_rotations_are_listed_once():
    other = Rotation(QUARTERS.cos, QUARTERS.sin, QUARTERS.pairs)
    assert [one is QUARTERS for one in shared([QUARTERS, None, other, QUARTERS])] == [True, False]


@pytest.mark.parametrize(("pair", "fits"), [([0, 2], True), ([0, 3], False), ([-1, 0], False), ([0, 0], False)])
def test_pairs_are_of_different_dimensions_of_the_head(pair, fits):
    problem = Rotation(QUARTERS.cos, QUARTERS.sin, torch.tensor([pair])).problem(3)
    assert (problem is None) == fits


def test_pairs_and_angles_are_learned_from_the_function_alone():
    # Two pairs, 0 with 2 and 1 with 3, at angles of their own; the tables repeat them, as the function wants it.
    angle = torch.tensor([[0.0, 0.0], [0.5, 0.05]])
    tables = tuple(torch.cat([table, table], -1)[None] for table in (angle.cos(), angle.sin()))
    rotation = learn(halves, tables, 4)
    assert rotation is not None
    assert rotation.pairs.tolist() == [[0, 2], [1, 3]]
    assert torch.allclose(rotation.cos, angle.cos())
    assert torch.allclose(rotation.sin, angle.sin())


def test_a_function_that_turns_nothing_is_not_learned():
    tables = (torch.ones(1, 2, 4), torch.zeros(1, 2, 4))
    assert learn(lambda q, k, cos, sin: (q, k), tables, 4) is None
    assert learn(lambda q, k, cos, sin: (q, -k), tables, 4) is None
