"""Methods (score + budget + merge) and model profiles: YAML files, found by name, checked, as frozen values.

Names of rules and their fields are checked where rules are built (``flowmm.compress.build_rules``), because the
commands that list methods must not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from flowmm.errors import MismatchError, UnknownNameError
from flowmm.yamlfile import Document, Problem, dump, read, refuse


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Rule(BaseModel):
    """The name of a rule and its hyper-parameters: every other key."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    rule: str

    @property
    def fields(self) -> Mapping[str, Any]:
        """The hyper-parameters, unchecked."""
        return self.model_extra or {}

    def __str__(self) -> str:
        return self.rule + "".join(f", {name} {value}" for name, value in self.fields.items())


class Observe(_Model):
    """What to record while the context is read."""

    tail: Annotated[int, Field(ge=0)] = 32  # last queries of the context, kept as reference queries
    sample: Annotated[int, Field(ge=0, le=4096)] = 64  # queries from all over the context, for refit and diagnostics
    cumulative: bool = False  # the attention each slot receives from all queries; a second attention pass


class Method(_Model):
    """A compression method: one scoring, one allocation and one merging rule."""

    name: str
    text: str  # the YAML
    title: str
    paper: str | None
    description: str = ""
    observe: Observe = Observe()
    score: Rule
    budget: Rule
    merge: Rule
    refit: dict[str, Any] | None = None  # fields of flowmm.refit.Refit; None: no refit
    passes: Annotated[float, Field(ge=1)] = 1.0  # times the context is read
    question: bool = False  # whether it needs the question when it compresses


class Calibrated(_Model):
    """A document that numbers were measured on."""

    name: str
    sha256: str


class Calibration(_Model):
    """Where measured numbers in a profile come from."""

    model: str
    weights: str  # fingerprint
    documents: list[Calibrated]
    tokens: int  # of all documents
    date: str
    flowmm: str  # version
    flow_mean: list[float]  # per layer, over the documents with images and text; empty where none has both
    flow_spread: list[float]  # standard deviation over them
    theta: str  # the rule that theta was chosen by
    head_budget: str  # the rule that head budgets were measured by


Share = Annotated[float, Field(ge=0, le=1)]
Strategy = Literal["intra", "cross"]


class ModelProfile(_Model):
    """What is particular to one model."""

    name: str
    text: str  # the YAML, with what it extends filled in
    model_type: str | None = None  # as in the model's config; None fits any
    description: str = ""
    method: str  # used when none is asked for
    strategy: Literal["auto", "intra", "cross"] | list[Strategy]  # auto: cross where the flow is above theta
    theta: Share
    tau: Share  # quantile of the pivots' scores; those above it receive nothing
    flow_without_sinks: bool  # which rho is compared with theta
    layer_budget: list[Annotated[float, Field(gt=0)]] | None = None  # multipliers, scaled to a mean of 1
    head_budget: list[list[Annotated[float, Field(gt=0)]]] | None = None  # of each KV head of each layer, likewise
    max_pixels: Annotated[int, Field(gt=0)] | None = None  # of an image, before it is scaled down
    calibrated: Calibration | None = None


def load_method(name: str | Path) -> Method:
    """Load a method.

    Args:
        name: of the user's or a shipped method, or a path (with a slash, or ending in .yaml).

    Raises:
        UnknownNameError: no such name.
        UsageError: the file has problems; all of them, with line and column.
    """
    document = read(_find("methods", "method", name))
    return _checked(Method, document, document.data, {"name": Path(document.path).stem, "text": document.text})


def load_profile(name: str | Path | None = None, model_type: str | None = None) -> ModelProfile:
    """Load the profile of a model.

    Args:
        name: of the user's or a shipped profile, or a path; None chooses by ``model_type``, else ``default``.
        model_type: of the model at hand.

    Raises:
        UnknownNameError: no such name.
        MismatchError: a profile was named that was made for another type of model.
        UsageError: the file has problems; all of them, with line and column.
    """
    if name is None:
        name = model_type if model_type and model_type in profile_names() else "default"
    path = _find("models", "profile", name)
    document, data = _extended(path, ())
    text = dump(data)
    profile = _checked(ModelProfile, document, data, {"name": path.stem, "text": text})
    if model_type and profile.model_type and profile.model_type != model_type:
        hint = "Leave the profile out, and the model's own is taken."
        raise MismatchError(str(name), "model_type", profile.model_type, model_type, hint)
    return profile


def own_keys(name: str | Path) -> dict[str, Any]:
    """What the file of a profile says itself, ``extends`` included; unchecked."""
    return read(_find("models", "profile", name)).data


