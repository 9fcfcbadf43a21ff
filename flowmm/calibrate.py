"""Measure a model on documents and write its profile: flow, theta, heads, precisions, and their origin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowmm.calibration import (
    NO_PRECISION,
    PrecisionErrors,
    flows_over,
    head_budget_of,
    head_budget_rule,
    head_weight_rule,
    mean_errors,
    precision_rule,
    precisions_of,
    theta_of,
)
from flowmm.chosen import chosen_model, load_chosen_model
from flowmm.errors import UsageError
from flowmm.inputs.options import ReadOptions
from flowmm.pipeline import Notice
from flowmm.plan import CompressOptions, Plan, Progress
from flowmm.profiles import GateReport, Method, ModelProfile, load_method, load_profile, own_keys
from flowmm.records import ModelOptions, Part

if TYPE_CHECKING:
    from flowmm.hf.loading import LoadedModel
    from flowmm.observe.gate import Gate

# Leverages are shares of one whole in every head, so that one threshold over heads means something; and no query is
# needed, so that the budgets do not depend on what is asked.
METHOD = "leverage"

_READ = ReadOptions()
_MODEL = ModelOptions()


@dataclass(frozen=True)
class _Measured:
    """What one document gave."""

    name: str
    sha256: str
    tokens: int
    flow: list[float] | None  # per layer; None: the document has no image, or nothing else
    kept: list[list[int]]  # slots of each KV head of each layer
    errors: PrecisionErrors | None  # None: no share of its bytes holds it


def calibrate_model(
    paths: Sequence[str],
    output: str | Path,
    *,
    read: ReadOptions = _READ,
    model: ModelOptions = _MODEL,
    profile: str | None = None,
    method: str = METHOD,
    keep: float | None = None,
    gate: bool = False,
    suites: Sequence[str | Path] = (),
    chunk_tokens: int = 2048,
    force: bool = False,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> ModelProfile:
    """Write a profile whose theta, heads and precisions were measured on documents, each a context of its own.

    Args:
        paths: the documents.
        output: the profile to write, .yaml.
        read: how documents are read.
        model: what is measured.
        profile: the profile whose other values hold; None: FLOWMM_PROFILE, else the model's own.
        method: whose budgets are measured; one that lets heads keep different numbers of slots.
        keep: share of the slots that it keeps; None is ``compress.DEFAULT_KEEP``.
        gate: also train a gate (Fast KVzip), which reads each context twice more, and write it beside the profile.
        suites: folders of contexts with questions like those to come (docs/suites.md). Heads are weighed by what
            these lose, and a gate is trained on the contexts too.
        chunk_tokens: tokens per forward pass.
        force: overwrite.
        progress: called with phase, done and total.
        notice: told what the user should know.

    Returns:
        The profile as it was written.

    Raises:
        FlowmmError: see :mod:`flowmm.errors`; nothing is left under ``output`` then.
    """
    _check_output(output, force, gate, paths)
    tell = progress or _nobody
    name = chosen_model(model)
    plan = Plan.early(name, CompressOptions(enabled=False, profile=profile, keep=keep))
    budgets_of = load_method(method)
    documents = _read_each(paths, plan.reading(read), tell)
    from flowmm.head_weights import asked_of, head_weights  # not before: a bad name or document needs no torch

    asked = asked_of(documents, suites, plan.reading(read))
    loaded = _load(model, budgets_of, notice)
    plan = plan.completed(loaded.family.name)
    chooser = _chooser(plan.known_method, budgets_of)
    weights = head_weights(asked, loaded, chunk_tokens, tell)
    weighed = plan.known_profile if weights is None else plan.known_profile.model_copy(update={"head_weight": weights})
    trained = _gate([parts for parts, _ in asked], loaded, chunk_tokens, tell) if gate else None
    measured = []
    for done, (path, parts) in enumerate(zip(paths, documents, strict=True)):
        tell("document", done, len(documents))
        try:
            once = None if done else notice
            known = trained[0] if trained else None
            one = _measure(parts, loaded, budgets_of, chooser, weighed, known, keep, chunk_tokens, tell, once)
        except UsageError as error:
            raise UsageError(f"{path}: {error.what}", error.hint) from None
        measured.append(one)
    tell("document", len(documents), len(documents))
    keys = own_keys(plan.named or plan.known_profile.name)
    if keys.pop("gate", None) is not None and notice is not None and not gate:
        notice(f"the gate of profile {plan.known_profile.name} is not taken over; --gate trains one")
    keys |= _keys(measured, loaded, budgets_of, chooser, keep)
    if weights is not None:
        keys["head_weight"] = weights
        keys["calibrated"]["head_weight"] = head_weight_rule(len(asked) - len(documents))
    if trained:
        _keep_gate(trained, keys, output, loaded, force)
    _write(output, keys, plan.known_profile.name)
    return load_profile(Path(output), loaded.family.name)


def _check_output(output: str | Path, force: bool, gate: bool, paths: Sequence[str]) -> None:
    from flowmm.atomic import check_apart, check_target

    if Path(output).suffix not in (".yaml", ".yml"):
        raise UsageError(f"{output}: is no name of a profile, expected one that ends in .yaml", f"Write {output}.yaml.")
    check_target(output, force=force)
    check_apart(output, paths)
    if gate:
        check_target(_gate_path(output), force=force)


def _gate_path(output: str | Path) -> Path:
    """my.yaml has its gate in my-gate.safetensors."""
    return Path(output).with_name(f"{Path(output).stem}-gate.safetensors")


def _read_each(paths: Sequence[str], read: ReadOptions, tell: Progress) -> list[list[Part]]:
    """The parts of each document: all are read, and may be refused, before the long work."""
    from flowmm.inputs import read as read_documents

    if not paths:
        raise UsageError("no document was given", "Name at least one file to measure on.")
    documents = []
    for done, path in enumerate(paths):
        tell("read", done, len(paths))
        documents.append(read_documents([path], read))
    tell("read", len(paths), len(paths))
    return documents


def _load(model: ModelOptions, method: Method, notice: Notice | None) -> LoadedModel:
    from flowmm.rules import build_rules

    if not build_rules(method).budget.counted:
        hint = f"Name a method that lets heads keep different numbers, such as {METHOD}."
        raise UsageError(f"method {method.name} keeps every slot, so it has no budgets to measure", hint)
    if notice is not None and model.name is None and not os.environ.get("FLOWMM_MODEL"):
        notice("no model was named: the embedded reader is measured (a demo model; name a real one with -m)")
    return load_chosen_model(model)


def _chooser(own: Method, budgets_of: Method) -> Method:
    """The method whose slots precisions are compared on: the profile's own, if documents alone are enough for it."""
    from flowmm.rules import build_rules

    alone = own.observe.scout is None and own.observe.gate is not True and not own.question
    return own if alone and build_rules(own).budget.counted else budgets_of


