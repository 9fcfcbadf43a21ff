"""Shares and budgets from the command line."""

from typing import get_args

import pytest

from flowmm import UsageError, method_names
from flowmm.packing import PACKINGS
from flowmm_cli.options import KvDtype, compress_options
from flowmm_cli.values import parse_age, parse_bytes, parse_share


@pytest.mark.parametrize(("text", "share"), [("0.1", 0.1), ("10%", 0.1), ("12.5%", 0.125), ("1", 1.0), ("100%", 1.0)])
def test_a_share_is_a_number_or_a_percentage(text, share):
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["0", "0%", "-0.1", "1.5", "20", "101%", "nan", "inf"])
def test_a_share_outside_of_zero_to_one_is_refused(text):
    with pytest.raises(UsageError, match="not a share between 0 and 1"):
        parse_share(text)


@pytest.mark.parametrize("text", ["abc", "", "%", "0,2", "10%%"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(UsageError, match="not a number"):
        parse_share(text)


@pytest.mark.parametrize(
    ("keep", "keep_tokens", "enabled", "named"),
    [
        ("0.2", 50, True, "--keep and --keep-tokens"),
        ("0.2", None, False, "--keep and --no-compress"),
        (None, 50, False, "--keep-tokens and --no-compress"),
    ],
)
def test_two_budgets_exclude_each_other(keep, keep_tokens, enabled, named):
    with pytest.raises(UsageError, match=f"{named} exclude each other"):
        compress_options(keep, keep_tokens, None, None, 0, enabled=enabled)


@pytest.mark.parametrize("size", ["max_bytes", "reduce"])
def test_bytes_and_slots_exclude_each_other(size):
    with pytest.raises(UsageError, match="exclude each other"):
        compress_options("0.2", None, None, None, 0, **{size: "0.5"})


@pytest.mark.parametrize("text", ["0", "1", "100%", "-5%", "nan"])
def test_a_reduction_leaves_something_and_takes_something(text):
    with pytest.raises(UsageError, match="not a share between 0 and 1"):
        compress_options(None, None, None, None, 0, reduce=text)


def test_one_budget_is_passed_on():
    assert compress_options(None, None, None, None, 0, reduce="95%").reduce == 0.95
    assert compress_options(None, None, None, None, 0, max_bytes="2MB").max_bytes == 2_000_000
    assert compress_options("25%", None, "snapkv", None, 3).keep == 0.25
    assert compress_options(None, 50, None, None, 0).keep_tokens == 50
    assert compress_options(None, None, None, None, 0, enabled=False).enabled is False


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1000", 1000),
        ("20GB", 20 * 10**9),
        ("50mb", 50 * 10**6),
        ("1.5 kB", 1500),
        ("1GiB", 2**30),
        ("2KiB", 2048),
        ("3T", 3 * 10**12),
    ],
)
def test_a_size_is_a_number_with_or_without_a_unit(text, count):
    assert parse_bytes(text, "--max-bytes") == count


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "1.GB", "20 GBs", "iB", "1iB", "inf", "٣GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match=r"--max-bytes .*not a size"):
        parse_bytes(text, "--max-bytes")


@pytest.mark.parametrize(("text", "seconds"), [("90min", 5400), ("12h", 43200), ("0.5d", 43200), ("2 w", 1209600)])
def test_an_age_is_a_number_with_a_unit(text, seconds):
    assert parse_age(text, "--older-than") == seconds


@pytest.mark.parametrize("text", ["", "30", "30m", "-1d", "d", "1y"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(UsageError, match=r"--older-than .*not an age"):
        parse_age(text, "--older-than")


def test_every_precision_that_files_have_can_be_asked_for():
    choice, _ = get_args(get_args(KvDtype)[0])
    assert get_args(choice) == tuple(PACKINGS)


@pytest.mark.parametrize(
    ("quality", "method"), [("fast", "flowmm-fast"), ("balanced", "flowmm"), ("max", "flowmm-max"), (None, None)]
)
def test_a_quality_is_short_for_a_method_that_there_is(quality, method):
    assert compress_options(None, None, None, None, 0, quality=quality).method == method
    assert method is None or method in method_names()


def test_a_quality_and_a_method_exclude_each_other():
    with pytest.raises(UsageError, match="--method and --quality exclude each other"):
        compress_options(None, None, "kvzip", None, 0, quality="fast")


def test_an_agreement_is_a_share_and_needs_a_compression():
    assert compress_options(None, None, None, None, 0, min_agreement="98%").min_agreement == 0.98
    for wrong in ("0", "1.5", "all"):
        with pytest.raises(UsageError, match="--min-agreement"):
            compress_options(None, None, None, None, 0, min_agreement=wrong)
    with pytest.raises(UsageError, match="--min-agreement and --no-compress exclude each other"):
        compress_options(None, None, None, None, 0, min_agreement="0.98", enabled=False)
