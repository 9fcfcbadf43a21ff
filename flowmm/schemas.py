"""JSON Schemas of the files that users write, for editors that complete and check them."""

from __future__ import annotations

from inspect import getdoc
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from flowmm.profiles import Method, ModelProfile
from flowmm.validation import FileModel

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Plain(GenerateJsonSchema):
    """Without a title for each key that repeats the key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def profile_schema() -> dict[str, Any]:
    """Of a model profile: either it extends another, or it has every key that has no value of its own."""
    schema = _of_file(ModelProfile, "flowmm model profile")
    schema["properties"] = {"extends": {"type": "string"}, **schema["properties"]}
    schema["anyOf"] = [{"required": ["extends"]}, {"required": schema.pop("required")}]
    return schema


def method_schema() -> dict[str, Any]:
    """Of a method; each rule with its own fields and no others."""
    from flowmm.refit import Refit  # imports torch
    from flowmm.rules import TABLES, fields_model

    schema = _of_file(Method, "flowmm method")
    for key, (_, table) in TABLES.items():
        schema["properties"][key] = {"oneOf": [_rule(name, table[name]) for name in sorted(table)]}
    schema["$defs"]["Scout"]["properties"]["score"] = {"$ref": "#/properties/score"}
    refit = {**_bare(fields_model(Refit)), "description": _summary(Refit)}
    schema["properties"]["refit"] = {"anyOf": [refit, {"type": "null"}], "default": None}
    schema.get("$defs", {}).pop("Rule", None)
    return schema


def _rule(name: str, rule: type[Any]) -> dict[str, Any]:
    """One alternative: this rule's name and fields."""
    from flowmm.rules import fields_model

    schema = _bare(fields_model(rule))
    properties = {"rule": {"const": name}, **schema.pop("properties", {})}
    required = ["rule", *schema.pop("required", [])]
    return {"description": _summary(rule), **schema, "properties": properties, "required": required}


def _of_file(model: type[FileModel], title: str) -> dict[str, Any]:
    schema = _bare(model)
    required = [key for key in schema["required"] if key not in model.not_in_file]
    properties = {key: value for key, value in schema["properties"].items() if key not in model.not_in_file}
    return {"$schema": _DIALECT, "title": title, **schema, "properties": properties, "required": required}


def _bare(model: type[FileModel]) -> dict[str, Any]:
    schema = model.model_json_schema(schema_generator=_Plain)
    schema.pop("title", None)
    return schema


def _summary(rule: type[Any]) -> str:
    """The first line of the docstring."""
    return (getdoc(rule) or "").split("\n\n")[0].replace("\n", " ")
