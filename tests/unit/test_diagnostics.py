"""What was lost, on numbers that can be checked by hand."""

import math
from dataclasses import replace

import pytest
import torch

from flowmm.compress import compress
from flowmm.context import ContextCache, Evidence
from flowmm.diagnostics import diagnose
from flowmm.merges.selection import take
from flowmm.profiles import load_method, load_profile
from flowmm.records import Diagnostics, LayerLoss
from flowmm.refit import Refit
from tests.unit.plain_layers import P, T, V, layer, random_context
from tests.unit.small_caches import provenance

LOG2 = math.log(2)


def context(*layers, modality, evidence=None) -> ContextCache:
    return ContextCache(layers, torch.tensor(modality, dtype=torch.uint8), len(modality), provenance(), evidence)


def tokens(keys, values, modality):
    """A layer of one head that holds all tokens."""
    count = len(modality)
    return layer([keys], values=[values], position=[list(range(count))], modality=[modality])


def asking(*queries, tokens):
    """One query head."""
    return Evidence(torch.tensor([list(queries)]), torch.tensor(tokens), 1.0)


def test_a_token_is_gone_when_no_layer_and_no_head_holds_it():
    modality = [P, T, V, V, T]
    full = layer([[[0.0]] * 5] * 2, position=[list(range(5))] * 2, modality=[modality] * 2)
    first = take(full, torch.tensor([[0, 0, 1, 0, 0], [0, 1, 0, 0, 0]]).bool())
    second = take(full, torch.tensor([[0, 1, 1, 0, 0], [0, 1, 0, 0, 0]]).bool())  # its second head has padding
    found = diagnose(context(full, full, modality=modality), context(first, second, modality=modality), Refit(), 0)
    assert found.evicted_everywhere == pytest.approx(3 / 5)
    assert found.evicted_everywhere_by_modality == {"text": 0.5, "visual": 0.5, "template": 1.0}
    assert found.layers == (LayerLoss(), LayerLoss())
    assert (found.error_mean, found.error_max) == (None, None)


def test_errors_by_hand():
    """Two tokens of equal weight, values (4, 0) and (0, 2): the output is (2, 1). The second one goes: (4, 0).

    Off by (2, -1) of (2, 1): 1. The text slot adds (4, 0) for (2, 0), off by 2 of sqrt 5; the visual one 1 of sqrt 5.
    """
    full = tokens([[0.0, 0.0], [0.0, 0.0]], [[4.0, 0.0], [0.0, 2.0]], [T, V])
    evidence = (asking([0.0, 0.0], [0.0, 0.0], tokens=[1, 1]),)
    small = take(full, torch.tensor([[True, False]]))
    before = context(full, modality=[T, V], evidence=evidence)
    (found,) = diagnose(before, context(small, modality=[T, V]), Refit(), 0).layers
    assert found.error == pytest.approx(1)
    assert found.error_by_query == pytest.approx({"visual": 1})
    assert found.error_by_slot == pytest.approx({"text": 2 / 5**0.5, "visual": 1 / 5**0.5})


def test_errors_are_apart_by_the_modality_of_the_query():
    """The query of token 0 (text) loses nothing; that of token 1 (visual) loses half of its output."""
    full = tokens([[0.0], [0.0]], [[1.0], [1.0]], [T, V])
    small = replace(full, values=torch.tensor([[[1.0], [0.0]]]))
    evidence = (asking([0.0], [0.0], [0.0], [0.0], tokens=[0, 0, 1, 1]),)
    whole = context(full, modality=[T, V], evidence=evidence)
    by_query = {}
    for seed in range(8):  # half of the four queries are held out
        (found,) = diagnose(whole, context(small, modality=[T, V]), Refit(held_out=0.5), seed).layers
        by_query |= found.error_by_query
    assert by_query == pytest.approx({"text": 0, "visual": 0.5})


def test_head_consensus_counts_the_favourites():
    """Four query heads; two look at token 0, one at token 1, one at token 2: three of four."""
    full = layer([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]], position=[[0, 1, 2]])
    heads = torch.eye(3)[[0, 0, 1, 2]] * 3
    evidence = (Evidence(heads[:, None].expand(4, 2, 3), torch.tensor([2, 2]), 1.0),)
    whole = context(full, modality=[T, T, T], evidence=evidence)
    (found,) = diagnose(whole, whole, Refit(), 0).layers
    assert found.head_consensus == pytest.approx(3 / 4)
    assert found.error == pytest.approx(0)


