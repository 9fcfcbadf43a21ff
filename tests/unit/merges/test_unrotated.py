"""Rules that average keys, on keys that were turned by a quarter from token to token."""

from dataclasses import replace

import pytest
import torch

from flowmm.merges import MERGES
from flowmm.merges.d2o import D2O
from flowmm.merges.flow_guided import FlowGuided
from flowmm.merges.gaussian import Gaussian
from flowmm.merges.nearest import Mean, Pivotal
from flowmm.rotation import Rotation
from tests.unit.merges.test_merges import FIVE, selection

ANGLE = torch.arange(105)[:, None] * torch.pi / 2  # slot 0 is token 100: no turn; slot 1: a quarter; slot 2: a half
ROTATION = Rotation(ANGLE.cos().round(), ANGLE.sin().round(), torch.tensor([[0, 1]]))
TURNED = replace(FIVE, keys=ROTATION.applied(FIVE.keys, FIVE.position))  # the values are the keys before
RULES = [Mean, Pivotal, FlowGuided, D2O, Gaussian]


def turned(**options):
    return replace(selection(TURNED, **options), rotation=ROTATION)


def test_the_layer_is_what_the_tests_say_it_is():
    expected = torch.tensor([[[2.0, 0.0], [-2.0, 0.0], [-1.0, -0.1], [0.1, -3.0], [0.1, 1.0]]])
    assert torch.equal(TURNED.keys, expected)


def test_the_mean_is_of_unrotated_keys_and_turned_to_its_pivot():
    # As if nothing were turned, slots 2 and 3 join pivot 0: (6, 0.2) / 3. Slot 4 joins pivot 1: (0.05, 1.5),
    # which a quarter turn makes (-1.5, 0.05).
    small, merged = Mean(unrotated=True)(turned())
    assert small.keys[0].tolist() == [pytest.approx([6 / 3, 0.2 / 3]), pytest.approx([-1.5, 0.05])]
    assert small.values[0].tolist() == [pytest.approx([6 / 3, 0.2 / 3]), pytest.approx([0.05, 1.5])]
    assert merged == 3


def test_without_the_switch_keys_are_taken_as_they_are():
    # Slot 2 is nearest to pivot 1, slots 3 and 4 to pivot 0.
    small, _ = Mean()(turned())
    assert small.keys[0].tolist() == [pytest.approx([2.2 / 3, -2 / 3]), pytest.approx([-1.5, -0.05])]
    assert small.values[0, 1].tolist() == pytest.approx([0.5, 2.1 / 2])


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_does_to_turned_keys_what_it_does_to_plain_ones(rule):
    plain, joined = rule()(selection())
    small, merged = rule(unrotated=True)(turned())
    assert torch.allclose(small.keys, ROTATION.applied(plain.keys, plain.position), atol=1e-6)
    assert torch.allclose(small.values, plain.values)
    assert merged == joined > 0


@pytest.mark.parametrize("rule", RULES)
def test_slots_that_receive_nothing_keep_their_bits(rule):
    angle = torch.rand(105, 1, generator=torch.Generator().manual_seed(0)) * 6
    rotation = Rotation(angle.cos(), angle.sin(), torch.tensor([[0, 1]]))
    chosen = replace(selection(protected=[0, 1]), rotation=rotation)  # what is kept is protected
    assert torch.equal(rule(unrotated=True)(chosen)[0].keys, FIVE.keys[:, :2])


def test_sixteen_bit_keys_stay_sixteen_bit():
    half = replace(TURNED, keys=TURNED.keys.bfloat16())
    small, _ = FlowGuided(unrotated=True)(replace(selection(half), rotation=ROTATION))
    assert small.keys.dtype == torch.bfloat16


def test_only_the_switch_needs_the_rotation():
    assert [rule().needs for rule in RULES] == [set(), set(), {"flow"}, set(), set()]
    assert all("rotation" in rule(unrotated=True).needs for rule in RULES)
    assert {name for name, rule in MERGES.items() if not hasattr(rule, "unrotated")} == {"evict", "mass_fold"}
