"""Rules that look at keys and positions alone, by hand."""

import pytest
import torch

from flowmm.scores.cumulative import Cumulative
from flowmm.scores.keydiff import KeyDiff
from flowmm.scores.knorm import KNorm
from flowmm.scores.random import Random
from flowmm.scores.recency import Recency
from tests.unit.plain_layers import evidence, layer


def test_knorm_is_minus_the_length_of_the_key():
    scores = KNorm()(layer([[[3.0, 4.0], [0.0, 1.0]]]), None, 0)
    assert scores.tolist() == [[-5.0, -1.0]]


def test_keydiff_is_minus_the_cosine_to_the_mean_direction():
    # Directions (1,0), (1,0), (0,1): their mean points along (2,1), with cosines 2/sqrt 5 and 1/sqrt 5.
    scores = KeyDiff()(layer([[[9.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]), None, 0)
    assert scores[0].tolist() == pytest.approx([-((4 / 5) ** 0.5), -((4 / 5) ** 0.5), -((1 / 5) ** 0.5)])


def test_keydiff_leaves_padding_out_of_the_mean():
    scores = KeyDiff()(layer([[[1.0, 0.0], [1.0, 0.0], [0.0, 7.0]]], lengths=[2]), None, 0)
    assert scores[0, :2].tolist() == pytest.approx([-1.0, -1.0])


def test_recency_is_the_index_of_the_token():
    assert Recency()(layer([[[1.0], [1.0]]], position=[[7, 9]]), None, 0).tolist() == [[7.0, 9.0]]


def test_random_depends_on_the_seed_and_differs_between_heads():
    plain = layer([[[0.0]] * 6, [[0.0]] * 6])
    first, again, other = Random()(plain, None, 3), Random()(plain, None, 3), Random()(plain, None, 4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_cumulative_takes_the_sums_as_they_were_recorded():
    sums = torch.tensor([[2.0, 0.5]])
    assert Cumulative()(layer([[[1.0], [1.0]]]), evidence([[[1.0]]], [1], cumulative=sums), 0) is sums
