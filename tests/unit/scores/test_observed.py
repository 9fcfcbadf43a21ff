"""Observations are joined by their largest, and weighted by what a value can move."""

from dataclasses import replace

import pytest
import torch

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
