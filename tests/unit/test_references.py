"""What reference queries see, against the explicit map; and how they are parted."""

from dataclasses import replace

import pytest
import torch

from flowmm import blocks
from flowmm.context import Evidence
from flowmm.references import References, attend, logit_blocks, references, split
from tests.unit.plain_layers import layer

T = 40


def random_layer(window=None):
    """Two heads of 12 and 9 slots, anywhere among the first 30 tokens, one of them with a bias."""
    generator = torch.Generator().manual_seed(1)
    keys, values = (torch.randn(2, 12, 4, generator=generator) for _ in range(2))
    position = torch.stack([torch.randperm(30, generator=generator)[:12].sort().values for _ in range(2)])
    bias = torch.zeros(2, 12).index_fill(1, torch.tensor([5]), 1.5)
    lengths = [12, 9]
    made = layer(keys.tolist(), values=values.tolist(), lengths=lengths, position=position.tolist(), window=window)
    return replace(made, bias=bias)


def random_references(num_queries=7):
    queries = torch.randn(6, num_queries, 4, generator=torch.Generator().manual_seed(2))
    return References(queries, torch.tensor([3, 8, 15, 20, 29, 33, 39][:num_queries]), 0.7, T)


def explicit(found, of):
    """Weights ``[H_kv, G, N, S]`` by the book; rows that see nothing are zero."""
    logits = (
        torch.einsum("hgnd,hsd->hgns", found.queries.view(2, 3, -1, 4), of.keys) * found.scale + of.bias[:, None, None]
    )
    token, position = found.index[None, :, None], of.position[:, None]
    seen = (position <= token) & ~of.padding[:, None]
    if of.window is not None:
        seen = seen & (position > token - of.window) & (position > T - of.window)
    return logits.masked_fill(~seen[:, None], float("-inf")).softmax(-1).nan_to_num(0)


@pytest.mark.parametrize("max_bytes", [2**25, 2048 * 5, 100])  # one block; slots in blocks of 5; of 1
@pytest.mark.parametrize("window", [None, 25])
def test_attention_in_blocks_is_the_explicit_one(monkeypatch, window, max_bytes):
    monkeypatch.setattr(blocks, "MAX_BYTES", max_bytes)
    found, of = random_references(), random_layer(window)
    expected = explicit(found, of)
    seen = attend(found, of)
    assert torch.allclose(seen.output[0], torch.einsum("hgns,hsd->hgnd", expected, of.values), atol=1e-5)
    best = expected.max(-1)
    favourite = of.position[:, None, None].expand(expected.shape).gather(-1, best.indices[..., None])[..., 0]
    assert torch.equal(seen.favourite, torch.where(best.values > 0, favourite, -1))
    assert torch.equal(seen.mass > 0, best.values > 0)
    if window is not None:
        assert not seen.mass[:, :, 0].any()  # the query of token 3 sees nothing that token 40 sees, too


def test_blocks_really_are_small(monkeypatch):
    monkeypatch.setattr(blocks, "MAX_BYTES", 2048 * 5)
    sizes = {
        (rows.stop - rows.start, part.shape[-1]) for rows, _, part in logit_blocks(random_references(), random_layer())
    }
    assert sizes == {(7, 5), (7, 2)}


def test_classes_add_up_to_the_output():
    found, of = random_references(), random_layer()
    even = of.position % 2 == 0
    parts = attend(found, of, torch.stack([even, ~even])).output
    assert torch.allclose(parts.sum(0), attend(found, of).output[0], atol=1e-5)
    nothing = replace(of, values=of.values * ~even[..., None])
    assert torch.allclose(parts[1], attend(found, nothing).output[0], atol=1e-5)


def test_a_slot_with_a_bias_of_log_2_is_the_slot_twice():
    once = layer([[[1.0], [2.0]]], position=[[0, 1]], bias=[[0.0, 0.6931472]])
    twice = layer([[[1.0], [2.0], [2.0]]], position=[[0, 1, 1]])
    found = References(torch.tensor([[[0.5], [-1.0]]]), torch.tensor([4, 5]), 1.0, 6)
    one, other = attend(found, once), attend(found, twice)
    assert torch.allclose(one.output, other.output)
    assert torch.allclose(one.mass * one.largest.exp(), other.mass * other.largest.exp())


def test_each_token_is_a_reference_once():
    evidence = Evidence(
        queries=torch.tensor([[[8.0], [9.0]]]),
        query_index=torch.tensor([8, 9]),
        scale=1.0,
        sample=torch.tensor([[[1.0], [5.0], [9.0]]]),
        sample_index=torch.tensor([1, 5, 9]),
    )
    found = references(evidence, 10, torch.device("cpu"))
    assert found.index.tolist() == [1, 5, 8, 9]
    assert found.queries[0, :, 0].tolist() == [1, 5, 8, 9]
    assert evidence.num_references == 4
    assert references(replace(evidence, sample=None, sample_index=None), 10, torch.device("cpu")).index.tolist() == [
        8,
        9,
    ]


def test_held_out_queries_are_not_fitted_to():
    found = References(torch.arange(10.0).view(1, 10, 1), torch.arange(10), 1.0, 10)
    fit, held = split(found, 10, 0.2, seed=0)
    assert sorted(fit.index.tolist() + held.index.tolist()) == list(range(10))
    assert (len(fit.index), len(held.index)) == (8, 2)
    assert held.queries[0, :, 0].tolist() == held.index.tolist()
    again, other = split(found, 10, 0.2, seed=0)[1], split(found, 10, 0.2, seed=1)[1]
    assert held.index.tolist() == again.index.tolist() != other.index.tolist()


@pytest.mark.parametrize(
    ("most", "share", "sizes"), [(6, 0.5, (3, 3)), (6, 0.01, (5, 1)), (6, 0.99, (1, 5)), (1, 0.5, (0, 1))]
)
def test_of_two_or_more_queries_one_is_held_out_and_one_is_not(most, share, sizes):
    found = References(torch.zeros(1, 10, 1), torch.arange(10), 1.0, 10)
    fit, held = split(found, most, share, seed=3)
    assert (len(fit.index), len(held.index)) == sizes
