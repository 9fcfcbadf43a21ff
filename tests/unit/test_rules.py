"""From YAML to rules: closed tables, checked fields."""

from dataclasses import fields
from pathlib import Path

import pytest

from flowmm.budgets import BUDGETS
from flowmm.errors import UnknownNameError, UsageError
from flowmm.merges import MERGES
from flowmm.merges.flow_guided import FlowGuided
from flowmm.profiles import Method, load_method, method_names
from flowmm.refit import Refit
from flowmm.rules import build_rules
from flowmm.scores import SCORES
from flowmm.scores.attention import Attention
from flowmm.validation import Rule

DOCS = Path(__file__).parents[2] / "docs" / "profiles.md"


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
    assert shipped.observe.sample > 0 or "sample" not in rules.needs


def test_the_fields_of_a_refit_are_checked_like_those_of_a_rule():
    plain = method({"rule": "knorm"})
    assert build_rules(plain).refit is None
    assert "references" not in build_rules(plain).needs
    fitted = build_rules(plain.model_copy(update={"refit": {"values": False, "ridge": 0.5}}))
    assert fitted.refit == Refit(values=False, ridge=0.5)
    assert "references" in fitted.needs
    with pytest.raises(
        UsageError, match=r"method mine: refit: ridge should be greater than 0, found 0.*; .*'iterations'"
    ):
        build_rules(plain.model_copy(update={"refit": {"ridge": 0.0, "iteration": 3}}))


@pytest.mark.parametrize("table", [SCORES, BUDGETS, MERGES], ids=["scores", "budgets", "merges"])
def test_every_rule_and_field_is_explained_in_the_docs(table):
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for name, rule in table.items():
        explained = "".join(row for row in rows if f"`{name}`" in row.split("|")[1])
        assert explained, name
        for field in fields(rule):
            assert f"`{field.name}`" in explained, (name, field.name)
