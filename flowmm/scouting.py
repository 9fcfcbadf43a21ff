"""A scout reads the context, leaves its scores, and is freed before the large model is loaded."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict

import torch

from flowmm.compress import scored
from flowmm.contexts import full_cache, read_prompt
from flowmm.hf.loading import LoadedModel, load_model
from flowmm.observe.scout import Scouted, favourites
from flowmm.plan import Progress
from flowmm.profiles import Method
from flowmm.records import ModelOptions, Part
from flowmm.rules import build_rules


def send_scout(
    parts: Sequence[Part],
    model: ModelOptions,
    method: Method,
    *,
    system: str | None = None,
    chunk_tokens: int = 2048,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scouted:
    """Load a scout, let it read, and free it; arguments as of :func:`scouted_by`.

    Raises:
        FlowmmError: see :mod:`flowmm.errors`.
    """
    build_rules(_of_scout(method))  # what is wrong with the method shows before the long work
    settings = asdict(model)
    scouted = scouted_by(
        load_model(settings.pop("name"), **settings),
        parts,
        method,
        system=system,
        chunk_tokens=chunk_tokens,
        seed=seed,
        progress=progress,
    )
    gc.collect()  # a model's parts may refer to each other in circles
    torch.cuda.empty_cache()
    return scouted


def scouted_by(
    loaded: LoadedModel,
    parts: Sequence[Part],
    method: Method,
    *,
    system: str | None = None,
    chunk_tokens: int = 2048,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scouted:
    """What a scout sees of a context: its scores of every slot, and what its heads look at most.

    Args:
        loaded: the scout.
        parts: of the context.
        method: one with ``observe.scout``, which says what the scout observes and how it scores.
        system: a system message.
        chunk_tokens: tokens per forward pass.
        seed: for rules that draw.
        progress: called with phase (``scout vision``, ``scout prefill``, ...), done and total.
    """
    settings, tail = method.observe.scout, method.observe.tail
    assert settings is not None  # the caller's to see
    told = None if progress is None else _of_a_scout(progress)
    prompt = read_prompt(parts, loaded, system=system)
    own = _of_scout(method)
    cache = full_cache(prompt, loaded, own, chunk_tokens=chunk_tokens, seed=seed, progress=told)
    return Scouted(
        loaded.identity,
        prompt.token_ids,
        prompt.modality,
        tail,
        settings.top,
        favourites(cache, tail, settings.top),
        tuple(scores.cpu() for scores in scored(cache, own, seed)),
    )


def _of_scout(method: Method) -> Method:
    """The method as the scout follows it: what it observes, the large model's last queries included, and its score."""
    settings = method.observe.scout
    assert settings is not None
    observe = settings.model_copy(update={"tail": max(settings.tail, method.observe.tail)})
    return method.model_copy(update={"observe": observe, "score": settings.score})


def _of_a_scout(progress: Progress) -> Progress:
    return lambda phase, done, total: progress(f"scout {phase}", done, total)
