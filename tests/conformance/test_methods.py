"""What every shipped method must hold, on a random context: GQA, three modalities, a sliding layer, two precisions."""

import copy
from itertools import combinations

import pytest
import torch

from flowmm.compress import METHODS, compress
from flowmm.context import ContextCache, LayerCache, Modality
from flowmm.profiles import load_method, load_profile
from tests.unit.plain_layers import random_context

SLOTS = 18
PROFILE = load_profile()
CONTEXTS = {name: random_context(dtype=getattr(torch, name)) for name in ("float32", "bfloat16")}
EVICTING = [name for name in METHODS if load_method(name).merge.rule == "evict" and not load_method(name).refit]
MERGING = [name for name in METHODS if load_method(name).merge.rule != "evict"]
UNIFORM = [name for name in METHODS if load_method(name).budget.rule == "uniform"]
BY_FLOW = [name for name in METHODS if load_method(name).merge.rule == "flow_guided"]


@pytest.fixture(params=METHODS)
def method(request):
    return load_method(request.param)


@pytest.fixture(params=CONTEXTS)
def context(request) -> ContextCache:
    return CONTEXTS[request.param]


def small(context, method, **options) -> ContextCache:
    budget = {} if method.name == "full" else {"keep_tokens": SLOTS}
    return compress(context, method, profile=PROFILE, **budget, **options)


def at(layer: LayerCache, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a full layer at the positions ``[H_kv, K]`` of a small one."""
    index = positions.long()[..., None].expand(-1, -1, layer.keys.shape[-1])
    return layer.keys.gather(1, index), layer.values.gather(1, index)


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_budgets_are_met_exactly_by_every_head(context, name):
    done = small(context, load_method(name))
    assert [layer.lengths.tolist() for layer in done.layers] == [[SLOTS, SLOTS]] * 3


def test_the_budget_is_met_in_total(context, method):
    slots = context.num_tokens if method.name == "full" else SLOTS
    assert sum(layer.num_slots for layer in small(context, method).layers) == 3 * 2 * slots


def test_slots_stay_in_the_order_of_the_tokens_and_know_their_modality(context, method):
    for layer in small(context, method).layers:
        living = ~layer.padding
        assert bool((layer.position.diff(dim=1) > 0)[living[:, 1:]].all())
        assert torch.equal(layer.modality[living], context.modality[layer.position.long()][living])


def test_the_input_stays_as_it_was(context, method):
    before = copy.deepcopy(context)
    small(context, method)
    for old, new in zip(before.layers, context.layers, strict=True):
        assert torch.equal(old.keys, new.keys)
        assert torch.equal(old.values, new.values)
        assert torch.equal(old.position, new.position)
    assert before.provenance == context.provenance
    for old, new in zip(before.evidence, context.evidence, strict=True):
        assert torch.equal(old.queries, new.queries)
        assert torch.equal(old.cumulative, new.cumulative)


def test_protected_slots_come_through_to_the_bit(context, method):
    for full, layer in zip(context.layers, small(context, method).layers, strict=True):
        assert layer.protected.sum(1).tolist() == full.protected.sum(1).tolist()
        keys, values = at(full, layer.position)
        assert torch.equal(layer.keys[layer.protected], keys[layer.protected])
        assert torch.equal(layer.values[layer.protected], values[layer.protected])


def test_numbers_stay_finite_and_in_their_precision(context, method):
    for full, layer in zip(context.layers, small(context, method).layers, strict=True):
        assert layer.keys.isfinite().all()
        assert layer.values.isfinite().all()
        assert (layer.keys.dtype, layer.values.dtype) == (full.keys.dtype, full.values.dtype)
        assert layer.window == full.window


def test_the_same_seed_gives_the_same_cache(context, method):
    first, again = small(context, method, seed=5), small(context, method, seed=5)
    for one, other in zip(first.layers, again.layers, strict=True):
        assert torch.equal(one.position, other.position)
        assert torch.equal(one.keys, other.keys)
    assert first.provenance == again.provenance


def test_positions_for_the_question_are_untouched(context, method):
    done = small(context, method)
    assert (done.next_position, done.num_tokens) == (context.next_position, context.num_tokens)
    assert torch.equal(done.modality, context.modality)


@pytest.mark.parametrize("name", EVICTING)
def test_evicting_methods_keep_keys_and_values_to_the_bit(context, name):
    for full, layer in zip(context.layers, small(context, load_method(name)).layers, strict=True):
        keys, values = at(full, layer.position)
        living = ~layer.padding
        assert torch.equal(layer.keys[living], keys[living])
        assert torch.equal(layer.values[living], values[living])


@pytest.mark.parametrize("name", MERGING)
def test_merging_methods_change_some_keys(name):
    context = CONTEXTS["float32"]
    layer = small(context, load_method(name)).layers[0]
    living = ~layer.padding
    assert not torch.equal(layer.keys[living], at(context.layers[0], layer.position)[0][living])


@pytest.mark.parametrize("name", BY_FLOW)
def test_intra_layers_never_mix_modalities(name):
    """Visual slots are 1 along one axis, all others along another: a mixture would show."""
    context = CONTEXTS["float32"]
    visual = (context.modality == Modality.VISUAL)[:, None]
    marked = torch.where(visual, torch.eye(8)[0], torch.eye(8)[1]).expand(2, -1, -1)
    layers = tuple(LayerCache(**(vars(layer) | {"values": marked})) for layer in context.layers)
    for strategy in ("intra", "cross"):
        profile = PROFILE.model_copy(update={"strategy": strategy, "tau": 1.0})
        marked_context = ContextCache(**(vars(context) | {"layers": layers}))
        done = compress(marked_context, load_method(name), profile=profile, keep_tokens=SLOTS)
        mixed = any(bool(((layer.values > 0).sum(-1) > 1).any()) for layer in done.layers)
        assert mixed == (strategy == "cross")


def test_all_methods_differ_from_each_other():
    context = random_context(200)
    done = {
        name: compress(context, load_method(name), profile=PROFILE, keep_tokens=50).layers
        for name in METHODS
        if name != "full"
    }
    for one, other in combinations(done, 2):
        pairs = zip(done[one], done[other], strict=True)
        assert not all(torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values) for a, b in pairs), (one, other)