def _measure(
    parts: Sequence[Part],
    loaded: LoadedModel,
    method: Method,
    chooser: Method,
    profile: ModelProfile,
    trained: Gate | None,
    keep: float | None,
    chunk_tokens: int,
    tell: Progress,
    notice: Notice | None,
) -> _Measured:
    """Read one document and see what flows, what the method leaves each head, and what precisions lose."""
    from flowmm.compress import compress
    from flowmm.contexts import read_prompt
    from flowmm.flow import compared
    from flowmm.observe.gate_file import gate_of
    from flowmm.precisions import precision_errors
    from flowmm.readings import full_caches

    prompt = read_prompt(parts, loaded, notice=notice)
    observes = {method.name: method.observe, chooser.name: chooser.observe}
    gate = trained or gate_of(profile, loaded, method)
    caches = full_caches(prompt, loaded, observes, gate=gate, chunk_tokens=chunk_tokens, progress=tell)
    cache = caches[method.name]
    equal = profile.model_copy(
        update={"layer_budget": None, "head_budget": None, "head_weight": None}
    )  # what is measured starts afresh
    small = compress(
        cache, method, profile=equal, keep=keep, progress=lambda done, total: tell("compress", done, total)
    )
    flows = [compared(flow, profile.flow_without_sinks) for flow in small.provenance.flow if flow is not None]
    source = parts[0].source
    kept = [layer.lengths.tolist() for layer in small.layers]
    errors = precision_errors(prompt, caches[chooser.name], chooser, profile, loaded, tell)
    return _Measured(source.name, source.sha256, cache.num_tokens, flows or None, kept, errors)


def _keys(
    measured: Sequence[_Measured], loaded: LoadedModel, method: Method, chooser: Method, keep: float | None
) -> dict[str, Any]:
    """The measured keys of the profile, and what they were measured on."""
    from importlib.metadata import version

    from flowmm.compress import DEFAULT_KEEP

    flows = flows_over([one.flow for one in measured if one.flow is not None])
    theta = theta_of(flows)
    errors = _errors(measured)
    return {
        "model_type": loaded.family.name,
        **({} if theta.value is None else {"theta": theta.value}),
        "head_budget": head_budget_of([one.kept for one in measured]),
        **({} if errors is None else {"precision": precisions_of(errors)}),
        "calibrated": {
            "model": loaded.identity.id,
            "weights": loaded.identity.weights,
            "documents": [{"name": one.name, "sha256": one.sha256} for one in measured],
            "tokens": sum(one.tokens for one in measured),
            "date": datetime.now(UTC).date().isoformat(),
            "flowmm": version("flowmm"),
            "flow_mean": flows.mean,
            "flow_spread": flows.spread,
            "theta": theta.rule,
            "head_budget": head_budget_rule(method.name, DEFAULT_KEEP if keep is None else keep),
            "precision": {
                "rule": NO_PRECISION if errors is None else precision_rule(chooser.name),
                "shares": [] if errors is None else list(errors.shares),
                "errors": {} if errors is None else {name: list(one) for name, one in errors.by_name.items()},
            },
        },
    }


def _errors(measured: Sequence[_Measured]) -> PrecisionErrors | None:
    """What precisions lose in the mean of the documents, if there is a share of the bytes that holds all of them."""
    known = [one.errors for one in measured if one.errors is not None]
    found = mean_errors(known) if known else None
    return found if found is not None and found.shares else None


def _gate(
    contexts: Sequence[Sequence[Part]], loaded: LoadedModel, chunk_tokens: int, tell: Progress
) -> tuple[Gate, GateReport]:
    from flowmm.lessons import gate_from

    return gate_from(contexts, loaded, chunk_tokens=chunk_tokens, progress=tell)


def _keep_gate(
    trained: tuple[Gate, GateReport], keys: dict[str, Any], output: str | Path, loaded: LoadedModel, force: bool
) -> None:
    """Write a gate, and name it in the keys of the profile."""
    from flowmm.observe.gate_file import save_gate

    gate, report = trained
    save_gate(gate, _gate_path(output), loaded.identity.id, force=force)
    keys["gate"] = _gate_path(output).name
    keys["calibrated"]["gate"] = report.model_dump()


def _write(output: str | Path, keys: dict[str, Any], base: str) -> None:
    from flowmm.atomic import replacing
    from flowmm.yamlfile import dump

    head = (
        f"# Written by `flowmm calibrate`: what is measured, `calibrated` explains; all else is as in profile {base}.\n"
    )
    content = (head + dump(keys)).encode()
    with replacing(output, len(content)) as file:
        file.write(content)


def _nobody(phase: str, done: int, total: int) -> None:
    pass
