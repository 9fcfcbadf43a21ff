"""From parts to a full context cache: encode, prefill, and whatever passes over the context a method observes by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter

import torch

from flowmm.answer import answer_all
from flowmm.context import ContextCache, Evidence, Prompt
from flowmm.errors import UsageError
from flowmm.hf.layers import output_weight, shown_to
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import context_prompt
from flowmm.observe.gate import Gate, Gating
from flowmm.observe.probes import replayed, study
from flowmm.observe.reconstruct import Seen, reconstruct
from flowmm.observe.scout import Scouted, check_same_tokens, with_scouted
from flowmm.observe.tail import Recorder
from flowmm.observing import Observe, joined
from flowmm.plan import Progress
from flowmm.prefill import FullRead, prefill
from flowmm.profiles import Method, load_method, method_names
from flowmm.records import Answer, Generation, Part, Provenance
from flowmm.selfcheck import check_against_transformers


def read_context(
    parts: Sequence[Part],
    loaded: LoadedModel,
    method: Method | None,
    *,
    passes: Method | None = None,
    gate: Gate | None = None,
    system: str | None = None,
    chunk_tokens: int = 2048,
    seed: int = 0,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
    scouted: Scouted | None = None,
) -> ContextCache:
    """The full cache of a context, with evidence.

    Args:
        parts: in their order in the context.
        loaded: the model.
        method: whose evidence is recorded; None: what any shipped method needs of one pass.
        passes: with ``method`` None, a method whose further passes are made too.
        gate: of this model; looked through when the method does so, or when there is no method.
        system: a system message.
        chunk_tokens: tokens per forward pass.
        seed: of the draw of reference queries.
        progress: called with phase (vision, prefill, reconstruct, probes), done and total.
        notice: told what the user should know.
        scouted: what a scout saw of the same parts; its scores become evidence.

    Raises:
        MismatchError: the scout read other tokens.
        UsageError: the method looks through a gate, and there is none.
    """
    prompt = read_prompt(parts, loaded, system=system, notice=notice)
    if scouted is not None:
        check_same_tokens(scouted, prompt, loaded.identity.id)
    cache = full_cache(
        prompt, loaded, method, passes=passes, gate=gate, chunk_tokens=chunk_tokens, seed=seed, progress=progress
    )
    return cache if scouted is None else with_scouted(cache, scouted)


def full_cache(
    prompt: Prompt,
    loaded: LoadedModel,
    method: Method | None,
    *,
    passes: Method | None = None,
    gate: Gate | None = None,
    chunk_tokens: int = 2048,
    seed: int = 0,
    progress: Progress | None = None,
) -> ContextCache:
    """The same of a context that is tokens already."""
    observe = method.observe if method is not None else _all_of_one_pass(passes, gate)
    gating = _gating(observe, gate, method or passes)
    recorder = Recorder(
        len(loaded.family.windows),
        prompt.modality,
        tail=observe.tail,
        cumulative=observe.cumulative,
        sample=observe.sample,
        seed=seed,
    )
    with shown_to(loaded.model, gating) if gating is not None else nullcontext():
        full = prefill(prompt, loaded, chunk_tokens=chunk_tokens, observer=recorder, progress=progress)
    evidence = tuple(
        replace(one, value_weight=output_weight(loaded.model, index, layer), rotation=rotation)
        for index, (one, layer, rotation) in enumerate(
            zip(recorder.evidence(), full.layers, full.rotations, strict=True)
        )
    )
    provenance = Provenance(
        model=loaded.identity,
        sources=prompt.spans,
        flow=tuple(one.flow for one in evidence),
        seconds=full.seconds,
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    cache = ContextCache(full.layers, full.modality, full.next_position, provenance, evidence)
    told = progress or (lambda _phase, _done, _total: None)
    cache, seen = _with_passes(cache, full, prompt, loaded, observe, seed, told)
    return _with_evidence(cache, seen if gating is None else seen | {"gate": gating.seen()})


def read_prompt(
    parts: Sequence[Part],
    loaded: LoadedModel,
    *,
    system: str | None = None,
    notice: Callable[[str], None] | None = None,
) -> Prompt:
    """The tokens of a context; on a family that is not verified, the model is checked on their beginning."""
    prompt = context_prompt(parts, loaded, system=system, notice=notice)
    if not loaded.family.verified:
        difference = check_against_transformers(prompt, loaded)
        if notice is not None:
            checked = f"the beginning reads as in transformers (off by {difference:.1g} of the largest logit)"
            notice(f"{loaded.family.name} is no verified family; {checked}")
    return prompt


def versions() -> dict[str, str]:
    """Versions of what made a file."""
    import platform
    from importlib.metadata import version

    libraries = ("flowmm", "torch", "transformers")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}


def _gating(observe: Observe, gate: Gate | None, method: Method | None) -> Gating | None:
    """What looks through the gate, if that is asked for."""
    if not observe.gate:
        return None
    if gate is None:
        name = "" if method is None else f"{method.name} "
        what = f"method {name}looks through a gate, but the model's profile names none"
        raise UsageError(what, "Train one: flowmm calibrate DOCUMENTS --gate -o my.yaml, then read with -p my.yaml.")
    return Gating(gate)


def _all_of_one_pass(passes: Method | None, gate: Gate | None) -> Observe:
    """What any shipped method records during the prefill, and the further passes of one method."""
    own = Observe() if passes is None else passes.observe
    recorded = joined([own, *(load_method(name).observe for name in method_names())])
    looks = own.gate or gate is not None
    return recorded.model_copy(update={"reconstruct": own.reconstruct, "probes": own.probes, "gate": looks})


def _with_passes(
    cache: ContextCache,
    full: FullRead,
    prompt: Prompt,
    loaded: LoadedModel,
    observe: Observe,
    seed: int,
    progress: Progress,
) -> tuple[ContextCache, dict[str, Seen]]:
    """The cache with the seconds of its further passes, and what they saw."""
    seconds = dict(cache.provenance.seconds)
    seen: dict[str, Seen] = {}
    if observe.reconstruct is not None:
        with _timed(seconds, "reconstruct"):
            told = partial(progress, "reconstruct")
            seen["reconstruct"] = reconstruct(
                cache, prompt.token_ids, full.embedded, loaded, observe.reconstruct, seed=seed, progress=told
            )
    if observe.probes is not None:
        with _timed(seconds, "probes"):
            told = partial(progress, "probes")
            answers = study(partial(_ask, cache, loaded), observe.probes, told)
            seen["probes"] = replayed(cache, answers, loaded, observe.probes, seed=seed, progress=told)
    return replace(cache, provenance=replace(cache.provenance, seconds=seconds)), seen


def _with_evidence(cache: ContextCache, seen: dict[str, Seen]) -> ContextCache:
    """The cache with all that was seen."""
    if not seen or cache.evidence is None:
        return cache
    return replace(cache, evidence=tuple(_with_seen(one, layer, seen) for layer, one in enumerate(cache.evidence)))


def _ask(cache: ContextCache, loaded: LoadedModel, questions: Sequence[str], longest: int) -> list[Answer]:
    return list(answer_all(cache, questions, loaded, Generation(max_new_tokens=longest)))


def _with_seen(evidence: Evidence, layer: int, seen: dict[str, Seen]) -> Evidence:
    observed = {name: one.received[layer] for name, one in seen.items()}
    observed |= {f"{name}_relative": one.relative[layer] for name, one in seen.items() if one.relative}
    queries = [one.queries[layer] for one in seen.values()]
    found = [some for some in queries if some is not None]
    return replace(evidence, observed=observed, asking=torch.cat(found, 1) if found else None)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = perf_counter()
    yield
    seconds[phase] = perf_counter() - began
