"""From a method's YAML to its rules and its refit: names from closed tables, fields checked against the rule's own."""

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
from flowmm.refit import Refit
from flowmm.scores import SCORES, Score

_R = TypeVar("_R")


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
        _build(method, "scoring rule", method.score, SCORES),
        _build(method, "allocation rule", method.budget, BUDGETS),
        _build(method, "merging rule", method.merge, MERGES),
        None if method.refit is None else _made(method, "refit", Refit, method.refit),
    )


def _build(method: Method, kind: str, rule: Rule, table: Mapping[str, type[_R]]) -> _R:
    if rule.rule not in table:
        raise UnknownNameError(kind, rule.rule, table)
    return _made(method, f"{kind} {rule.rule!r}", table[rule.rule], rule.fields)


def _made(method: Method, what: str, made: type[_R], given: Mapping[str, Any]) -> _R:
    """A dataclass from fields of a YAML; ``what`` is how errors call it."""
    hints = get_type_hints(made, include_extras=True)
    known = {field.name: (hints[field.name], field.default) for field in dataclasses.fields(made)}  # type: ignore[arg-type]
    config = ConfigDict(extra="forbid", strict=True)
    try:
        checked = create_model(made.__name__, __config__=config, **known).model_validate(given)  # type: ignore[call-overload]
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
