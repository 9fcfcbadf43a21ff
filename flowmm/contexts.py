"""From parts to a full context cache: encode, prefill, and whatever passes over the context a method observes by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowmm.context import ContextCache, Prompt
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import context_prompt
from flowmm.observe.gate import Gate
from flowmm.observe.scout import Scouted, check_same_tokens, with_scouted
from flowmm.observing import Observe, joined
from flowmm.plan import Progress
from flowmm.profiles import Method, load_method, method_names
from flowmm.readings import full_caches
from flowmm.records import Part
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
    named = method or passes
    observes = {"" if named is None else named.name: observe}
    (cache,) = full_caches(
        prompt, loaded, observes, gate=gate, chunk_tokens=chunk_tokens, seed=seed, progress=progress
    ).values()
    return cache


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


def _all_of_one_pass(passes: Method | None, gate: Gate | None) -> Observe:
    """What any shipped method records during the prefill, and the further passes of one method."""
    own = Observe() if passes is None else passes.observe
    recorded = joined([own, *(load_method(name).observe for name in method_names())])
    looks = own.gate or gate is not None
    return recorded.model_copy(update={"reconstruct": own.reconstruct, "probes": own.probes, "gate": looks})
