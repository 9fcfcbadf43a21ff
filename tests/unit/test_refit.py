"""Bias and values after a refit: exact where the answer is known, never worse than before, protected slots as is."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from flowmm.context import Evidence, LayerCache
from flowmm.merges.selection import take
from flowmm.references import references, split
from flowmm.refit import Refit, ridge_values, weights
from tests.unit.plain_layers import P, layer

LOW, HIGH = math.exp(-3), math.exp(3)
NUM_TOKENS = 160


def exact_weights(phi, mass, free):
    """Every slot at the lower end, at the upper end or in between: the best of what the box allows; one head."""
    best, best_error = None, math.inf
    for state in itertools.product(*[("low", "high", "inside") if one else ("fixed",) for one in free.tolist()]):
        found = torch.tensor([{"low": LOW, "high": HIGH}.get(one, 1.0) for one in state], dtype=torch.float64)
        inside = torch.tensor([one == "inside" for one in state])
        if inside.any():
            rest = mass.double() - phi.double()[:, ~inside] @ found[~inside]
            found[inside] = torch.linalg.lstsq(phi.double()[:, inside], rest[:, None]).solution[:, 0]
        error = float((phi.double() @ found - mass).norm())
        if error < best_error and bool(((found >= LOW - 1e-9) & (found <= HIGH + 1e-9)).all()):
            best, best_error = found, error
    return best


def structured(seed: int, *, num_tokens: int = NUM_TOKENS, dtype=torch.float32):
    """A layer as models have them (a sink, keys and values by topic, a common offset) and queries about topics."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    topics, common, meanings = draw(2, 8, 16), 2 * draw(2, 1, 16), draw(2, 8, 16)
    topic = torch.randint(8, (2, num_tokens // 4), generator=generator).repeat_interleave(4, 1)
    index = topic[..., None].expand(-1, -1, 16)
    keys = topics.gather(1, index) * 1.5 + 0.5 * draw(2, num_tokens, 16) + common
    values = meanings.gather(1, index) + 0.5 * draw(2, num_tokens, 16)
    asked = torch.randint(8, (2, 2, 100), generator=generator)
    queries = 2 * topics[torch.arange(2)[:, None, None], asked] + draw(2, 2, 100, 16) + keys[:, None, :1]
    token = torch.randint(num_tokens // 4, num_tokens, (100,), generator=generator).sort().values
    made = layer(keys.tolist(), values=values.tolist(), position=torch.arange(num_tokens).repeat(2, 1).tolist())
    full = replace(made, keys=made.keys.to(dtype), values=made.values.to(dtype))
    return full, Evidence(queries.reshape(4, 100, 16).to(dtype), token, 0.25)


def evicted(full: LayerCache, seed: int = 0, keep: float = 0.1) -> LayerCache:
    """The protected slots and some by chance."""
    chance = torch.rand(full.position.shape, generator=torch.Generator().manual_seed(seed)) + full.protected
    count = round(keep * full.position.shape[1])
    return take(full, torch.zeros_like(chance, dtype=torch.bool).scatter_(1, chance.topk(count, dim=1).indices, True))


def output(queries, token, scale, of):
    """Attention output ``[H_kv, G, N, D]`` by the book."""
    logits = torch.einsum(
        "hgnd,hsd->hgns", queries.float().view(of.keys.shape[0], -1, *queries.shape[1:]), of.keys.float()
    )
    logits = logits * scale + (0 if of.bias is None else of.bias[:, None, None])
    hidden = (of.position[:, None] > token[None, :, None]) | of.padding[:, None]
    return logits.masked_fill(hidden[:, None], float("-inf")).softmax(-1) @ of.values.float()[:, None]


def held_out_errors(full, small, evidence, options, seed):
    """``[H_kv]`` relative errors on the queries that were not fitted to."""
    _, held = split(
        references(evidence, full.keys.shape[1], torch.device("cpu")), options.queries, options.held_out, seed
    )
    expected, found = (output(held.queries, held.index, held.scale, of) for of in (full, small))
    return (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)


def test_weights_are_the_best_the_box_allows():
    generator = torch.Generator().manual_seed(0)
    phi = torch.rand(60, 6, 3, generator=generator).pow(3)
    mass = (phi @ (8 * torch.randn(60, 3, 1, generator=generator)).exp().clamp(0.01, 40))[..., 0]
    mass += 0.5 * torch.rand(60, 6, generator=generator)
    free = torch.rand(60, 3, generator=generator) > 0.2
    found = weights(phi, mass, free, iterations=3000)
    expected = torch.stack([exact_weights(*one) for one in zip(phi, mass, free, strict=True)]).float()
    assert torch.allclose(found, expected, atol=2e-2, rtol=1e-3)
    assert (found[~free] == 1).all()
    kinds = [
        (found <= LOW + 1e-6)[free].any(),
        (found >= HIGH - 1e-4)[free].any(),
        ((found > 0.1) & (found < 10))[free].any(),
    ]
    assert all(kinds), "the draw does not touch both ends of the box and its inside"


def test_a_missing_mass_goes_to_the_slot_that_is_free():
    # One row: 1 from the fixed slot, 1 from the free one, 5 wanted: the free one has to give 4.
    phi, mass = torch.ones(1, 1, 2), torch.tensor([[5.0]])
    assert weights(phi, mass, torch.tensor([[False, True]]), 50)[0].tolist() == pytest.approx([1, 4])


def test_a_slot_nobody_sees_keeps_its_weight():
    phi = torch.tensor([[[1.0, 0.0], [0.5, 0.0]]])
    found = weights(phi, torch.tensor([[3.0, 1.5]]), torch.tensor([[True, True]]), 50)
    assert found[0].tolist() == pytest.approx([3, 1])


def test_one_of_m_equal_slots_gets_log_m():
    keys = [[[float(i == j) for j in range(5)] for i in range(4)] + [[0, 0, 0, 0, 1.0]] * 6]
    full = layer(keys, position=[list(range(10))])
    small = take(full, full.position <= 4)  # the four sinks and one of six equal slots
    queries = torch.randn(1, 20, 5, generator=torch.Generator().manual_seed(0))
    evidence = Evidence(queries, torch.full((20,), 9), 1.0)
    done = Refit(values=False)(full, small, evidence, 10, 0)
    assert done.layer.bias[0].tolist() == pytest.approx([0, 0, 0, 0, math.log(6)], abs=1e-4)
    assert (done.heads, done.error_after) == (1, pytest.approx(0, abs=1e-4))
    assert done.error_before > 0.1


def test_a_bias_from_merging_is_added_to():
    keys = [[[float(i == j) for j in range(5)] for i in range(4)] + [[0, 0, 0, 0, 1.0]] * 6]
    full = layer(keys, position=[list(range(10))])
    small = replace(take(full, full.position <= 4), bias=torch.tensor([[0, 0, 0, 0, math.log(2)]]))
    evidence = Evidence(torch.randn(1, 20, 5, generator=torch.Generator().manual_seed(0)), torch.full((20,), 9), 1.0)
    done = Refit(values=False)(full, small, evidence, 10, 0)
    assert done.layer.bias[0].tolist() == pytest.approx([0, 0, 0, 0, math.log(6)], abs=1e-4)


@pytest.mark.parametrize("num_rows", [3, 12], ids=["fewer rows than slots", "more"])
def test_values_solve_the_ridge_equations(num_rows):
    generator = torch.Generator().manual_seed(num_rows)
    share = torch.rand(2, num_rows, 5, generator=generator).softmax(-1)
    target, values = (torch.randn(2, rows, 3, generator=generator) for rows in (num_rows, 5))
    free = torch.tensor([[True, True, False, True, True], [True] * 5])
    found = ridge_values(share.clone(), target, values, free, 0.01)
    for head in range(2):
        x, columns = share[head].double(), free[head]
        some, rest = x[:, columns], target[head] - x @ values[head].double()
        normal = some.T @ some + 0.01 * (some.T @ some).diagonal().mean() * torch.eye(int(columns.sum()))
        expected = values[head].double()
        expected[columns] += torch.linalg.solve(normal, some.T @ rest)
        assert torch.allclose(found[head].double(), expected, atol=1e-4)
    assert torch.equal(found[0, 2], values[0, 2])


def test_a_strong_ridge_leaves_the_kept_values():
    share, values = torch.eye(2)[None], torch.tensor([[[1.0], [2.0]]])
    found = ridge_values(share, torch.tensor([[[5.0], [5.0]]]), values, torch.tensor([[True, True]]), 1e6)
    assert torch.allclose(found, values, atol=1e-4)


@pytest.mark.parametrize("options", [Refit(), Refit(bias=False), Refit(values=False), Refit(ridge=1e-6)], ids=str)
def test_no_head_ends_worse_than_before_and_most_end_better(options):
    better = []
    for seed in range(12):
        full, evidence = structured(seed)
        small = evicted(full, seed)
        done = options(full, small, evidence, NUM_TOKENS, seed)
        before = held_out_errors(full, small, evidence, options, seed)
        after = held_out_errors(full, done.layer, evidence, options, seed)
        assert bool((after <= before + 1e-5).all())
        assert (done.error_before, done.error_after) == pytest.approx(
            (float(before.mean()), float(after.mean())), abs=1e-4
        )
        assert int((after < before - 1e-5).sum()) == done.heads
        better += (after < before - 1e-5).tolist()
    if options.values and options.ridge > 1e-3:
        assert sum(better) >= 0.9 * len(better)


def test_a_head_that_does_not_improve_stays_to_the_bit():
    """Noise for keys: in some of the heads nothing that is learnt holds for other queries."""
    generator = torch.Generator().manual_seed(5)
    keys, values = (torch.randn(40, 60, 8, generator=generator) for _ in range(2))
    full = layer(keys.tolist(), values=values.tolist(), position=[list(range(60))] * 40)
    evidence = Evidence(torch.randn(40, 12, 8, generator=generator) * 2, torch.full((12,), 59), 1.0)
    small = evicted(full, keep=0.5)
    done = Refit(ridge=1e-4)(full, small, evidence, 60, 0)
    changed = (done.layer.values != small.values).flatten(1).any(1)
    assert int(changed.sum()) == done.heads
    assert 0 < done.heads < 40
    assert torch.equal(done.layer.bias.ne(0).any(1), changed)


def test_nothing_happens_where_nothing_was_lost():
    full, evidence = structured(0)
    done = Refit()(full, full, evidence, NUM_TOKENS, 0)
    assert done.heads == 0
    assert torch.equal(done.layer.values, full.values)
    assert done.layer.bias is None
    assert done.error_before == pytest.approx(0, abs=1e-5)


def test_protected_slots_and_padding_stay_as_they_are():
    full, evidence = structured(3)
    full = replace(full, modality=full.modality.index_fill(1, torch.tensor([50, 51]), P))
    small = evicted(full, keep=0.2)
    small = replace(small, lengths=torch.tensor([32, 20]))
    small = take(small, ~small.padding)
    done = Refit()(full, small, evidence, NUM_TOKENS, 0).layer
    fixed = small.protected | small.padding
    assert fixed.sum(1).tolist() == [4 + 2, 4 + small.protected[1, 4:].sum().item() + 12]
    assert torch.equal(done.values[fixed], small.values[fixed])
    assert not done.bias[fixed].any()
    assert not torch.equal(done.values, small.values)
    assert torch.equal(done.keys, small.keys)


def test_a_sliding_layer_is_fitted_to_what_the_next_token_sees():
    """Of 160 tokens the next one sees those from 121 on; what is before must not matter."""
    full, evidence = structured(4)
    full = replace(full, window=40)
    small = take(full, full.protected | (full.position % 4 == 0))
    done = Refit()(full, small, evidence, NUM_TOKENS, 0)
    elsewhere = (full.position <= 120)[..., None]
    other = replace(full, keys=torch.where(elsewhere, 7.0, full.keys), values=torch.where(elsewhere, -7.0, full.values))
    assert done.heads > 0
    out_of_sight = small.position <= 120
    assert torch.equal(done.layer.values[out_of_sight], small.values[out_of_sight])
    again = Refit()(other, take(other, full.protected | (full.position % 4 == 0)), evidence, NUM_TOKENS, 0)
    assert torch.allclose(again.layer.values[~out_of_sight], done.layer.values[~out_of_sight], atol=1e-4)


def test_where_no_query_sees_a_kept_slot_there_is_no_error():
    full, evidence = structured(0)
    full = replace(full, window=40)
    done = Refit()(full, take(full, full.position < 60), evidence, NUM_TOKENS, 0)
    assert (done.error_before, done.error_after, done.heads) == (None, None, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_finite_and_what_it_is(dtype):
    full, evidence = structured(1, dtype=dtype)
    done = Refit()(full, evicted(full), evidence, NUM_TOKENS, 0)
    assert done.layer.values.dtype == dtype
    assert done.layer.values.isfinite().all()
    assert done.layer.bias.isfinite().all()
    assert done.heads == 2


def test_the_seed_decides():
    full, evidence = structured(2)
    small = evicted(full)
    first, again, other = (Refit()(full, small, evidence, NUM_TOKENS, seed) for seed in (7, 7, 8))
    assert torch.equal(first.layer.values, again.layer.values)
    assert torch.equal(first.layer.bias, again.layer.bias)
    assert not torch.equal(first.layer.values, other.layer.values)


def test_no_more_queries_are_used_than_asked_for():
    full, evidence = structured(2)
    few = Refit(queries=20)(full, evicted(full), evidence, NUM_TOKENS, 0)
    drawn = torch.randperm(100, generator=torch.Generator().manual_seed(0))[:20]
    unused = torch.ones(100, dtype=torch.bool).index_fill(0, drawn, False)
    other = replace(evidence, queries=evidence.queries.masked_fill(unused[:, None], 9.0))
    assert torch.equal(few.layer.values, Refit(queries=20)(full, evicted(full), other, NUM_TOKENS, 0).layer.values)
    assert not torch.equal(few.layer.values, Refit()(full, evicted(full), evidence, NUM_TOKENS, 0).layer.values)
