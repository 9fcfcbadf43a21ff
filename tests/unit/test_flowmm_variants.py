"""The variants of what is recommended: none asks what a suite asks, and they cost what their names promise."""

import re

import pytest

from flowmm import held_out
from flowmm.compress import METHODS
from flowmm.merges.gist import Gist
from flowmm.profiles import load_method
from flowmm.rules import build_rules

# What flowmm/bench/kinds ask, whatever the name, the column or the colour.
SUITES = re.compile(
    r"what is the (\S+ )?code of|what is the \S+ of \{item\}|code of the keeper|how many facts|how many \S+ badges",
    re.I,
)
VARIANTS = ("flowmm-fast", "flowmm", "flowmm-max")


@pytest.mark.parametrize("name", METHODS)
def test_no_probe_has_the_wording_of_a_suite(name):
    probes = load_method(name).observe.probes
    if probes is not None:
        for text in (*probes.requests, *probes.list_items, *probes.about_item):
            assert not SUITES.search(text), text


def test_no_held_out_question_has_the_wording_of_a_suite_or_of_a_probe():
    probes = [load_method(name).observe.probes for name in METHODS]
    fed = {text for one in probes if one is not None for text in (*one.requests, *one.list_items, *one.about_item)}
    for text in (*held_out.WHOLE, *held_out.ABOUT):
        assert not SUITES.search(text), text
        assert text not in fed


@pytest.mark.parametrize(
    "question", ["What is the code of {item}?", "What is the Rating of {item}?", "How many facts are"]
)
def test_the_wording_of_a_suite_would_be_seen(question):
    assert SUITES.search(question)


def test_the_fast_variant_reads_once_and_feeds_nothing():
    observe = load_method("flowmm-fast").observe
    assert (observe.reconstruct, observe.probes, observe.cumulative) == (None, None, False)
    assert observe.gate == "if_trained"  # a small projection while the context is read, and nothing where there is none


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_guards_important_tokens_under_one_threshold(name):
    method = load_method(name)
    assert method.budget.rule == "global_threshold"
    assert build_rules(method).budget.alive > 0


def test_no_variant_trains_what_it_keeps():
    assert not [name for name in VARIANTS if load_method(name).distil or load_method(name).refit]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_merges_what_it_leaves_over(name):
    assert build_rules(load_method(name)).merge == Gist(share=0.1)
