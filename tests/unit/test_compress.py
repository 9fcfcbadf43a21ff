"""The stages put together, on a context of 60 tokens: 4 template, 20 visual, 36 text."""

from dataclasses import replace

import pytest
import torch

from flowmm.compress import DEFAULT_KEEP, METHODS, compress
from flowmm.context import Modality
from flowmm.diagnostics import diagnose
from flowmm.errors import UsageError
from flowmm.layer_tensors import rounded
from flowmm.packing import PACKINGS
from flowmm.profiles import load_method, load_profile, method_names
from flowmm.records import LayerFlow
from flowmm.refit import Refit
from flowmm.rotation import Rotation
from flowmm.validation import Rule
from tests.unit.plain_layers import random_context

PROFILE = load_profile()
FULL = random_context()
FLOWMM = load_method("flowmm-paper")


def small(method="knorm", context=FULL, *, profile=PROFILE, **options):
    return compress(context, load_method(method), profile=profile, **options)


def with_flow(*rhos):
    """The context with these flows observed, all of it from visual to text."""
    flows = [LayerFlow(rho, 0, rho / 2, 0) for rho in rhos]
    return replace(FULL, evidence=tuple(replace(e, flow=f) for e, f in zip(FULL.evidence, flows, strict=True)))


def strategies(context, **profile):
    done = small("flowmm-paper", context, profile=PROFILE.model_copy(update=profile), keep=0.5)
    return [layer.strategy for layer in done.provenance.compression.layers]


def test_the_public_names_are_the_shipped_methods():
    assert method_names() == METHODS


@pytest.mark.parametrize(("options", "slots"), [({"keep": 0.25}, 15), ({"keep_tokens": 17}, 17), ({}, 12)])
def test_a_budget_is_a_share_or_a_number(options, slots):
    assert DEFAULT_KEEP == 0.2
    assert [layer.lengths.tolist() for layer in small(**options).layers] == [[slots, slots]] * 3


def test_the_highest_scores_stay_in_the_order_of_the_tokens():
    layer = FULL.layers[0]
    free = ~layer.protected[0]
    best = layer.keys[0].norm(dim=-1).masked_fill(~free, float("inf")).argsort()[: 20 - 6]
    expected = sorted(best.tolist() + layer.protected[0].nonzero()[:, 0].tolist())
    assert small(keep_tokens=20).layers[0].position[0].tolist() == expected


def test_the_newest_slots_and_the_sinks_stay_with_streaming_llm():
    done = small("streaming-llm", keep_tokens=10)
    assert done.layers[0].position[0].tolist() == [0, 1, 2, 3, 54, 55, 56, 57, 58, 59]


def test_h2o_keeps_half_for_the_newest():
    done = small("h2o", keep_tokens=20)
    assert set(range(50, 60)) <= set(done.layers[0].position[0].tolist())


def test_full_keeps_everything_and_takes_no_budget():
    done = small("full")
    assert done.keep == 1
    assert torch.equal(done.layers[0].keys, FULL.layers[0].keys)
    with pytest.raises(UsageError, match="full keeps every slot, but a budget was given"):
        small("full", keep=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0.0}, "keep is 0.0, expected more than 0"),
        ({"keep": -1.0}, "keep is -1.0"),
        ({"keep": 1.5}, "keep is 1.5, expected more than 0 and at most 1"),
        ({"keep": float("nan")}, "keep is nan"),
        ({"keep_tokens": 0}, "keep tokens is 0, expected at least 1"),
        ({"keep": 0.5, "keep_tokens": 3}, "keep 0.5 and keep tokens 3 were both given"),
        ({"keep_tokens": 5}, "5 slots a head in layer 0, but 6 are protected"),
        ({"keep": 0.01}, "0.01 of 60 tokens is 1 slots a head in layer 0, but 6 are protected"),
    ],
)
def test_budgets_that_cannot_be_are_refused_with_numbers(options, message):
    with pytest.raises(UsageError, match=message):
        small(**options)


def test_the_hint_of_a_small_budget_is_the_smallest_that_fits():
    with pytest.raises(UsageError, match=r"at least 0\.1, or 6 tokens"):
        small(keep_tokens=5)
    assert small(keep=0.1).layers[0].lengths.tolist() == [6, 6]


def test_more_tokens_than_there_are_keeps_all():
    assert small(keep_tokens=1000).keep == 1


def test_the_record_says_what_was_asked_and_done():
    done = small("flowmm-paper", keep=0.5, seed=3)
    record = done.provenance.compression
    assert (record.method, record.profile, record.seed) == ("flowmm-paper", "default", 3)
    assert (record.keep_asked, record.keep_reached, done.keep) == (0.5, 0.5, 0.5)
    assert record.method_text == FLOWMM.text
    assert [sum(layer.kept.values()) for layer in record.layers] == [60, 60, 60]
    assert record.layers[0].kept["template"] == 2 * 4
    assert record.layers[0].merged > 0
    assert [layer.flow for layer in record.layers] == [one.flow for one in FULL.evidence]
    assert done.provenance.flow == tuple(one.flow for one in FULL.evidence)
    assert done.evidence is None


