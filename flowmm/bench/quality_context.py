"""One context of a suite, read once and asked in every way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from time import perf_counter

from flowmm.bench.evidence_slots import evidence_tokens, gone_everywhere, modality_of
from flowmm.bench.marks import marks
from flowmm.bench.quality_controls import FULL, QUANTISED, control_parts
from flowmm.bench.quality_rows import PLANNER, Asked, Key, Row
from flowmm.bench.suite import Suite, SuiteContext, SuiteQuestion
from flowmm.byte_planner import expected_size, limit_of, plan_bytes
from flowmm.compress import compress
from flowmm.context import ContextCache, LayerCache, Modality
from flowmm.contexts import read_prompt
from flowmm.distil import distilled, lessons
from flowmm.errors import FlowmmError
from flowmm.filling import plain_bytes
from flowmm.held_out import HeldOut, agreement, ask_held_out, held_out_questions, text_of
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import template_prompt
from flowmm.layer_tensors import rounded
from flowmm.observe.gate import Gate
from flowmm.observing import Observe
from flowmm.packing import PACKINGS
from flowmm.profiles import Method, ModelProfile
from flowmm.readings import full_caches
from flowmm.records import Answer, Generation, Part, Source
from flowmm.rules import build_rules
from flowmm.sessions import Session

_PLAIN = ""  # the name of a reading for no method


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    suite: Suite
    loaded: LoadedModel
    profile: ModelProfile
    methods: Mapping[str, Method]
    gate: Gate | None
    strict: bool  # whether a method that cannot be used is an error, and not a row that says so
    max_new_tokens: int
    chunk_tokens: int
    seed: int
    losses: bool = False  # whether each small cache is also asked what its file would say that it lost


class ContextRun:
    """One context; its documents are opened when the first row is asked for."""

    def __init__(self, subject: Subject, context: SuiteContext) -> None:
        self._subject, self._context = subject, context
        self._answered: tuple[tuple[LayerCache, ...], HeldOut] | None = None

    def rows(self, pending: Sequence[Key]) -> Iterator[Row]:
        """A row each; the context is read once for all that need it as it is, and once for every other control.

        Raises:
            FlowmmError: a document, or (where that is strict) a method that cannot be used.
        """
        groups: dict[str, list[Key]] = {"shared": [], "control": [], "question_aware": []}
        for key in pending:
            shared = key.group in ("compressed", "planned") or key.name in (FULL, QUANTISED)
            shared = shared and key.group != "question_aware"
            groups["shared" if shared else key.group].append(key)
        if groups["shared"]:
            caches, evidence = self._read(self._flat, groups["shared"])
            for key in groups["shared"]:
                yield self._or_refused(key, partial(self._asked, key, caches, evidence))
        for key in groups["control"]:
            caches, _ = self._read(control_parts(key, self._flat, self._subject.loaded), ())
            yield self._asked(key, caches, {})
        if groups["question_aware"]:
            yield from self._aware(groups["question_aware"])

    @cached_property
    def _parts(self) -> list[list[Part]]:
        return self._subject.suite.load_parts(self._context, max_pixels=self._subject.profile.max_pixels)

    @cached_property
    def _flat(self) -> list[Part]:
        return [part for parts in self._parts for part in parts]

    def _aware(self, keys: Sequence[Key]) -> Iterator[Row]:
        """Each question is read behind the context, and once the cache is compressed asked again."""
        rows: dict[Key, list[Row]] = {key: [] for key in keys}
        for asked in self._context.questions:
            source = Source(f"{asked.id}.txt", sha256(asked.question.encode()).hexdigest(), "text")
            caches, evidence = self._read([*self._flat, Part("text", asked.question, source)], keys)
            for key, done in rows.items():
                if not done or done[-1].refused is None:
                    done.append(self._or_refused(key, partial(self._asked, key, caches, evidence, asked)))
        for done in rows.values():
            yield done[-1] if done[-1].refused is not None else _together(done)

    def _read(self, parts: Sequence[Part], keys: Sequence[Key]) -> tuple[dict[str, ContextCache], dict[str, list[int]]]:
        """Full caches by method, and the tokens that state the answers, by question.

        What is recorded does not depend on ``keys``, so that a run that goes on reads to the bit as the first did; only
        the passes of methods that are done are left out.
        """
        subject, wanted = self._subject, {key.name for key in keys}
        loaded = subject.loaded
        observes = {_PLAIN: Observe(tail=0, sample=0)}
        if keys:
            for name, method in subject.methods.items():
                done = {} if name in wanted else {"reconstruct": None, "probes": None}
                observes[name] = method.observe.model_copy(update=done)
        prompt = read_prompt(parts, loaded) if parts else template_prompt(loaded)
        caches = full_caches(
            prompt, loaded, observes, gate=subject.gate, chunk_tokens=subject.chunk_tokens, seed=subject.seed
        )
        if not keys:
            return caches, {}
        return caches, evidence_tokens(subject.suite, self._context, self._parts, prompt, loaded)

    def _or_refused(self, key: Key, measure: Callable[[], Row]) -> Row:
        try:
            return measure()
        except FlowmmError as error:
            if self._subject.strict and key.name != QUANTISED:
                raise
            return Row(self._context.id, *key, refused=error.what)

    def _asked(
        self,
        key: Key,
        caches: Mapping[str, ContextCache],
        evidence: Mapping[str, list[int]],
        only: SuiteQuestion | None = None,
    ) -> Row:
        """Compress, round to what a file holds, and ask."""
        subject = self._subject
        questions = self._context.questions if only is None else (only,)
        method = None if key.keep is None else subject.methods.get(key.name)
        full = caches[_PLAIN if method is None else method.name]
        began = perf_counter()
        small, stored = replace(full, evidence=None), key.kv_dtype
        if method is not None:
            small, stored = self._compressed(full, method, key)
        compressed, size = perf_counter(), expected_size(small, stored)
        if method is not None or key.name == QUANTISED:
            small = rounded(small, PACKINGS[stored])
        settings = Generation(max_new_tokens=subject.max_new_tokens, batch=max(1, len(questions)))
        answering = perf_counter()
        answers = list(Session(small, subject.loaded).ask_all([asked.question for asked in questions], settings))
        seconds = {
            "read": sum(full.provenance.seconds.values()),
            "compress": compressed - began,
            "answer": perf_counter() - answering,
        }
        marked = zip(questions, answers, strict=True)
        losses = subject.losses and key.group == "compressed"
        return Row(
            self._context.id,
            *key,
            tokens=full.num_tokens,
            visual_tokens=int((full.modality == Modality.VISUAL).sum()),
            keep_reached=small.keep,
            bytes=size.tensors,
            file_bytes=size.total,
            full_bytes=plain_bytes(full),
            stored=None if stored == key.kv_dtype else stored,
            agreement=agreement(self._held(full), small, subject.loaded) if losses else None,
            seconds=seconds,
            asked=tuple(_marked(asked, found, evidence.get(asked.id), small) for asked, found in marked),
        )

    def _held(self, full: ContextCache) -> HeldOut:
        """The full cache's answers to held-out questions; all methods of one reading have the same."""
        if self._answered is None or self._answered[0] is not full.layers:
            held = ask_held_out(full, held_out_questions(self._flat), self._subject.loaded)
            self._answered = (full.layers, held)
        return self._answered[1]

    def _compressed(self, full: ContextCache, method: Method, key: Key) -> tuple[ContextCache, str]:
        """The small cache, and the precision that it is to be stored in."""
        subject = self._subject
        counted = build_rules(method).budget.counted

        def at(keep: float | None, name: str) -> ContextCache:
            keep = keep if counted else None
            return compress(full, method, profile=subject.profile, keep=keep, seed=subject.seed, packing=PACKINGS[name])

        if key.group != "planned" or key.keep is None:
            small, name = at(key.keep, key.kv_dtype), key.kv_dtype
        else:
            wanted = None if key.kv_dtype == PLANNER else key.kv_dtype
            planned = plan_bytes(full, limit_of(full, None, 1 - key.keep), wanted, subject.profile, at)
            small, name = planned.cache, planned.kv_dtype
        known = lessons(full, text_of(self._flat), method, subject.loaded)
        if known is None or method.distil is None:
            return small, name
        return distilled(
            small, known, self._held(full), subject.loaded, method.distil, PACKINGS[name], subject.seed
        ), name


def _marked(asked: SuiteQuestion, found: Answer, tokens: list[int] | None, small: ContextCache) -> Asked:
    return Asked(
        asked.id,
        asked.kind,
        modality_of(asked),
        found.text,
        **vars(marks(found.text, asked.answers)),
        evidence_tokens=None if tokens is None else len(tokens),
        evidence_evicted=None if tokens is None else gone_everywhere(tokens, small),
    )


def _together(rows: Sequence[Row]) -> Row:
    """Rows of one context that was read for each question: sums of the seconds, means of the sizes."""
    count = len(rows)
    return replace(
        rows[0],
        tokens=round(sum(row.tokens for row in rows) / count),
        keep_reached=sum(row.keep_reached for row in rows) / count,
        bytes=round(sum(row.bytes for row in rows) / count),
        file_bytes=round(sum(row.file_bytes for row in rows) / count),
        full_bytes=round(sum(row.full_bytes for row in rows) / count),
        seconds={stage: sum(row.seconds[stage] for row in rows) for stage in rows[0].seconds},
        asked=tuple(asked for row in rows for asked in row.asked),
    )
