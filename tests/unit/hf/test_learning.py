"""Logits that gradients flow back from are those that answering gives, and the gradients are those of the slots."""

from dataclasses import replace

import pytest
import torch

from flowmm.context import LayerCache
from flowmm.contexts import read_context
from flowmm.hf.decoding import Decoder, placed
from flowmm.hf.learning import answer_logits
from flowmm.hf.loading import load_model
from flowmm.merges.selection import take
from flowmm.records import Part, Source
from tests.conformance.folders import make_folder

ROWS, STARTS = ((5, 9, 7, 11, 3), (8, 6, 4)), (3, 2)  # questions of three and two tokens, answers of two and one


@pytest.fixture(scope="module", params=["qwen2", "gemma3"])
def read(request, tmp_path_factory):
    folder = make_folder(request.param, tmp_path_factory.mktemp(request.param) / "tiny")
    loaded = load_model(str(folder), device="cpu", dtype="fp32")
    notes = Part("text", "Invoice 3921 for Lufe amounts to 480.20 euros. " * 3, Source("notes.txt", "0" * 64, "text"))
    return loaded, placed(read_context([notes], loaded, None), loaded)


def ragged(layer: LayerCache) -> LayerCache:
    """Every head has lost other slots."""
    kept = torch.stack([(layer.position[head] % (head + 2) != 1) for head in range(len(layer.lengths))])
    small = take(layer, kept | layer.protected)
    return replace(small, bias=0.1 * torch.arange(small.position.shape[1]).float().expand_as(small.position).clone())


def test_logits_are_those_of_answering(read):
    loaded, full = read
    small = replace(full, layers=tuple(map(ragged, full.layers)))
    found = answer_logits(loaded, small.layers, small.next_position, ROWS, STARTS)
    expected = []
    for row, start in zip(ROWS, STARTS, strict=True):
        decoder = Decoder(loaded, small, 1, len(row))
        fed = torch.tensor([row[:-1]])
        expected.append(decoder.feed_columns(fed, torch.ones_like(fed, dtype=torch.bool), len(row) - start)[0])
    assert torch.allclose(found, torch.cat(expected), atol=1e-4)


def test_gradients_reach_keys_values_and_biases_and_not_the_padding(read):
    loaded, full = read
    layers = [ragged(layer) for layer in full.layers]
    leaves = [(one.keys.clone(), one.bias.clone(), one.values.clone()) for one in layers]
    for leaf in (leaf for some in leaves for leaf in some):
        leaf.requires_grad_()
    moved = [
        replace(one, keys=keys, bias=bias, values=values)
        for one, (keys, bias, values) in zip(layers, leaves, strict=True)
    ]
    logits = answer_logits(loaded, moved, full.next_position, ROWS, STARTS)
    logits.log_softmax(-1)[:, 0].sum().backward()
    for layer, some in zip(layers, leaves, strict=True):
        for leaf in some:
            assert leaf.grad.isfinite().all()
            assert leaf.grad[~layer.padding].any()
            assert not leaf.grad[layer.padding].any()


def test_a_gradient_is_the_slope_of_the_logit(read):
    loaded, full = read
    last = full.layers[-1]
    values = last.values.clone().requires_grad_()
    step = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)) * 1e-2

    def logit(of):
        layers = [*full.layers[:-1], replace(last, values=of)]
        return answer_logits(loaded, layers, full.next_position, ROWS, STARTS)[0].log_softmax(-1)[1]

    logit(values).backward()
    slope = float(logit(values.detach() + step) - logit(values.detach() - step)) / 2
    assert slope == pytest.approx(float((values.grad * step).sum()), rel=0.05, abs=1e-4)