def test_progress_counts_layers():
    seen = []
    small(keep=0.5, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_layers_above_theta_are_cross():
    context = with_flow(0.1, 0.3, 0.6)
    assert strategies(context, theta=0.25) == ["intra", "cross", "cross"]
    assert strategies(context, theta=0.25, flow_without_sinks=True) == ["intra", "intra", "cross"]
    assert strategies(context, strategy="intra") == ["intra"] * 3
    assert strategies(context, strategy=["cross", "intra", "cross"]) == ["cross", "intra", "cross"]


def test_methods_that_do_not_merge_by_flow_have_no_strategy():
    assert [layer.strategy for layer in small("snapkv", keep=0.6).provenance.compression.layers] == [None] * 3


def test_a_text_only_context_has_no_flow_and_no_strategy():
    done = small("flowmm-paper", random_context(text_only=True), keep=0.5)
    assert [(layer.strategy, layer.flow) for layer in done.provenance.compression.layers] == [(None, None)] * 3
    assert done.provenance.compression.layers[0].merged > 0


def test_a_list_for_another_number_of_layers_is_refused():
    with pytest.raises(UsageError, match="strategy lists 1 layers, but the model has 3"):
        strategies(FULL, strategy=["cross"])
    with pytest.raises(UsageError, match="layer_budget lists 2 layers, but the model has 3"):
        small(profile=PROFILE.model_copy(update={"layer_budget": [1.0, 2.0]}))


def test_layer_budgets_shift_slots_between_layers():
    profile = PROFILE.model_copy(update={"layer_budget": [1.0, 2.0, 3.0]})
    done = small(keep=0.4, profile=profile)
    assert [layer.lengths.tolist() for layer in done.layers] == [[12, 12], [24, 24], [36, 36]]


def test_a_sliding_layer_first_gives_up_what_no_question_sees():
    # A question's first token, 60, sees the keys after 60 - 25.
    kept = small("random", keep_tokens=30).layers[1].position[0].tolist()
    assert kept[:4] == [0, 1, 2, 3]
    assert kept[-24:] == list(range(36, 60))


def test_out_of_sight_slots_do_not_merge():
    # 24 slots are in sight and kept, 4 are sinks: all that is evicted is out of sight.
    done = small("flowmm-paper", keep_tokens=28)
    assert done.provenance.compression.layers[1].merged == 0
    assert done.provenance.compression.layers[0].merged > 0


def test_an_already_compressed_context_is_said_to_be_one():
    once = small(keep=0.5)
    with pytest.raises(UsageError, match="already compressed, but method snapkv needs reference queries"):
        small("snapkv", once, keep=0.2)


@pytest.mark.parametrize(
    ("method", "lost", "message"),
    [
        ("snapkv", {"queries": FULL.evidence[0].queries[:, :0]}, "snapkv needs reference queries, which were not"),
        ("h2o", {"cumulative": None}, "h2o needs the attention received from all queries, which were not"),
        (
            "meda",
            {"sample": None, "sample_index": None},
            "meda needs queries from all over the context, which were not",
        ),
        ("flowmm-paper", {"flow": None}, "the flow between images and text was not measured"),
    ],
)
def test_missing_evidence_is_named(method, lost, message):
    context = replace(FULL, evidence=tuple(replace(one, **lost) for one in FULL.evidence))
    with pytest.raises(UsageError, match=message):
        small(method, context)


def test_merging_unrotated_keys_needs_the_rotation_of_every_layer():
    method = load_method("look-m").model_copy(update={"merge": Rule(rule="pivotal", unrotated=True)})
    with pytest.raises(UsageError, match=r"look-m needs the rotation of the keys .*, which were not recorded"):
        compress(FULL, method, profile=PROFILE)
    angle = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    rotation = Rotation(angle.cos(), angle.sin(), torch.arange(8).view(4, 2))
    known = replace(FULL, evidence=tuple(replace(one, rotation=rotation) for one in FULL.evidence))
    done, plain = compress(known, method, profile=PROFILE), small("look-m", known)
    assert done.evidence is None
    assert done.provenance.compression.layers[0].merged > 0
    assert not torch.equal(done.layers[0].keys, plain.layers[0].keys)
    assert torch.equal(done.layers[0].position, plain.layers[0].position)


def test_a_refit_needs_two_reference_queries_and_takes_them_from_tail_or_sample():
    method = load_method("knorm").model_copy(update={"refit": {}})
    bare = {"sample": None, "sample_index": None}

    def refitted(**lost):
        context = replace(FULL, evidence=tuple(replace(one, **lost) for one in FULL.evidence))
        return compress(context, method, profile=PROFILE, keep=0.3).provenance.compression.layers[0].heads_refitted

    first = FULL.evidence[0]
    one = {"queries": first.queries[:, -1:], "query_index": first.query_index[-1:]}
    with pytest.raises(UsageError, match="knorm needs at least two reference queries, which were not recorded"):
        refitted(**one, **bare)
    assert refitted(**bare) is not None
    assert refitted(**one) is not None


def test_a_context_with_ragged_heads_can_be_compressed_again():
    once = small(keep_tokens=30)
    layers = []
    for layer in once.layers:
        lengths = torch.tensor([30, 20])
        layers.append(replace(layer, lengths=lengths))  # the second head's last ten slots become padding
    again = small("keydiff", replace(once, layers=tuple(layers)), keep_tokens=25)
    assert [layer.lengths.tolist() for layer in again.layers] == [[25, 20]] * 3
    first = again.layers[0]
    assert torch.equal(first.keys[1, :20], layers[0].keys[1, :20])
    assert not first.keys[1, 20:].any()
    assert again.keep == pytest.approx((25 + 20) / 120)


def test_flow_is_carried_on_by_a_second_compression():
    again = small("random", small(keep=0.5), keep=0.3)
    assert again.provenance.flow == tuple(one.flow for one in FULL.evidence)


def test_flow_that_was_recorded_earlier_fills_in_what_was_not_observed():
    recorded = LayerFlow(0.9, 0, 0, 0)
    unseen = tuple(replace(one, flow=None) for one in FULL.evidence)
    context = replace(FULL, evidence=unseen, provenance=replace(FULL.provenance, flow=(recorded,) * 3))
    assert strategies(context) == ["cross"] * 3


def test_random_draws_differ_between_layers_and_seeds():
    first, other = small("random", seed=1), small("random", seed=2)
    assert first.layers[0].position.tolist() != first.layers[2].position.tolist()
    assert first.layers[0].position.tolist() != other.layers[0].position.tolist()


def test_modalities_are_counted_by_name():
    kept = small(keep_tokens=60).provenance.compression.layers[0].kept
    assert kept == {"text": 2 * 36, "visual": 2 * 20, "template": 2 * 4}
    assert set(kept) == {modality.name.lower() for modality in Modality}


def test_the_refit_sees_keys_as_they_come_back_from_the_file_and_leaves_them_unrounded():
    method = load_method("knorm").model_copy(update={"refit": {}})
    context = random_context(200)
    plain = compress(context, method, profile=PROFILE, keep=0.3)
    coarse = compress(context, method, profile=PROFILE, keep=0.3, packing=PACKINGS["int3"])
    for one, other in zip(plain.layers, coarse.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.position, other.position)
    assert any(
        not torch.equal(one.values, other.values) for one, other in zip(plain.layers, coarse.layers, strict=True)
    )


def test_values_fitted_to_rounded_keys_lose_less_once_the_keys_are_rounded():
    method = load_method("knorm").model_copy(update={"refit": {"bias": False}})
    context = random_context(200)

    def error(packing):
        """Of keys of three bits and values as they were fitted."""
        small = compress(context, method, profile=PROFILE, keep=0.5, packing=packing)
        keys = rounded(small, PACKINGS["int3"]).layers
        layers = tuple(replace(one, keys=other.keys) for one, other in zip(small.layers, keys, strict=True))
        return diagnose(context, replace(small, layers=layers), Refit(), 0).error_mean

    assert error(PACKINGS["int3"]) < error(None)


def test_what_was_lost_counts_what_rounding_loses():
    context, errors = random_context(200), {}
    for name in ("fp32", "int4", "rot2"):
        small = compress(context, load_method("full"), profile=PROFILE, packing=PACKINGS[name])
        errors[name] = small.provenance.compression.diagnostics.error_mean
    assert errors["fp32"] == 0 < errors["int4"] < errors["rot2"]


def test_the_share_of_the_kept_slots_that_scores_highest_is_the_first_of_three_tiers():
    context, method = random_context(200), load_method("knorm")
    assert all(layer.important is None for layer in compress(context, method, profile=PROFILE, keep=0.3).layers)
    tiered = compress(context, method.model_copy(update={"exact": 0.25}), profile=PROFILE, keep=0.3)
    coarse = rounded(tiered, PACKINGS["int3"])
    for layer, found in zip(tiered.layers, coarse.layers, strict=True):
        hidden = layer.protected if layer.window is None else layer.position < 200 - layer.window
        norms = layer.keys.norm(dim=-1).masked_fill(hidden | layer.protected, torch.inf)  # knorm: short keys score high
        count = round(0.25 * int((~layer.protected[0]).sum()))
        for head, of_head in enumerate(layer.important):
            assert of_head.nonzero()[:, 0].tolist() == sorted(norms[head].argsort()[:count].tolist())
        assert torch.equal(found.keys[layer.exact], layer.keys[layer.exact].bfloat16().float())
        assert not torch.equal(found.keys[~layer.exact], layer.keys[~layer.exact].bfloat16().float())


def test_a_tier_of_16_bits_loses_less():
    context, errors = random_context(200), []
    for share in (0.0, 0.5, 1.0):
        method = load_method("knorm").model_copy(update={"exact": share})
        small = compress(context, method, profile=PROFILE, keep=0.9, packing=PACKINGS["rot2"])
        errors.append(small.provenance.compression.diagnostics.error_mean)
    assert errors[0] > errors[1] > errors[2]
