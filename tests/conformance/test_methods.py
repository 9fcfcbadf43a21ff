"""What every method must hold, on contexts read by the embedded reader and by tiny models: GQA, mRoPE, sliding layers.

A method that is added to profiles/methods joins by itself.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from flowmm.compress import METHODS, compress
from flowmm.context import ContextCache, LayerCache, Modality
from flowmm.profiles import Method, load_method
from flowmm.rules import build_rules
from tests.conformance.readings import KEEP, MODELS, PROFILE, SEED, SEEING, Readings, made_small, slots_asked

RULES = {name: build_rules(load_method(name)) for name in METHODS}
RULE_NAMES = {name: (load_method(name).budget.rule, load_method(name).merge.rule) for name in METHODS}
UNIFORM = [name for name, (budget, _) in RULE_NAMES.items() if budget == "uniform"]
MERGING = [name for name, (_, merge) in RULE_NAMES.items() if merge != "evict"]
EVICTING = [name for name in METHODS if name not in MERGING and RULES[name].refit is None]
BY_FLOW = [name for name in METHODS if "flow" in RULES[name].merge.needs]
# Pairs of methods that are meant to do the same, each with the reason.
EQUAL: dict[frozenset[str], str] = {}

each_method = pytest.mark.parametrize("name", METHODS)
each_model = pytest.mark.parametrize("model", MODELS)


def same(one: object, other: object) -> bool:
    """Equal in every tensor and every other field."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def at(layer: LayerCache, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of a full layer at the positions ``[H_kv, K]`` of a small one."""
    index = positions.long()[..., None].expand(-1, -1, layer.keys.shape[-1])
    return layer.keys.gather(1, index), layer.values.gather(1, index)


def changed(full: LayerCache, small: LayerCache) -> Tensor:
    """``[H_kv, K]`` bool: the slots whose key or value is not the full layer's any more."""
    keys, values = at(full, small.position)
    return ((small.keys != keys) | (small.values != values)).any(-1) & ~small.padding


@each_model
@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_budgets_are_met_exactly_by_every_head(readings: Readings, model: str, name: str) -> None:
    slots = slots_asked(readings.context(model, load_method(name)), load_method(name))
    for layer in readings.small(model, name).layers:
        assert layer.lengths.tolist() == [slots] * layer.keys.shape[0]


@each_model
@each_method
def test_the_budget_is_met_in_total(readings: Readings, model: str, name: str) -> None:
    full, small = readings.context(model, load_method(name)), readings.small(model, name)
    asked = slots_asked(full, load_method(name)) * sum(layer.keys.shape[0] for layer in full.layers)
    assert abs(sum(layer.num_slots for layer in small.layers) - asked) <= len(full.layers)


@each_model
@each_method
def test_slots_stay_in_the_order_of_the_tokens_and_know_their_modality(
    readings: Readings, model: str, name: str
) -> None:
    small = readings.small(model, name)
    for layer in small.layers:
        living = ~layer.padding
        assert bool((layer.position.diff(dim=1) > 0)[living[:, 1:]].all())
        assert torch.equal(layer.modality[living], small.modality[layer.position.long()][living])


@each_model
@each_method
def test_the_input_stays_as_it_was(readings: Readings, model: str, name: str) -> None:
    readings.small(model, name)
    method = load_method(name)
    assert same(readings.context(model, method), readings.untouched(model, method))


@each_model
@each_method
def test_protected_slots_come_through_to_the_bit(readings: Readings, model: str, name: str) -> None:
    context = readings.context(model, load_method(name))
    for full, layer in zip(context.layers, readings.small(model, name).layers, strict=True):
        assert layer.protected.sum(1).tolist() == full.protected.sum(1).tolist()
        assert not changed(full, layer)[layer.protected].any()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@each_model
@each_method
def test_numbers_stay_finite_and_in_their_precision(readings: Readings, model: str, name: str, dtype: str) -> None:
    context = readings.context(model, load_method(name), dtype)
    for full, layer in zip(context.layers, readings.small(model, name, dtype).layers, strict=True):
        assert layer.keys.isfinite().all()
        assert layer.values.isfinite().all()
        assert layer.bias is None or layer.bias.isfinite().all()
        assert (layer.keys.dtype, layer.values.dtype) == (full.keys.dtype, full.values.dtype)
        assert layer.keys.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        assert layer.window == full.window


@each_model
@each_method
def test_the_same_seed_gives_the_same_cache(readings: Readings, model: str, name: str) -> None:
    again = made_small(readings.context(model, load_method(name)), load_method(name), seed=SEED)
    assert same(readings.small(model, name), again)