def test_queries_that_the_next_token_cannot_stand_for_do_not_count():
    """Of ten tokens the next one sees the last two (window 3). The query of token 4 sees neither: it is left out.

    That of token 8 saw 8 alone, which stays. That of 9 saw both, and their values 1 and 3 in equal parts: 2; 1 stays.
    """
    full = tokens([[0.0]] * 10, [[5.0]] * 8 + [[1.0], [3.0]], [T] * 10)
    full = replace(full, window=3)
    small = take(full, torch.arange(10)[None] < 9)
    outcomes = {}
    for token in (4, 8, 9):
        whole = context(full, modality=[T] * 10, evidence=(asking([0.0], [0.0], tokens=[token, token]),))
        outcomes[token] = diagnose(whole, context(small, modality=[T] * 10), Refit(), 0).layers[0]
    assert outcomes[4] == LayerLoss()
    assert (outcomes[8].error, outcomes[8].head_consensus) == (pytest.approx(0), 1)
    assert outcomes[9].error == pytest.approx(0.5)


def test_a_query_that_sees_no_kept_slot_is_left_out():
    """The one of token 0 sees only what is gone; that of token 1 sees 1 and misses 5: 3 becomes 1."""
    full = tokens([[0.0], [0.0]], [[5.0], [1.0]], [T, T])
    small = take(full, torch.tensor([[False, True]]))
    evidence = (asking([0.0], [0.0], [0.0], [0.0], tokens=[0, 0, 1, 1]),)
    whole = context(full, modality=[T, T], evidence=evidence)
    draws = [diagnose(whole, context(small, modality=[T, T]), Refit(held_out=0.5), seed).layers[0] for seed in range(8)]
    errors = {loss.error for loss in draws}
    assert None in errors  # both of the held-out queries were those of token 0
    assert sorted(errors - {None}) == [pytest.approx(2 / 3)]


def test_a_bias_counts():
    """Three equal tokens, one of two alike gone: the other one with a bias of log 2 stands for both."""
    full = tokens([[0.0]] * 3, [[1.0], [4.0], [4.0]], [T, T, T])
    evidence = (asking([0.0], [0.0], tokens=[2, 2]),)
    whole = context(full, modality=[T] * 3, evidence=evidence)
    small = take(full, torch.tensor([[True, True, False]]))
    plain, biased = (
        diagnose(whole, context(replace(small, bias=bias), modality=[T] * 3), Refit(), 0).layers[0].error
        for bias in (None, torch.tensor([[0.0, LOG2]]))
    )
    assert plain == pytest.approx(1 / 6)  # 2.5 for 3
    assert biased == pytest.approx(0, abs=1e-6)


def test_mean_and_worst_leave_out_what_is_not_known():
    losses = (LayerLoss(0.25), LayerLoss(None), LayerLoss(0.75))
    found = Diagnostics(0.0, {}, losses)
    assert (found.error_mean, found.error_max) == (0.5, 0.75)


@pytest.mark.parametrize("name", ["full", "snapkv", "attention-matching"])
def test_compression_records_what_it_lost(name):
    whole = random_context()
    options = {} if name == "full" else {"keep": 0.3}
    done = compress(whole, load_method(name), profile=load_profile(), seed=4, **options)
    record = done.provenance.compression
    again = diagnose(whole, done, Refit(), 4)
    assert record.diagnostics == again
    if name == "full":
        assert again.error_max == pytest.approx(0, abs=1e-5)
        assert again.evicted_everywhere == 0
    else:
        assert again.error_mean > 0.1
    if name == "attention-matching":
        after = [layer.error_refitted for layer in record.layers]
        assert after == pytest.approx([loss.error for loss in again.layers], abs=1e-5)
        assert all(layer.error_refitted <= layer.error_evicted for layer in record.layers)
        assert sum(layer.heads_refitted for layer in record.layers) > 0
    else:
        assert {(one.error_evicted, one.error_refitted, one.heads_refitted) for one in record.layers} == {(None,) * 3}


def test_means_over_layers_are_of_the_layers_that_know():
    losses = (
        LayerLoss(0.5, {"text": 0.25, "visual": 0.5}, {}, 0.5),
        LayerLoss(0.5, {"text": 0.75}, {}, 1.0),
        LayerLoss(),
    )
    found = Diagnostics(0.0, {}, losses)
    assert found.error_by_query == {"text": 0.5, "visual": 0.5}
    assert found.head_consensus == 0.75
    assert Diagnostics(0.0, {}, (LayerLoss(),)).head_consensus is None
