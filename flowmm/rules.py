"""From a method's YAML to its three rules: names from closed tables, fields checked against the rule's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from flowmm.budgets import BUDGETS, Budget
from flowmm.errors import UnknownNameError, UsageError
from flowmm.merges import MERGES, Merge
from flowmm.profiles import Method, Rule
from flowmm.scores import SCORES, Score

_R = TypeVar("_R")


@dataclass(frozen=True)
class Rules:
    """What a method does."""

    score: Score
    budget: Budget
    merge: Merge

    @property
    def needs(self) -> frozenset[str]:
        """The evidence that the method looks at."""
        return self.score.needs | self.merge.needs


def build_rules(method: Method) -> Rules:
    """The rules of a method.

    Raises:
        UnknownNameError: a rule that is in no table.
        UsageError: a field that the rule does not have, or a value it cannot have.
    """
    return Rules(
        _build(method, "scoring rule", method.score, SCORES),
        _build(method, "allocation rule", method.budget, BUDGETS),
        _build(method, "merging rule", method.merge, MERGES),
    )


def _build(method: Method, kind: str, rule: Rule, table: Mapping[str, type[_R]]) -> _R:
    if rule.rule not in table:
        raise UnknownNameError(kind, rule.rule, table)
    made = table[rule.rule]
    hints = get_type_hints(made, include_extras=True)
    known = {field.name: (hints[field.name], field.default) for field in dataclasses.fields(made)}  # type: ignore[arg-type]
    config = ConfigDict(extra="forbid", strict=True)
    try:
        checked = create_model(made.__name__, __config__=config, **known).model_validate(rule.fields)  # type: ignore[call-overload]
    except ValidationError as error:
        whats = "; ".join(_what(one["loc"][0], one["type"], one["msg"], one["input"], known) for one in error.errors())
        fields = ", ".join(sorted(known)) or "none"
        what = f"method {method.name}: {kind} {rule.rule!r}: {whats}"
        raise UsageError(what, f"The fields of {rule.rule!r} are: {fields}.") from None
    return made(**{name: getattr(checked, name) for name in known})


def _what(field: int | str, kind: str, message: str, found: Any, known: Mapping[str, object]) -> str:
    if kind != "extra_forbidden":
        return f"{field} {message.removeprefix('Input ')}, found {found!r}"
    near = get_close_matches(str(field), known, n=1, cutoff=0.5)
    return f"there is no field {field!r}" + (f", did you mean {near[0]!r}?" if near else "")
