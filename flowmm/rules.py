"""From a method's YAML to its rules and its refit: names from closed tables, fields checked against the rule's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar, get_type_hints

from pydantic import ValidationError, create_model

from flowmm.budgets import BUDGETS, Budget
from flowmm.errors import UnknownNameError, UsageError
from flowmm.merges import MERGES, Merge
from flowmm.profiles import Method
from flowmm.refit import Refit
from flowmm.scores import SCORES, Score
from flowmm.validation import FileModel, Place, Rule, find_problems, unknown_name
from flowmm.yamlfile import Document, Problem

_R = TypeVar("_R")

# By key of a method's file: what the rules are called, and all of them.
TABLES: Mapping[str, tuple[str, Mapping[str, type[Any]]]] = {
    "score": ("scoring rule", SCORES),
    "budget": ("allocation rule", BUDGETS),
    "merge": ("merging rule", MERGES),
}


@dataclass(frozen=True)
class Rules:
    """What a method does."""

    score: Score
    budget: Budget
    merge: Merge
    refit: Refit | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The evidence that the method looks at."""
        references = frozenset() if self.refit is None else frozenset({"references"})
        return self.score.needs | self.budget.needs | self.merge.needs | references


def build_rules(method: Method) -> Rules:
    """The rules of a method.

    Raises:
        UnknownNameError: a rule that is in no table.
        UsageError: a field that the rule does not have, or a value it cannot have.
    """
    return Rules(
        _build(method, TABLES["score"][0], method.score, SCORES),
        _build(method, TABLES["budget"][0], method.budget, BUDGETS),
        _build(method, TABLES["merge"][0], method.merge, MERGES),
        None if method.refit is None else _made(method, "refit", Refit, method.refit),
    )


def find_rule_problems(document: Document) -> list[Problem]:
    """What is wrong with the rules and the refit of a method's file, beyond what their shape tells."""
    problems = []
    scout = _part(_part(document.data, "observe"), "scout")
    places: list[tuple[str, Place, Any]] = [(key, (key,), document.data.get(key)) for key in TABLES]
    for key, place, given in [*places, ("score", ("observe", "scout", "score"), scout.get("score"))]:
        kind, table = TABLES[key]
        if not isinstance(given, dict) or not isinstance(given.get("rule"), str):
            continue  # flowmm.profiles says so
        name, fields = given["rule"], {field: value for field, value in given.items() if field != "rule"}
        if name in table:
            problems += find_problems(fields_model(table[name]), document, fields, place)
        else:
            problems.append(document.problem((*place, "rule"), unknown_name(UnknownNameError(kind, name, table))))
    refit = document.data.get("refit")
    return problems + (
        find_problems(fields_model(Refit), document, refit, ("refit",)) if isinstance(refit, dict) else []
    )


def _part(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping at a key; an empty one where there is none, which flowmm.profiles says."""
    part = data.get(key)
    return part if isinstance(part, dict) else {}


def fields_model(made: type[Any]) -> type[FileModel]:
    """The fields of a rule, as a file may set them."""
    hints = get_type_hints(made, include_extras=True)
    known = {one.name: (hints[one.name], _default(one)) for one in dataclasses.fields(made)}
    model: type[FileModel] = create_model(made.__name__, __base__=FileModel, **known)  # type: ignore[call-overload]
    return model


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return ... if field.default is dataclasses.MISSING else field.default


def _build(method: Method, kind: str, rule: Rule, table: Mapping[str, type[_R]]) -> _R:
    if rule.rule not in table:
        raise UnknownNameError(kind, rule.rule, table)
    return _made(method, f"{kind} {rule.rule!r}", table[rule.rule], rule.fields)


def _made(method: Method, what: str, made: type[_R], given: Mapping[str, Any]) -> _R:
    """A dataclass from fields of a YAML; ``what`` is how errors call it."""
    model = fields_model(made)
    known = model.model_fields
    try:
        checked = model.model_validate(given)
    except ValidationError as error:
        whats = "; ".join(_what(one["loc"][0], one["type"], one["msg"], one["input"], known) for one in error.errors())
        fields = ", ".join(sorted(known)) or "none"
        raise UsageError(f"method {method.name}: {what}: {whats}", f"The fields of {what} are: {fields}.") from None
    return made(**{name: getattr(checked, name) for name in known})


def _what(field: int | str, kind: str, message: str, found: Any, known: Mapping[str, object]) -> str:
    if kind != "extra_forbidden":
        return f"{field} {message.removeprefix('Input ')}, found {found!r}"
    near = get_close_matches(str(field), known, n=1, cutoff=0.5)
    return f"there is no field {field!r}" + (f", did you mean {near[0]!r}?" if near else "")
