"""From measurements to a profile's numbers, by hand."""

import pytest

from flowmm.calibration import (
    GAP,
    NO_FLOW,
    NO_GAP,
    Flows,
    PrecisionErrors,
    Theta,
    flows_over,
    head_budget_of,
    head_weight_of,
    mean_errors,
    precisions_of,
    theta_of,
)


def theta(*means, spread=0.0):
    return theta_of(Flows(list(means), [spread] * len(means)))


def test_flows_are_averaged_over_documents_and_spread_is_their_deviation():
    flows = flows_over([[0.1, 0.4], [0.3, 0.4]])
    assert (flows.mean, flows.spread) == ([0.2, 0.4], [0.1, 0.0])


def test_a_single_document_has_no_spread():
    assert flows_over([[0.1, 0.4]]).spread == [0.0, 0.0]


def test_theta_is_the_middle_of_the_widest_gap_whatever_the_order_of_the_layers():
    assert theta(0.1, 0.5, 0.12, 0.46) == Theta(pytest.approx(0.29), GAP)  # between 0.12 and 0.46


def test_an_outlier_is_no_group():
    # Eight layers, so two at least on either side: 0.9 stands alone, and the next gap is from 0.13 to 0.2.
    assert theta(0.1, 0.11, 0.12, 0.13, 0.2, 0.21, 0.22, 0.9).value == pytest.approx(0.165)


def test_a_gap_within_the_spread_is_none_and_the_median_parts_the_layers():
    assert theta(0.1, 0.2, 0.3, 0.5, spread=0.15) == Theta(pytest.approx(0.4), GAP)
    assert theta(0.1, 0.2, 0.3, 0.5, spread=0.21) == Theta(pytest.approx(0.25), NO_GAP)


def test_layers_that_are_all_alike_have_no_gap():
    assert theta(0.3, 0.3, 0.3) == Theta(0.3, NO_GAP)
    assert theta(0.3) == Theta(0.3, NO_GAP)


def test_without_images_there_is_no_theta():
    assert theta_of(flows_over([])) == Theta(None, NO_FLOW)


def test_a_heads_budget_is_its_share_times_the_number_of_heads():
    # One document, 4 heads, 40 slots: 10 would be equal shares.
    assert head_budget_of([[[20, 10], [5, 5]]]) == [[2.0, 1.0], [0.5, 0.5]]


def test_a_long_document_weighs_as_much_as_a_short_one():
    # Shares of 3/4 and 1/4, then of 1/2 and 1/2; the second document has a hundred times the slots.
    assert head_budget_of([[[3, 1]], [[200, 200]]]) == [[1.25, 0.75]]


def test_layers_may_have_different_numbers_of_heads():
    assert head_budget_of([[[6], [2, 1]]]) == [[2.0], [0.6667, 0.3333]]


def precisions(shares, **by_name):
    return precisions_of(PrecisionErrors(shares, by_name))


def test_the_precision_that_loses_least_holds_up_to_the_geometric_mean_of_the_shares():
    found = precisions((0.04, 0.16, 0.36), int4=(0.1, 0.3, 0.3), int8=(0.3, 0.1, 0.2), bf16=(0.5, 0.5, 0.1))
    assert found == {"int4": pytest.approx(0.08), "int8": pytest.approx(0.24)}  # and 16 bits above


def test_the_last_share_reaches_half_way_to_the_whole_cache_which_is_best_in_16_bits():
    assert precisions((0.04, 0.25), int4=(0.1, 0.1), bf16=(0.2, 0.2)) == {"int4": 0.5}


def test_16_bits_everywhere_is_an_empty_table():
    assert precisions((0.1, 0.2), int4=(0.2, 0.2), bf16=(0.1, 0.1)) == {}


def test_more_bytes_never_mean_fewer_bits():
    # int4, int8, int4 would be least of all; of those that ascend, int4 throughout (0.1 * 0.2 * 0.1) is.
    assert precisions((0.1, 0.2, 0.4), int4=(0.1, 0.2, 0.1), int8=(0.5, 0.1, 0.5), bf16=(1, 1, 1)) == {"int4": 0.6325}


def test_errors_are_averaged_over_documents_at_the_shares_that_all_have():
    one = PrecisionErrors((0.1, 0.2), {"int4": (0.4, 0.2), "bf16": (1.0, 0.5)})
    other = PrecisionErrors((0.2,), {"int4": (0.4,), "bf16": (0.75,)})
    found = mean_errors([one, other])
    assert (found.shares, found.by_name["int4"]) == ((0.2,), (pytest.approx(0.3),))
    assert found.by_name["bf16"] == (pytest.approx(0.625),)


def test_a_heads_weight_is_the_root_of_its_mean_loss_over_the_largest():
    # Means 4, 1 and 0.04 of two documents: 1, the root of 1/4, the root of 1/100.
    assert head_weight_of([[[3.0, 1.0], [0.08]], [[5.0, 1.0], [0.0]]]) == [[1.0, 0.5], [0.1]]


def test_a_head_without_any_loss_still_has_a_weight():
    assert head_weight_of([[[2.0, 0.0]]]) == [[1.0, 0.03162]]
    assert head_weight_of([[[0.0, 0.0]]]) == [[1.0, 1.0]]
