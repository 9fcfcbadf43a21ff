"""Observations are joined by their largest, and weighted by what a value can move."""

import math
from dataclasses import replace

import pytest
import torch

from flowmm.errors import UsageError
from flowmm.profiles import load_method
from flowmm.rules import build_rules
from flowmm.scores.leverage import Leverage
from flowmm.scores.observed import Observed
from tests.unit.plain_layers import evidence, layer

THREE = layer([[[1.0, 0.0]] * 3], values=[[[3.0, 4.0], [0.0, 1.0], [0.0, 2.0]]])
SEEN = replace(
    evidence([[[1.0, 0.0]]], [2]),
    observed={"reconstruct": torch.tensor([[0.1, 0.5, 0.2]]), "probes": torch.tensor([[0.3, 0.1, 0.2]])},
)


def test_a_slot_is_worth_what_the_pass_that_needs_it_most_pays():
    assert Observed(["reconstruct", "probes"])(THREE, SEEN, 0)[0].tolist() == pytest.approx([0.3, 0.5, 0.2])


def test_one_pass_alone_counts_alone():
    assert Observed(["probes"])(THREE, SEEN, 0)[0].tolist() == pytest.approx([0.3, 0.1, 0.2])


def test_it_can_be_weighted_by_what_a_value_moves():
    weighted = replace(SEEN, value_weight=torch.tensor([[1.0, 10.0, 2.0]]))
    scores = Observed(["probes"], times_value_norm=True)(THREE, weighted, 0)
    assert scores[0].tolist() == pytest.approx([0.3, 1.0, 0.4])


def test_without_an_output_projection_the_value_itself_is_the_weight():
    scores = Observed(["probes"], times_value_norm=True)(THREE, SEEN, 0)
    assert scores[0].tolist() == pytest.approx([1.5, 0.1, 0.4])


def test_it_needs_what_it_names():
    assert Observed(["probes", "gate"]).needs == {"observed.probes", "observed.gate"}


def test_a_gate_counts_where_there_is_one_and_is_not_needed():
    score = Observed(["probes"], if_made=["gate"])
    assert score.needs == {"observed.probes"}
    assert score(THREE, SEEN, 0)[0].tolist() == pytest.approx([0.3, 0.1, 0.2])
    gated = replace(SEEN, observed={**SEEN.observed, "gate": torch.tensor([[0.2, 0.4, 0.1]])})
    assert score(THREE, gated, 0)[0].tolist() == pytest.approx([0.3, 0.4, 0.2])


def test_leverage_counts_like_a_pass_and_needs_none():
    slots = layer([[[1.0, 0.0], [1.0, 0.1], [-3.0, 0.0]]])
    seen = replace(evidence([[[0.0, 0.0]]], [102]), observed={"probes": torch.tensor([[0.9, 0.0, 0.0]])})
    leverage = Leverage()(slots, None, 0)[0].tolist()
    assert Observed(["leverage"])(slots, seen, 0)[0].tolist() == pytest.approx(leverage)
    assert Observed(["leverage"]).needs == frozenset()
    joined = Observed(["probes", "leverage"])(slots, seen, 0)[0].tolist()
    assert joined == pytest.approx([max(0.9, leverage[0]), *leverage[1:]])


def test_only_a_gate_may_be_missing():
    method = load_method("flowmm")
    fields = {**method.score.fields, "if_made": ["gaet"]}
    with pytest.raises(UsageError, match="if_made"):
        build_rules(method.model_copy(update={"score": method.score.model_copy(update=fields)}))


def test_the_tail_counts_by_its_largest_attention_and_not_by_the_sum():
    # Keys e1, e2, e1; logits of the two queries 0 but for ln 3: 3/5 on slot 1 and 1/5 elsewhere, then 1/3 everywhere.
    slots = layer([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    seen = evidence([[[0.0, math.log(3)], [0.0, 0.0]]], [102, 102])
    assert Observed(["tail"])(slots, seen, 0)[0].tolist() == pytest.approx([1 / 3, 3 / 5, 1 / 3])


def test_a_query_of_the_tail_sees_nothing_behind_itself():
    seen = evidence([[[0.0, 0.0]]], [101])
    assert Observed(["tail"])(layer([[[1.0, 0.0]] * 3]), seen, 0)[0].tolist() == pytest.approx([0.5, 0.5, 0])


def test_the_tail_is_joined_with_other_passes_by_the_largest():
    slots = layer([[[1.0, 0.0]] * 3])
    seen = replace(evidence([[[0.0, 0.0]]], [102]), observed={"reconstruct": torch.tensor([[0.1, 0.5, 0.2]])})
    assert Observed(["reconstruct", "tail"])(slots, seen, 0)[0].tolist() == pytest.approx([1 / 3, 0.5, 1 / 3])


def test_the_sample_is_looked_through_apart_from_the_tail():
    slots = layer([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    seen = replace(
        evidence([[[0.0, 0.0]]], [102]),
        sample=torch.tensor([[[0.0, math.log(3)]]]),
        sample_index=torch.tensor([102]),
    )
    assert Observed(["sample"])(slots, seen, 0)[0].tolist() == pytest.approx([1 / 5, 3 / 5, 1 / 5])
    assert Observed(["sample", "tail", "probes"]).needs == {"sample", "queries", "observed.probes"}
