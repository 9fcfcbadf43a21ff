"""One reading of a context for several observers: each gets the full cache that it would have had alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from flowmm.answer import answer_all
from flowmm.context import ContextCache, Evidence, Modality, Prompt
from flowmm.errors import UsageError
from flowmm.hf.layers import output_weight, shown_to
from flowmm.hf.loading import LoadedModel
from flowmm.observe.gate import Gate, Gating
from flowmm.observe.probes import replayed, study
from flowmm.observe.reconstruct import Seen, reconstruct, restricted
from flowmm.observe.tail import Recorder, drawn_evenly
from flowmm.observing import Observe, Probes, Reconstruct, covers, fewest, joined, pass_digest
from flowmm.plan import Progress
from flowmm.prefill import FullRead, prefill
from flowmm.records import Answer, Generation, Provenance


def full_caches(
    prompt: Prompt,
    loaded: LoadedModel,
    observes: Mapping[str, Observe],
    *,
    gate: Gate | None = None,
    chunk_tokens: int = 2048,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, ContextCache]:
    """Prefill once, make every further pass once, and deal out what was seen.

    Args:
        prompt: the context.
        loaded: the model.
        observes: what to record, by the name of the method it is for; at least one.
        gate: of this model; looked through for those who ask for it.
        chunk_tokens: tokens per forward pass.
        seed: of the draw of reference queries.
        progress: called with phase (vision, prefill, reconstruct, probes), done and total.

    Returns:
        By the same names, full caches that share keys and values; the evidence of each is its own and no more.

    Raises:
        UsageError: a gate is asked for, and there is none.
    """
    check_gate(observes, gate)
    told = progress or (lambda _phase, _done, _total: None)
    gating = Gating(gate) if gate is not None and any(one.gate for one in observes.values()) else None
    union = joined(list(observes.values()))
    samples = sorted({one.sample for one in observes.values()})
    recorder = Recorder(
        len(loaded.family.windows),
        prompt.modality,
        tail=union.tail,
        cumulative=union.cumulative,
        sample=samples,
        seed=seed,
    )
    with shown_to(loaded.model, gating) if gating is not None else nullcontext():
        full = prefill(prompt, loaded, chunk_tokens=chunk_tokens, observer=recorder, progress=progress)
    reading = _Reading(prompt, loaded, full, _cache(prompt, loaded, full, recorder), seed, told)
    passes = [
        *(reading.reconstructed(one) for one in fewest([one.reconstruct for one in observes.values()])),
        *(reading.probed(one) for one in fewest([one.probes for one in observes.values()])),
    ]
    gated = None if gating is None else gating.seen()
    return {name: _dealt(reading.cache, observe, passes, gated, seed) for name, observe in observes.items()}


def check_gate(observes: Mapping[str, Observe], gate: Gate | None) -> None:
    """Raises UsageError if a method cannot do without a gate, and there is none."""
    for name, observe in observes.items():
        if observe.gate is True and gate is None:
            what = f"method {name} looks through a gate, but the model's profile names none"
            raise UsageError(
                what, "Train one: flowmm calibrate DOCUMENTS --gate -o my.yaml, then read with -p my.yaml."
            )


def versions() -> dict[str, str]:
    """Versions of what made a file."""
    import platform
    from importlib.metadata import version

    libraries = ("flowmm", "torch", "transformers")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}


@dataclass(frozen=True)
class _Pass:
    """A further pass over the context: what it was asked to do, what it saw, and its seconds."""

    name: str
    settings: Reconstruct | Probes
    seen: Seen
    seconds: float


@dataclass(frozen=True)
class _Reading:
    """A context that was read, and what reads it again."""

    prompt: Prompt
    loaded: LoadedModel
    full: FullRead
    cache: ContextCache
    seed: int
    progress: Progress

    def reconstructed(self, settings: Reconstruct) -> _Pass:
        """The context, repeated behind itself."""
        began = perf_counter()
        told = partial(self.progress, "reconstruct")
        ids, embedded = self.prompt.token_ids, self.full.embedded
        seen = reconstruct(self.cache, ids, embedded, self.loaded, settings, seed=self.seed, progress=told)
        return _Pass("reconstruct", settings, seen, perf_counter() - began)

    def probed(self, settings: Probes) -> _Pass:
        """What the model writes about the context, fed behind it."""
        began = perf_counter()
        told = partial(self.progress, "probes")
        words = self.prompt.token_ids[self.prompt.modality == Modality.TEXT]
        text = str(self.loaded.tokenizer.decode(words)) if settings.words else ""
        seen_alone = [] if not settings.each_image else list(self._ask_each_image(settings, told))
        text = "\n".join([text, *(answer.text for answer in seen_alone)])
        answers = seen_alone + study(self._ask, settings, text, told)
        seen = replayed(self.cache, answers, self.loaded, settings, seed=self.seed, progress=told)
        return _Pass("probes", settings, seen, perf_counter() - began)

    def _ask(self, questions: Sequence[str], longest: int) -> list[Answer]:
        return list(answer_all(self.cache, questions, self.loaded, Generation(max_new_tokens=longest)))

    def _ask_each_image(self, settings: Probes, told: Callable[[int, int], None]) -> Iterator[Answer]:
        """Answers about each image as if it were the whole context: a page is read out more surely by itself."""
        visual, places = self.prompt.modality == Modality.VISUAL, torch.arange(len(self.prompt.modality))
        spans = [(span.start, span.end) for span in self.prompt.spans if bool(visual[span.start : span.end].any())]
        template = self.prompt.modality == Modality.TEMPLATE
        for done, (start, end) in enumerate(spans):
            told(done, len(spans))
            mine = template | (visual & (places >= start) & (places < end))
            alone = restricted(self.cache, mine.nonzero()[:, 0])
            generation = Generation(max_new_tokens=settings.longest_image)
            yield from answer_all(alone, settings.each_image, self.loaded, generation)


def _cache(prompt: Prompt, loaded: LoadedModel, full: FullRead, recorder: Recorder) -> ContextCache:
    """The full cache with what was seen while it was read."""
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
    return ContextCache(full.layers, full.modality, full.next_position, provenance, evidence)


def _dealt(
    cache: ContextCache, observe: Observe, passes: Sequence[_Pass], gated: Seen | None, seed: int
) -> ContextCache:
    """The cache with what one observer asked for."""
    wanted = {"reconstruct": observe.reconstruct, "probes": observe.probes}
    own: dict[str, _Pass] = {}
    for one in passes:
        settings = wanted[one.name]
        if one.name not in own and settings is not None and covers(one.settings, settings):
            own[one.name] = one
    seen = {name: _limited(one.seen, wanted[name]) for name, one in own.items()}
    if observe.gate and gated is not None:
        seen["gate"] = gated
    sample = drawn_evenly(cache.num_tokens, observe.sample, seed)
    evidence = tuple(
        _with_seen(_own(one, observe, sample), layer, seen) for layer, one in enumerate(cache.evidence or ())
    )
    seconds = {**cache.provenance.seconds, **{name: one.seconds for name, one in own.items()}}
    digests = {name: pass_digest(one.settings) for name, one in own.items()}
    return replace(cache, evidence=evidence, provenance=replace(cache.provenance, seconds=seconds, passes=digests))


def _own(evidence: Evidence, observe: Observe, sample: Tensor) -> Evidence:
    """What was recorded of one layer for all, cut down to what one asked for; ``sample`` ``[M]`` are its tokens."""
    first = max(0, evidence.query_index.shape[0] - observe.tail)
    cut = replace(
        evidence,
        queries=evidence.queries[:, first:],
        query_index=evidence.query_index[first:],
        cumulative=evidence.cumulative if observe.cumulative else None,
    )
    if evidence.sample is None or evidence.sample_index is None or not sample.numel():
        return replace(cut, sample=None, sample_index=None)
    chosen = torch.isin(evidence.sample_index, sample.to(evidence.sample_index.device))
    return replace(cut, sample=evidence.sample[:, chosen], sample_index=evidence.sample_index[chosen])


def _limited(seen: Seen, settings: Reconstruct | Probes | None) -> Seen:
    """What a pass saw, as far as it was asked for."""
    relative = isinstance(settings, Reconstruct) and settings.relative
    queries = seen.queries if settings is not None and settings.queries else (None,) * len(seen.queries)
    return replace(seen, relative=seen.relative if relative else (), queries=queries)


def _with_seen(evidence: Evidence, layer: int, seen: Mapping[str, Seen]) -> Evidence:
    observed = {name: one.received[layer] for name, one in seen.items()}
    observed |= {f"{name}_relative": one.relative[layer] for name, one in seen.items() if one.relative}
    queries = [one.queries[layer] for one in seen.values()]
    found = [some for some in queries if some is not None]
    return replace(evidence, observed=observed, asking=torch.cat(found, 1) if found else None)
