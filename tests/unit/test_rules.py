"""From YAML to rules: closed tables, checked fields."""

import pytest

from flowmm.errors import UnknownNameError, UsageError
from flowmm.merges.flow_guided import FlowGuided
from flowmm.profiles import Method, Rule, load_method, method_names
from flowmm.rules import build_rules
from flowmm.scores.attention import Attention


def method(score: dict, merge: dict | None = None) -> Method:
    parts = {"score": Rule(**score), "budget": Rule(rule="uniform"), "merge": Rule(**(merge or {"rule": "evict"}))}
    return Method(name="mine", text="", title="", paper=None, **parts)


def test_fields_of_a_yaml_become_fields_of_the_rule():
    rules = build_rules(
        method({"rule": "attention", "window": 8, "pool": "max"}, {"rule": "flow_guided", "mass": True})
    )
    assert rules.score == Attention(window=8, pool="max")
    assert rules.merge == FlowGuided(mass=True)
    assert rules.needs == {"queries", "flow"}


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'attention'"):
        build_rules(method({"rule": "atention"}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"windw": 8}, "there is no field 'windw', did you mean 'window'"),
        ({"window": "8"}, "window should be a valid integer, found '8'"),
        ({"window": True}, "window should be a valid integer, found True"),
        ({"window": 0}, "window should be greater than or equal to 1, found 0"),
        ({"kernel": 4}, "kernel should be 1, 3, 5"),
        ({"needs": 1}, "there is no field 'needs'"),
        ({"pool": {"a": 1}}, "pool should be 'avg' or 'max'"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_its_rule(fields, message):
    with pytest.raises(UsageError, match=f"method mine: scoring rule 'attention': {message}"):
        build_rules(method({"rule": "attention"} | fields))


def test_all_fields_that_do_not_fit_are_named_at_once():
    with pytest.raises(UsageError, match=r"window .*; .*'knel', did you mean 'kernel'"):
        build_rules(method({"rule": "attention", "window": 0, "knel": 3}))


@pytest.mark.parametrize("name", method_names())
def test_every_shipped_method_has_rules_and_records_what_they_need(name):
    shipped = load_method(name)
    rules = build_rules(shipped)
    assert shipped.observe.tail >= getattr(rules.score, "window", 0)
    assert shipped.observe.cumulative == ("cumulative" in rules.needs)
