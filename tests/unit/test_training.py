"""Training the kept slots: what it must find where the answer is known, and what it must leave alone."""

from dataclasses import replace

import pytest
import torch

from flowmm.merges.selection import take
from flowmm.references import References, attend
from flowmm.refit import Refit
from flowmm.training import Slots, train
from tests.unit.plain_layers import layer
from tests.unit.test_refit import NUM_TOKENS, evicted, held_out_errors, structured

# Two slots of one key, of which one is kept: only twice its mass and the mean of both values gives what the two gave.
TWO = layer([[[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]], values=[[[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]])
ONE = take(TWO, torch.tensor([[True, True, False]]))
QUERIES = References(torch.tensor([[[1.0, 0.0], [2.0, 1.0], [-1.0, 3.0]]]), torch.tensor([102, 102, 102]), 1.0, 103)
FREE = torch.tensor([[False, True]])


def start(of=ONE) -> Slots:
    return Slots(of.keys, torch.ones(of.position.shape), of.values)


def test_it_finds_the_mass_and_the_mean_of_two_slots():
    found = train(QUERIES, TWO, ONE, start(), FREE, 300, 0.1, 0)
    small = replace(ONE, keys=found.keys, values=found.values, bias=found.weight.log())
    wanted, got = attend(QUERIES, TWO), attend(QUERIES, small)
    assert torch.allclose(got.output, wanted.output, atol=0.02)
    assert torch.allclose(got.mass.log() + got.largest, wanted.mass.log() + wanted.largest, atol=0.02)
    assert found.values[0, 1].tolist() == pytest.approx([1, 1], abs=0.1)


def test_slots_that_are_not_free_stay_to_the_bit():
    found = train(QUERIES, TWO, ONE, start(), FREE, 20, 0.05, 0)
    assert torch.equal(found.keys[0, 0], ONE.keys[0, 0])
    assert torch.equal(found.values[0, 0], ONE.values[0, 0])
    assert float(found.weight[0, 0]) == 1
    assert not torch.equal(found.keys[0, 1], ONE.keys[0, 1])


def test_no_steps_change_nothing():
    found = train(QUERIES, TWO, ONE, start(), FREE, 0, 0.05, 0)
    assert torch.equal(found.keys, ONE.keys)
    assert torch.equal(found.values, ONE.values)
    assert found.weight.tolist() == [[1, 1]]


def test_queries_that_see_no_kept_slot_count_for_nothing():
    blind = replace(QUERIES, index=torch.tensor([102, 102, 99]))
    found = train(blind, TWO, ONE, start(), FREE, 10, 0.05, 0)
    assert all(bool(one.isfinite().all()) for one in vars(found).values())


def test_the_same_seed_trains_the_same_even_where_no_gradient_is_kept():
    with torch.no_grad():
        first, again = (train(QUERIES, TWO, ONE, start(), FREE, 5, 0.05, 3) for _ in range(2))
    assert torch.equal(first.keys, again.keys)
    assert not torch.equal(first.keys, ONE.keys)


@pytest.mark.parametrize("seed", range(2))
def test_no_head_ends_worse_and_training_beats_the_solvers(seed):
    full, evidence = structured(seed)
    small = evicted(full, seed)
    solved, trained = Refit(), Refit(steps=60)
    errors = {}
    for name, options in (("solved", solved), ("trained", trained)):
        done = options(full, small, evidence, NUM_TOKENS, seed)
        errors[name] = held_out_errors(full, done.layer, evidence, options, seed)
        assert bool((errors[name] <= held_out_errors(full, small, evidence, options, seed) + 1e-5).all())
        assert torch.equal(done.moved, (done.layer.keys != small.keys).flatten(1).any(1))
    assert float(errors["trained"].mean()) < float(errors["solved"].mean())


def test_a_head_that_training_does_not_help_stays_to_the_bit():
    full, evidence = structured(1)
    small = evicted(full, 1)
    done = Refit(bias=False, values=False, steps=1, rate=50.0)(full, small, evidence, NUM_TOKENS, 0)
    assert done.heads == 0
    assert torch.equal(done.layer.keys, small.keys)
    assert torch.equal(done.layer.values, small.values)
    assert done.layer.bias is None
