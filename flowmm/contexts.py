"""From parts to a full context cache: encode, prefill, and whatever passes over the context a method observes by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter

import torch

from flowmm.answer import answer_all
from flowmm.context import ContextCache, Evidence, Prompt
from flowmm.hf.layers import output_weight
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import context_prompt
from flowmm.observe.probes import replayed, study
from flowmm.observe.reconstruct import Seen, reconstruct
from flowmm.observe.scout import Scouted, check_same_tokens, with_scouted
from flowmm.observe.tail import Recorder
from flowmm.plan import Progress
from flowmm.prefill import FullRead, prefill
from flowmm.profiles import Method, Observe, joined, load_method, method_names
from flowmm.records import Answer, Generation, Part, Provenance
from flowmm.selfcheck import check_against_transformers


def read_context(
    parts: Sequence[Part],
    loaded: LoadedModel,
    method: Method | None,
    *,
    passes: Method | None = None,
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
        system: a system message.
        chunk_tokens: tokens per forward pass.
        seed: of the draw of reference queries.
        progress: called with phase (vision, prefill, reconstruct, probes), done and total.
        notice: told what the user should know.
        scouted: what a scout saw of the same parts; its scores become evidence.

    Raises:
        MismatchError: the scout read other tokens.
    """
    prompt = read_prompt(parts, loaded, system=system, notice=notice)
    if scouted is not None:
        check_same_tokens(scouted, prompt, loaded.identity.id)
    cache = full_cache(prompt, loaded, method, passes=passes, chunk_tokens=chunk_tokens, seed=seed, progress=progress)
    return cache if scouted is None else with_scouted(cache, scouted)


def full_cache(
    prompt: Prompt,
    loaded: LoadedModel,
    method: Method | None,
    *,
    passes: Method | None = None,
    chunk_tokens: int = 2048,
    seed: int = 0,
    progress: Progress | None = None,
) -> ContextCache:
    """The same of a context that is tokens already."""
    observe = method.observe if method is not None else _all_of_one_pass(passes)
    recorder = Recorder(
        len(loaded.family.windows),
        prompt.modality,
        tail=observe.tail,
        cumulative=observe.cumulative,
        sample=observe.sample,
        seed=seed,
    )
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
    return _with_passes(cache, full, prompt, loaded, observe, seed, progress or (lambda _phase, _done, _total: None))


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


def _all_of_one_pass(passes: Method | None) -> Observe:
    """What any shipped method records during the prefill, and the further passes of one method."""
    own = Observe() if passes is None else passes.observe
    recorded = joined([own, *(load_method(name).observe for name in method_names())])
    return recorded.model_copy(update={"reconstruct": own.reconstruct, "probes": own.probes})


def _with_passes(
    cache: ContextCache,
    full: FullRead,
    prompt: Prompt,
    loaded: LoadedModel,
    observe: Observe,
    seed: int,
    progress: Progress,
) -> ContextCache:
    """The cache with what its further passes saw, and their seconds."""
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
    if not seen or cache.evidence is None:
        return cache
    evidence = tuple(_with_seen(one, layer, seen) for layer, one in enumerate(cache.evidence))
    return replace(cache, evidence=evidence, provenance=replace(cache.provenance, seconds=seconds))


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
