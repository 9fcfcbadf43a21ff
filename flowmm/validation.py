"""What a YAML file may say, by pydantic models, and what is wrong with its data: each problem with line and column."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from flowmm.errors import UnknownNameError
from flowmm.yamlfile import Document, Problem

Place = tuple[int | str, ...]


class FileModel(BaseModel):
    """What a file says: nothing is converted, and no other key is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    not_in_file: ClassVar[frozenset[str]] = frozenset()  # fields that no file may set
    only_in_file: ClassVar[frozenset[str]] = frozenset()  # keys that become no field

    @classmethod
    def known_keys(cls) -> set[str]:
        """The keys that a file may have."""
        return (set(cls.model_fields) - cls.not_in_file) | cls.only_in_file


class Rule(BaseModel):
    """The name of a rule and its hyper-parameters: every other key."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    rule: str

    @property
    def fields(self) -> Mapping[str, Any]:
        """The hyper-parameters, unchecked."""
        return self.model_extra or {}

    def __str__(self) -> str:
        return self.rule + "".join(f", {name} {_shown(value)}" for name, value in self.fields.items())


def find_problems(
    model: type[FileModel], document: Document, data: Mapping[str, Any], place: Place = ()
) -> list[Problem]:
    """All that is wrong with ``data``, which stands at ``place`` in the document; fields no file may set included."""
    problems = [document.problem((*place, key), "is not for a file to set") for key in model.not_in_file & data.keys()]
    try:
        model.model_validate({**data, **dict.fromkeys(model.not_in_file, "")})
    except ValidationError as error:
        problems += _located(model, document, error, place)
    return problems


def unknown_name(error: UnknownNameError) -> str:
    """A name that is in no table, as the end of a line."""
    return f"{error.what}; {error.hint[0].lower()}{error.hint[1:]}".removesuffix(".")


def _located(model: type[FileModel], document: Document, error: ValidationError, place: Place) -> list[Problem]:
    """One problem per place; where several kinds of value would do, they are joined by "or"."""
    places: dict[Place, list[str]] = {}
    for one in error.errors():
        keys = (*place, *one["loc"])
        keys = keys if one["type"] == "missing" else document.reach(keys)
        places.setdefault(keys, []).append(_what(model, one))
    return [document.problem(keys, " or ".join(dict.fromkeys(whats))) for keys, whats in places.items()]


def _what(model: type[FileModel], error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return _unknown_key(str(error["loc"][-1]), _model_at(model, error["loc"][:-1]).known_keys())
    message = "should be keys and values" if error["type"] == "model_type" else error["msg"].removeprefix("Input ")
    return f"{message}, found {error['input']!r}"


def _unknown_key(key: str, known: set[str]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    return (
        f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known: {', '.join(sorted(known)) or '-'}"
    )


def _model_at(model: type[FileModel], place: Place) -> type[FileModel]:
    """The model of the mapping at ``place``."""
    for key in place:
        if isinstance(key, int):  # an item of a list, whose annotation named its model already
            continue
        annotation = model.model_fields[key].annotation
        options = [option for option in (annotation, *get_args(annotation)) if isinstance(option, type)]
        model = next(option for option in options if issubclass(option, FileModel))
    return model


def _shown(value: Any) -> str:
    """The value of a hyper-parameter, in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)
