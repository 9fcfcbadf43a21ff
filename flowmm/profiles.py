"""Methods (score + budget + merge) and model profiles: YAML files, found by name, checked, as frozen values.

Names of rules and their fields are checked where rules are built (``flowmm.compress.build_rules``), because the
commands that list methods must not import torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import platformdirs
from pydantic import Field

from flowmm.decode import Decode
from flowmm.errors import MismatchError, UnknownNameError, UsageError
from flowmm.observing import MethodObserve
from flowmm.packing import Precision
from flowmm.validation import FileModel, Rule, find_problems, unknown_name
from flowmm.yamlfile import Document, Problem, dump, read, refuse


class Distil(FileModel):
    """Train the slots of the small cache through the model, on the full cache's answers to the method's probes."""

    steps: Annotated[int, Field(ge=1)] = 200  # of Adam
    rate: Annotated[float, Field(gt=0)] = 0.05  # at the start


class Method(FileModel):
    """A compression method: one scoring, one allocation and one merging rule."""

    not_in_file: ClassVar[frozenset[str]] = frozenset({"name", "text"})
    name: str
    text: str  # the YAML
    title: str
    paper: str | None
    description: str = ""
    observe: MethodObserve = MethodObserve()
    score: Rule
    budget: Rule
    merge: Rule
    refit: dict[str, Any] | None = None  # fields of flowmm.refit.Refit; None: no refit
    distil: Distil | None = None  # None: not trained through the model
    decode: Decode | None = None  # None: nothing is evicted while decoding
    exact: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of kept slots that a file of few bits has in 16, by score
    passes: Annotated[float, Field(ge=1)] = 1.0  # times the context is read
    question: bool = False  # whether it needs the question when it compresses


class Calibrated(FileModel):
    """A document that numbers were measured on."""

    name: str
    sha256: str


class GateReport(FileModel):
    """How well a gate does on tokens that it was not trained on."""

    tokens: int  # it was trained on
    held_out: str  # which were not
    held_out_tokens: int
    bce: list[float]  # per layer: binary cross-entropy against the reconstruction, in nats
    bce_constant: list[float]  # of each head's mean, whatever the token
    correlation: list[float]  # of ranks; a constant has 0


class PrecisionReport(FileModel):
    """What precisions lose at equal bytes."""

    rule: str  # how they were compared, or why they were not
    shares: list[float]  # of the full cache's bytes in 16 bits
    errors: dict[str, list[float]]  # an error a share, by precision: 0 as the full cache, 1 as without the context


class Calibration(FileModel):
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
    head_weight: str | None = None  # the rule that head weights were measured by; None: they were not
    precision: PrecisionReport | None = None
    gate: GateReport | None = None


Kind = Literal["methods", "models"]  # the folder that a file is in
Share = Annotated[float, Field(ge=0, le=1)]
Strategy = Literal["intra", "cross"]


class ModelProfile(FileModel):
    """What is particular to one model."""

    not_in_file: ClassVar[frozenset[str]] = frozenset({"name", "text", "settings", "gate_file"})
    only_in_file: ClassVar[frozenset[str]] = frozenset({"extends"})
    name: str
    text: str  # the YAML, with what it extends filled in
    settings: str  # the same without `calibrated`; context files carry it
    model_type: str | None = None  # as in the model's config; None fits any
    description: str = ""
    method: str  # used when none is asked for
    strategy: Literal["auto", "intra", "cross"] | list[Strategy]  # auto: cross where the flow is above theta
    theta: Share
    tau: Share  # quantile of the pivots' scores; those above it receive nothing
    flow_without_sinks: bool  # which rho is compared with theta
    layer_budget: list[Annotated[float, Field(gt=0)]] | None = None  # multipliers, scaled to a mean of 1
    head_budget: list[list[Annotated[float, Field(gt=0)]]] | None = None  # of each KV head of each layer, likewise
    head_weight: list[list[Annotated[float, Field(gt=0, le=1)]]] | None = None  # of each KV head, for one threshold
    max_pixels: Annotated[int, Field(gt=0)] | None = None  # of an image, before it is scaled down
    precision: dict[Precision, Share] = Field(default_factory=dict)  # up to which share of the bytes
    gate: Annotated[str, Field(pattern=r"^[^/\\]+\.safetensors$")] | None = None  # a file beside the profile
    gate_file: Annotated[str | None, Field(exclude=True)] = None  # its path, beside the profile that names it
    calibrated: Calibration | None = None


def load_method(name: str | Path) -> Method:
    """Load a method.

    Args:
        name: of the user's or a shipped method, or a path (with a slash, or ending in .yaml).

    Raises:
        UnknownNameError: no such name.
        UsageError: the file has problems; all of them, with line and column.
    """
    document = read(find("methods", name))
    problems = find_problems(Method, document, document.data)
    if problems:
        raise refuse(problems)
    return Method.model_validate(document.data | {"name": Path(document.path).stem, "text": document.text})


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
    path = find("models", name)
    _, data, problems = extended(path)
    if problems:
        raise refuse(problems)
    texts = {"text": dump(data), "settings": dump({k: v for k, v in data.items() if k != "calibrated"})}
    gate = None if data.get("gate") is None else str(_gate_file(path))
    profile = ModelProfile.model_validate(data | texts | {"name": path.stem, "gate_file": gate})
    if model_type and profile.model_type and profile.model_type != model_type:
        hint = "Leave the profile out, and the model's own is taken."
        raise MismatchError(str(name), "model_type", profile.model_type, model_type, hint)
    return profile


def own_keys(name: str | Path) -> dict[str, Any]:
    """What the file of a profile says itself, ``extends`` included; unchecked."""
    return read(find("models", name)).data


def method_names() -> tuple[str, ...]:
    """The user's methods and the shipped ones, sorted."""
    return _names("methods")


