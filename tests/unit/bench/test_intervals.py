"""Intervals and rank correlations, by hand."""

import pytest

from flowmm.bench.intervals import ranks, ratio_interval, spearman


def test_one_context_leaves_nothing_to_draw():
    assert ratio_interval([3], [4], 0) == (0.75, 0.75)


def test_two_contexts_are_drawn_both_or_one_of_them_twice():
    # Ratios 0/1, 1/2 and 1/1 come with chances of 1/4, 1/2 and 1/4, each more than the 2.5 % outside.
    assert ratio_interval([0, 1], [1, 1], 0) == (0.0, 1.0)


def test_contexts_are_paired_so_that_equal_losses_give_no_width():
    low, high = ratio_interval([1, 2, 4], [2, 4, 8], 0)
    assert (low, high) == (0.5, 0.5)


def test_draws_in_which_the_full_cache_has_nothing_are_left_out():
    assert ratio_interval([0, 1], [0, 2], 0) == (0.5, 0.5)
    assert ratio_interval([0, 1], [0, 0], 0) is None
    assert ratio_interval([], [], 0) is None


def test_the_interval_is_that_of_a_binomial_share_and_follows_the_seed():
    above, below = [1.0] * 50 + [0.0] * 50, [1.0] * 100
    low, high = ratio_interval(above, below, 1)
    assert low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.02)  # sqrt(0.5 * 0.5 / 100) = 0.05
    assert high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.02)
    assert ratio_interval(above, below, 1) == (low, high)


def test_equal_scores_share_the_mean_of_their_ranks():
    assert ranks([0.5, 0.1, 0.5, 0.9]) == [2.5, 1.0, 2.5, 4.0]


def test_spearman_by_hand():
    assert spearman([1, 2, 3], [10, 20, 90]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [9, 5, 1]) == pytest.approx(-1.0)
    # d = (1, -1, 0, 0): 1 - 6 * 2 / (4 * 15) = 0.8
    assert spearman([1, 2, 3, 4], [2, 1, 3, 4]) == pytest.approx(0.8)
    # Ranks (1, 2.5, 2.5) and (1, 2, 3): 1.5 / sqrt(1.5 * 2).
    assert spearman([0, 5, 5], [1, 2, 3]) == pytest.approx(1.5 / 3**0.5)


def test_there_is_no_correlation_of_what_does_not_differ():
    assert spearman([1], [2]) is None
    assert spearman([1, 1], [1, 2]) is None