@each_model
def test_another_seed_draws_other_slots(readings: Readings, model: str) -> None:
    method = load_method("random")
    other = made_small(readings.context(model, method), method, seed=SEED + 1)
    for one, layer in zip(readings.small(model, "random").layers, other.layers, strict=True):
        if layer.window is None:  # of a sliding layer, which keeps what the next token sees, little is left to chance
            assert not torch.equal(one.position, layer.position)
    assert any(layer.window is None for layer in other.layers)


@each_model
@each_method
def test_positions_for_the_question_are_untouched(readings: Readings, model: str, name: str) -> None:
    context, small = readings.context(model, load_method(name)), readings.small(model, name)
    assert (small.next_position, small.num_tokens) == (context.next_position, context.num_tokens)
    assert torch.equal(small.modality, context.modality)


@each_model
@pytest.mark.parametrize("name", EVICTING)
def test_evicting_methods_keep_keys_and_values_to_the_bit(readings: Readings, model: str, name: str) -> None:
    context = readings.context(model, load_method(name))
    for full, layer in zip(context.layers, readings.small(model, name).layers, strict=True):
        assert not changed(full, layer).any()


@each_model
@pytest.mark.parametrize("name", MERGING)
def test_merging_methods_change_slots_where_they_say_so(readings: Readings, model: str, name: str) -> None:
    context, small = readings.context(model, load_method(name)), readings.small(model, name)
    assert small.provenance.compression is not None
    records = small.provenance.compression.layers
    for full, layer, record in zip(context.layers, small.layers, records, strict=True):
        assert bool(changed(full, layer).any()) == (record.merged > 0)
    assert any(record.merged for record in records)


def marked(context: ContextCache, modality: Modality) -> ContextCache:
    """Keys and values of one modality point along an axis in which no other slot, and no query, has a part.

    The axis is in one plane of the rotary embedding, so that it stays there if keys are rotated. The mark is small, so
    that keys are as similar across modalities as they were.
    """

    def cleared(vectors: Tensor) -> Tensor:
        cleared = vectors.clone()
        cleared[..., list(plane(vectors))] = 0
        return cleared

    def marks(slots: Tensor) -> Tensor:
        size = 0.1 * slots.norm(dim=-1).mean()
        marked = cleared(slots)
        marked[:, context.modality == modality, 0] = size
        return marked

    assert context.evidence is not None
    layers = tuple(replace(one, keys=marks(one.keys), values=marks(one.values)) for one in context.layers)
    evidence = tuple(
        replace(one, queries=cleared(one.queries), sample=None if one.sample is None else cleared(one.sample))
        for one in context.evidence
    )
    return replace(context, layers=layers, evidence=evidence)


def plane(vectors: Tensor) -> tuple[int, int]:
    """The two axes that rotate into each other with the first frequency."""
    return 0, vectors.shape[-1] // 2


def spread(context: ContextCache, method: Method, modality: Modality, strategy: str) -> tuple[bool, bool]:
    """Whether the mark of a modality shows in keys, and in values, of slots of another one."""
    profile = PROFILE.model_copy(update={"strategy": strategy, "tau": 1.0})
    layers = compress(marked(context, modality), method, profile=profile, keep=KEEP).layers
    others = [(layer.modality != modality) & ~layer.padding for layer in layers]
    keys, values = (
        any(
            bool(getattr(layer, name)[other][:, list(plane(layer.keys))].any())
            for layer, other in zip(layers, others, strict=True)
        )
        for name in ("keys", "values")
    )
    return keys, values


@pytest.mark.parametrize("modality", [Modality.VISUAL, Modality.TEXT])
@pytest.mark.parametrize("model", SEEING)
@pytest.mark.parametrize("name", BY_FLOW)
def test_intra_layers_never_mix_modalities(readings: Readings, model: str, name: str, modality: Modality) -> None:
    """A refit would spread values over slots by design; it is left out, as it comes after the merge."""
    method = load_method(name).model_copy(update={"refit": None})
    context = readings.context(model, method)
    assert spread(context, method, modality, "intra") == (False, False)
    assert spread(context, method, modality, "cross") == (True, True)


def test_some_method_merges_by_flow() -> None:
    assert "flowmm-paper" in BY_FLOW


def test_all_methods_differ_from_each_other_on_the_reader(readings: Readings) -> None:
    """In what is kept, or in its keys, values or bias."""
    made = {name: readings.small("reader", name).layers for name in METHODS}
    assert {frozenset(pair) for pair in combinations(METHODS, 2) if same(*(made[name] for name in pair))} == set(EQUAL)
