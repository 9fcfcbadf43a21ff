"""The JSON Schemas say what the checks check."""

from dataclasses import MISSING, fields

from flowmm.refit import Refit
from flowmm.rules import TABLES
from flowmm.schemas import method_schema, profile_schema


def test_a_profile_extends_another_or_has_every_key_without_a_value_of_its_own():
    schema = profile_schema()
    assert schema["anyOf"] == [
        {"required": ["extends"]},
        {"required": ["method", "strategy", "theta", "tau", "flow_without_sinks"]},
    ]
    assert "required" not in schema
    assert not schema["additionalProperties"]
    assert schema["properties"]["theta"] == {"type": "number", "minimum": 0, "maximum": 1}
    assert schema["properties"]["extends"] == {"type": "string"}
    assert {"name", "text"} & set(schema["properties"]) == set()


def test_each_rule_is_one_closed_alternative_with_its_own_fields():
    schema = method_schema()
    for key, (_, table) in TABLES.items():
        alternatives = {one["properties"]["rule"]["const"]: one for one in schema["properties"][key]["oneOf"]}
        assert set(alternatives) == set(table)
        for name, one in alternatives.items():
            assert set(one["properties"]) == {"rule", *(field.name for field in fields(table[name]))}
            assert one["additionalProperties"] is False
            without_default = [
                field.name for field in fields(table[name]) if {field.default, field.default_factory} == {MISSING}
            ]
            assert one["required"] == ["rule", *without_default]
    pyramid = next(
        one for one in schema["properties"]["budget"]["oneOf"] if one["properties"]["rule"]["const"] == "pyramid"
    )
    assert pyramid["properties"]["beta"] == {"type": "number", "minimum": 1, "default": 20.0}


def test_a_refit_is_its_own_fields_or_null():
    fitted, none = method_schema()["properties"]["refit"]["anyOf"]
    assert set(fitted["properties"]) == {field.name for field in fields(Refit)}
    assert none == {"type": "null"}


def test_a_schema_refers_to_nothing_that_is_not_in_it():
    schema = method_schema()
    assert "Rule" not in schema["$defs"]
    assert schema["required"] == ["title", "paper", "score", "budget", "merge"]
    assert "'$ref': '#/$defs/Rule'" not in str(schema)
    assert schema["$defs"]["Scout"]["properties"]["score"] == {"$ref": "#/properties/score"}
