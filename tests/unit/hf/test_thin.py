"""Linear layers of few rows give what they gave before, through batched products."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from flowmm.hf import thin
from flowmm.hf.thin import copy_thin_weights, restore_products, spread_thin_products


class Model(nn.Module):
    """What a language model has: a decoder and a head."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer, self.other = layer, nn.Linear(4, 4)

    def get_decoder(self) -> nn.Module:
        return self.layer

    def get_output_embeddings(self) -> None:
        return None


@pytest.fixture
def copies(monkeypatch):
    """The weights that were copied into oneDNN's order."""
    made, copy = [], thin.reordered
    monkeypatch.setattr(thin, "reordered", lambda weight, rows: made.append(weight) or copy(weight, rows))
    with torch.no_grad():
        yield made


def spread(layer: nn.Linear) -> nn.Linear:
    spread_thin_products(Model(layer))
    copy_thin_weights(Model(layer))
    return layer


def test_only_decoder_and_head_are_changed_and_are_restored():
    model = Model(nn.Linear(4, 4))
    spread_thin_products(model)
    assert ("forward" in vars(model.layer), "forward" in vars(model.other)) == (True, False)
    restore_products(model)
    assert "forward" not in vars(model.layer)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("features", [48, 22, 2])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (3, 1), (2, 5), (65, 1), (0, 4)])
def test_a_product_is_what_it_was(shape, features, bias):
    torch.manual_seed(features)
    layer = nn.Linear(40, features, bias=bias)
    x = torch.randn(*shape, 40)
    found = spread(deepcopy(layer))(x)
    assert found.shape == (*shape, features)
    assert found.is_contiguous()  # what some models take a view of
    torch.testing.assert_close(found, layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 1), (1, 16), (64,)])
def test_a_product_stays_what_it_was_from_the_second_time_on(shape, bias, copies):
    torch.manual_seed(0)
    layer = nn.Linear(40, 48, bias=bias)
    found = spread(deepcopy(layer))
    for time in range(3):
        x = torch.randn(*shape, 40)
        torch.testing.assert_close(found(x), layer(x), atol=1e-5, rtol=1e-5)
        assert found(x).is_contiguous()
        assert len(copies) == 1, time


@pytest.mark.parametrize("rows", [1, 3, 65])
def test_a_row_or_two_and_many_need_no_copy(rows, copies):
    layer = spread(nn.Linear(8, 32))
    for _ in range(3):
        layer(torch.ones(rows, 8))
    assert not copies


def test_only_what_is_asked_for_is_copied(copies):
    layer = nn.Linear(8, 32)
    spread_thin_products(Model(layer))
    for _ in range(3):
        layer(torch.ones(8, 8))
    assert not copies


def test_what_asks_once_needs_no_copy(copies):
    spread(nn.Linear(8, 32))(torch.ones(8, 8))
    assert not copies


def test_a_large_model_does_without_copies(monkeypatch, copies):
    monkeypatch.setattr(thin, "_MOST_COPIED", 2 * 8 * 32 * 4 - 1)
    model = Model(nn.Sequential(nn.Linear(8, 32), nn.Linear(8, 32)))
    spread_thin_products(model)
    copy_thin_weights(model)
    for layer in model.layer:
        for _ in range(3):
            layer(torch.ones(8, 8))
    assert not copies


def test_few_rows_go_as_one_batch_and_many_as_before(monkeypatch):
    layer = spread(nn.Linear(8, 32))
    plain = []
    monkeypatch.setattr(F, "linear", lambda *given: plain.append(given) or torch.zeros(1))
    layer(torch.ones(64, 8))
    assert not plain
    layer(torch.ones(65, 8))
    assert len(plain) == 1


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(8, 8, dtype=torch.bfloat16),
        nn.Linear(8, 7),
        nn.Linear(8, 8, device="meta"),
        type("Own", (nn.Linear,), {})(8, 8),
    ],
    ids=["bf16", "odd", "no CPU", "a class of its own"],
)
def test_other_layers_are_left_alone(layer):
    assert "forward" not in vars(spread(layer))


def test_twice_is_as_once():
    layer = spread(nn.Linear(8, 8))
    forward = layer.forward
    assert spread(layer).forward is forward


def test_a_build_without_mkl_is_left_alone(monkeypatch):
    monkeypatch.setattr(thin.torch.backends.mkl, "is_available", lambda: False)
    assert "forward" not in vars(spread(nn.Linear(8, 8)))


@pytest.mark.parametrize("rows", [1, 8])
def test_weights_that_are_changed_count(rows):
    layer = spread(nn.Linear(8, 8))
    x = torch.randn(rows, 8)
    for _ in range(2):
        for _ in range(2):
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
        with torch.no_grad():
            layer.weight.mul_(2)


@pytest.mark.parametrize("rows", [2, 8])
def test_gradients_go_through(rows):
    layer = spread(nn.Linear(8, 8))
    for _ in range(2):
        x = torch.randn(rows, 8, requires_grad=True)
        layer(x).sum().backward()
        torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(rows, -1))
    assert layer.weight.grad is not None