def profile_names() -> tuple[str, ...]:
    """The user's model profiles and the shipped ones, sorted."""
    return _names("models")


def is_shipped(kind: Kind, name: str) -> bool:
    """Whether a method or profile of this name comes with flowmm."""
    return name in {path.stem for path in (_shipped() / kind).glob("*.yaml")}


def methods_table() -> str:
    """All shipped methods as a Markdown table, for docs/methods.md."""
    rows = [
        "| method | what it does | paper | score | budget | merge | refit | passes | needs the question |",
        "|---" * 9 + "|",
    ]
    for path in sorted((_shipped() / "methods").glob("*.yaml")):
        method = load_method(path)
        question = "yes" if method.question else "no"
        trained = {} if method.distil is None else {"distil": f"in {method.distil.steps} steps"}
        refit = ", ".join(f"{name} {value}" for name, value in ((method.refit or {}) | trained).items())
        cells = (f"`{method.name}`", method.title, method.paper or "", method.score, method.budget, method.merge, refit)
        rows.append(f"| {' | '.join(map(str, cells))} | {method.passes:g} | {question} |")
    return "\n".join(rows) + "\n"


def _shipped() -> Path:
    packaged = Path(__file__).parent / "_profiles"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "profiles"


def _folders(kind: Kind) -> tuple[Path, Path]:
    """Where files of a kind ("methods" or "models") are: the user's folder, then the shipped one."""
    return Path(platformdirs.user_config_dir("flowmm"), "profiles", kind), _shipped() / kind


def _names(kind: Kind) -> tuple[str, ...]:
    return tuple(sorted({path.stem for folder in _folders(kind) for path in folder.glob("*.yaml")}))


def find(kind: Kind, name: str | Path, beyond: tuple[Path, ...] = ()) -> Path:
    """The file of a name.

    Args:
        kind: of the name.
        name: or a path, which is taken as it is.
        beyond: files that extend the one sought, so that a user's profile can extend its namesake.

    Raises:
        UnknownNameError: no such name.
    """
    if isinstance(name, Path) or "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
        return Path(name)
    for folder in _folders(kind):
        path = folder / f"{name}.yaml"
        if path.is_file() and path.resolve() not in beyond:
            return path
    raise UnknownNameError({"methods": "method", "models": "profile"}[kind], name, _names(kind))


def extended(path: Path, beyond: tuple[Path, ...] = ()) -> tuple[Document, dict[str, Any], list[Problem]]:
    """A profile's file, its data with what it extends filled in, and the problems of both.

    Raises:
        UsageError: it cannot be read, or is no YAML.
    """
    document = read(path)
    data = dict(document.data)
    base, problems = _base(document, data.pop("extends", None), (*beyond, path.resolve()))
    data = base | data
    return document, data, problems + find_problems(ModelProfile, document, data)


def _gate_file(path: Path, beyond: tuple[Path, ...] = ()) -> Path:
    """Where the gate of a checked profile is: beside the file that names it, this one or one that it extends."""
    data = read(path).data
    if "gate" in data:
        return path.with_name(data["gate"])
    beyond = (*beyond, path.resolve())
    return _gate_file(find("models", data["extends"], beyond), beyond)


def _base(document: Document, name: Any, beyond: tuple[Path, ...]) -> tuple[dict[str, Any], list[Problem]]:
    """The data that a profile extends, and what is wrong with it."""
    if name is None:
        return {}, []
    stand_in = read(_shipped() / "models" / "default.yaml").data  # so that the other keys can be judged all the same
    if not isinstance(name, str):
        return stand_in, [document.problem(("extends",), "should be the name of a profile")]
    try:
        path = find("models", name, beyond)
        if path.resolve() in beyond:
            return stand_in, [document.problem(("extends",), f"{name} extends this file")]
        _, data, problems = extended(path, beyond)
    except UnknownNameError as error:
        return stand_in, [document.problem(("extends",), unknown_name(error))]
    except UsageError as error:
        return stand_in, [document.problem(("extends",), "; ".join(error.what.splitlines()))]
    return (stand_in, problems) if problems else (data, [])