def method_names() -> tuple[str, ...]:
    """The user's methods and the shipped ones, sorted."""
    return _names("methods")


def profile_names() -> tuple[str, ...]:
    """The user's model profiles and the shipped ones, sorted."""
    return _names("models")


def methods_table() -> str:
    """All shipped methods as a Markdown table, for docs/methods.md."""
    rows = [
        "| method | what it does | paper | score | budget | merge | refit | passes | needs the question |",
        "|---" * 9 + "|",
    ]
    for path in sorted((_shipped() / "methods").glob("*.yaml")):
        method = load_method(path)
        question = "yes" if method.question else "no"
        refit = ", ".join(f"{name} {value}" for name, value in (method.refit or {}).items())
        cells = (f"`{method.name}`", method.title, method.paper or "", method.score, method.budget, method.merge, refit)
        rows.append(f"| {' | '.join(map(str, cells))} | {method.passes:g} | {question} |")
    return "\n".join(rows) + "\n"


def _shipped() -> Path:
    packaged = Path(__file__).parent / "_profiles"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "profiles"


def _folders(kind: str) -> tuple[Path, Path]:
    """Where files of a kind ("methods" or "models") are: the user's folder, then the shipped one."""
    return Path(platformdirs.user_config_dir("flowmm"), "profiles", kind), _shipped() / kind


def _names(kind: str) -> tuple[str, ...]:
    return tuple(sorted({path.stem for folder in _folders(kind) for path in folder.glob("*.yaml")}))


def _find(kind: str, what: str, name: str | Path, beyond: tuple[Path, ...] = ()) -> Path:
    """The file of a name; ``beyond`` are those that extend it, so that a user's profile can extend its namesake."""
    if isinstance(name, Path) or "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
        return Path(name)
    for folder in _folders(kind):
        path = folder / f"{name}.yaml"
        if path.is_file() and path not in beyond:
            return path
    raise UnknownNameError(what, name, _names(kind))


def _extended(path: Path, beyond: tuple[Path, ...]) -> tuple[Document, dict[str, Any]]:
    """A profile's file, and its data with what it extends filled in."""
    document = read(path)
    data = dict(document.data)
    base_name = data.pop("extends", None)
    if base_name is None:
        return document, data
    if not isinstance(base_name, str):
        raise refuse([document.problem(("extends",), "should be the name of a profile")])
    base_path = _find("models", "profile", base_name, (*beyond, path))
    if base_path in (*beyond, path):
        raise refuse([document.problem(("extends",), f"{base_name} extends this file")])
    base, base_data = _extended(base_path, (*beyond, path))
    _checked(ModelProfile, base, base_data, {"name": base_path.stem, "text": ""})
    return document, base_data | data


_M = TypeVar("_M", bound=_Model)


def _checked(model: type[_M], document: Document, data: dict[str, Any], own: dict[str, str]) -> _M:
    """The value of a file's data; ``own`` are the fields that no file may set."""
    problems = [document.problem((key,), "is not for a file to set") for key in own if key in data]
    try:
        value = model.model_validate(data | own)
    except ValidationError as error:
        problems += _problems(model, document, error)
    if problems:
        raise refuse(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return value


def _problems(model: type[BaseModel], document: Document, error: ValidationError) -> list[Problem]:
    """One problem per place; where several kinds of value would do, they are joined by "or"."""
    places: dict[tuple[int | str, ...], list[str]] = {}
    for one in error.errors():
        keys = one["loc"] if one["type"] == "missing" else document.reach(one["loc"])
        places.setdefault(keys, []).append(_what(model, one))
    return [document.problem(keys, " or ".join(dict.fromkeys(whats))) for keys, whats in places.items()]


def _what(model: type[BaseModel], error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return _unknown(str(error["loc"][-1]), _keys(model, error["loc"][:-1]))
    message = "should be keys and values" if error["type"] == "model_type" else error["msg"].removeprefix("Input ")
    return f"{message}, found {error['input']!r}"


def _unknown(key: str, known: set[str]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known: {', '.join(sorted(known))}"


def _keys(model: type[BaseModel], place: tuple[int | str, ...]) -> set[str]:
    """The keys that the mapping at ``place`` may have."""
    for key in place:
        if isinstance(key, int):  # an item of a list, whose annotation named its model already
            continue
        annotation = model.model_fields[key].annotation
        options = [option for option in (annotation, *get_args(annotation)) if isinstance(option, type)]
        model = next(option for option in options if issubclass(option, BaseModel))
    known = set(model.model_fields) - (set() if place else {"name", "text"})
    return known | {"extends"} if model is ModelProfile else known
