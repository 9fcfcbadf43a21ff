"""Measure what compression methods cost, stage by stage, against reading the context plainly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from flowmm.bench.cost_report import Cost, CostReport, median
from flowmm.bench.markdown import check_document, cost_section, rewrite
from flowmm.bench.memory import watch_memory
from flowmm.chosen import called, chosen_model, load_chosen_model
from flowmm.errors import FlowmmError, UsageError
from flowmm.hf.shapes import check_shape, load_shape
from flowmm.plan import Progress
from flowmm.profiles import Method, load_method, load_profile, method_names
from flowmm.records import ModelOptions, Part

if TYPE_CHECKING:
    from flowmm.context import ContextCache
    from flowmm.hf.loading import LoadedModel

_MODEL = ModelOptions()
_T = TypeVar("_T")


def bench_cost(
    methods: Sequence[str] | None = None,
    *,
    model: ModelOptions = _MODEL,
    shape: str | None = None,
    tokens: int = 4096,
    keep: float = 0.1,
    repeat: int = 3,
    seed: int = 0,
    chunk_tokens: int = 2048,
    markdown: Path | None = None,
    progress: Progress | None = None,
) -> CostReport:
    """Read a made-up context with every method, and plainly before each, and compress it.

    Args:
        methods: by name; None measures all there are, and goes on where one cannot be used on this model.
        model: which to read with; None in it is the embedded reader.
        shape: one of :data:`flowmm.hf.shapes.SHAPES` instead, with random weights.
        tokens: of the context; half are image tokens where the model sees.
        keep: share of the slots to keep.
        repeat: of the runs of a method, the one with the median total is reported.
        seed: of the context, of random weights and of methods that draw.
        chunk_tokens: as in a prefill.
        markdown: a document whose section of this model is rewritten.
        progress: told how far it is.

    Raises:
        InputError: there is no such document.
        UsageError: a number that cannot be, or no such method or shape; a method that was named cannot be used here.
    """
    _check(shape, model, tokens, keep, repeat)
    chosen = [load_method(name) for name in (method_names() if methods is None else methods)]
    subject = shape or called(chosen_model(model))
    check_document(markdown, f"cost {subject}")
    tell = progress or (lambda phase, done, total: None)
    tell("model", 0, 1)
    if shape is None:
        loaded = load_chosen_model(model)
    else:
        loaded = load_shape(shape, device=model.device, dtype=model.dtype, seed=seed)
    tell("model", 1, 1)
    from flowmm.bench.filler import filler

    bench = _Bench(loaded, filler(loaded, tokens, seed), keep, seed, chunk_tokens)
    peak = watch_memory(loaded.model.device.type)
    bench.plain()  # not timed: the first reading is slower than all others
    plain_bytes = peak()
    costs, refused = _all(bench, chosen * repeat, tell, strict=methods is not None)
    identity, device = loaded.identity, loaded.model.device.type
    report = CostReport(
        identity.id, device, identity.dtype, *bench.lengths(), keep, repeat, plain_bytes, costs, refused
    )
    if markdown is not None:
        which = f"--shape {shape}" if shape else f"-m {subject}"
        which += "" if model.dtype == "auto" else f" --dtype {model.dtype}"
        listed = f" --method {','.join(methods)}" if methods else ""
        command = f"flowmm bench cost {which}{listed} --tokens {tokens} --keep {keep:g} --repeat {repeat}"
        rewrite(markdown, f"cost {subject}", cost_section(report, command))
    return report


def _all(
    bench: _Bench, methods: Sequence[Method], tell: Progress, *, strict: bool
) -> tuple[tuple[Cost, ...], dict[str, str]]:
    """The median run of each method; unless ``strict``, what went wrong with those that could not be measured."""
    runs: dict[str, list[Cost]] = {}
    refused: dict[str, str] = {}
    for done, method in enumerate(methods, 1):
        try:
            if method.name not in refused:
                runs.setdefault(method.name, []).append(bench.once(method))
        except FlowmmError as error:
            if strict:
                raise
            refused[method.name] = error.what
        tell("bench", done, len(methods))
    return tuple(median(same) for same in runs.values() if same), refused


class _Bench:
    """One model and one context, to be read again and again."""

    def __init__(self, loaded: LoadedModel, parts: list[Part], keep: float, seed: int, chunk_tokens: int) -> None:
        self._loaded, self._parts = loaded, parts
        self._keep, self._seed, self._chunk_tokens = keep, seed, chunk_tokens
        self._profile = load_profile("reader" if loaded.is_reader else None, loaded.family.name)

    def lengths(self) -> tuple[int, int]:
        """Tokens of the context, and how many of them are visual."""
        from flowmm.context import Modality
        from flowmm.contexts import read_prompt

        modality = read_prompt(self._parts, self._loaded).modality
        return int(modality.shape[0]), int((modality == Modality.VISUAL).sum())

    def plain(self) -> tuple[float, float]:
        """Seconds of making the prompt, and of a reading that nobody observes."""
        from flowmm.contexts import read_prompt
        from flowmm.prefill import prefill

        began = self._now()
        prompt = read_prompt(self._parts, self._loaded)
        prepared = self._now() - began
        read = prefill(prompt, self._loaded, chunk_tokens=self._chunk_tokens, progress=self._wait)
        return prepared, sum(read.seconds.values())

    def once(self, method: Method) -> Cost:
        """Read plainly, read for the method, compress; then part what compressing took into its stages."""
        from flowmm.diagnostics import diagnose
        from flowmm.refit import Refit
        from flowmm.rules import build_rules

        rules = build_rules(method)
        keep = self._keep if rules.budget.counted else None
        prepared, plain = self.plain()
        peak = watch_memory(self._loaded.model.device.type)
        full, around = self._timed(self._read, method)
        small, compressing = self._timed(self._compressed, full, method, keep)
        peak_bytes = peak()
        _, diagnosing = self._timed(diagnose, full, small, rules.refit or Refit(), self._seed)
        refitting = 0.0
        if rules.refit is not None:
            bare = method.model_copy(update={"refit": None})
            refitting = compressing - self._timed(self._compressed, full, bare, keep)[1]
        training, comparing = self._through_the_model(full, small, method)
        reading = full.provenance.seconds["vision"] + full.provenance.seconds["prefill"]
        stages = {
            "observe": reading - plain,
            "passes": around - reading - prepared,
            "select": compressing - refitting - diagnosing,
            "refit": refitting,
            "diagnose": diagnosing,
            "train": training,
            "compare": comparing,
        }
        return Cost(method.name, plain, stages, peak_bytes)

    def _through_the_model(self, full: ContextCache, small: ContextCache, method: Method) -> tuple[float, float]:
        """Seconds of training the small cache, and of comparing it with the full one."""
        from flowmm.distil import distilled, lessons
        from flowmm.held_out import agreement, ask_held_out, held_out_questions, text_of
        from flowmm.packing import PACKINGS

        held, asking = self._timed(ask_held_out, full, held_out_questions(self._parts), self._loaded)
        _, replaying = self._timed(agreement, held, small, self._loaded)
        known, learning = self._timed(lessons, full, text_of(self._parts), method, self._loaded)
        training = 0.0
        if known is not None and method.distil is not None:
            how = (known, held, self._loaded, method.distil, PACKINGS["bf16"], self._seed)
            training = learning + self._timed(distilled, small, *how)[1]
        return training, asking + replaying

    def _read(self, method: Method) -> ContextCache:
        from flowmm.contexts import read_context
        from flowmm.observe.gate_file import gate_of

        loaded, chunk_tokens = self._loaded, self._chunk_tokens
        gate = gate_of(self._profile, loaded, method)
        return read_context(
            self._parts, loaded, method, gate=gate, chunk_tokens=chunk_tokens, seed=self._seed, progress=self._wait
        )

    def _compressed(self, full: ContextCache, method: Method, keep: float | None) -> ContextCache:
        from flowmm.compress import compress

        return compress(full, method, profile=self._profile, keep=keep, seed=self._seed)

    def _timed(self, work: Callable[..., _T], *given: Any) -> tuple[_T, float]:
        began = self._now()
        result = work(*given)
        return result, self._now() - began

    def _now(self) -> float:
        """Seconds on the clock once the device has done all it was told to."""
        self._wait()
        return perf_counter()

    def _wait(self, *_: object) -> None:
        import torch

        if self._loaded.model.device.type == "cuda":
            torch.cuda.synchronize(self._loaded.model.device)


def _check(shape: str | None, model: ModelOptions, tokens: int, keep: float, repeat: int) -> None:
    """Refuse what can be refused before anything heavy is imported."""
    if shape is not None:
        check_shape(shape)
    if shape is not None and model.name is not None:
        raise UsageError("both a model and a shape were given", "Give -m or --shape.")
    for name, number in (("--tokens", tokens), ("--repeat", repeat)):
        if number < 1:
            raise UsageError(f"{name} {number}: is less than 1", "Give a number of at least 1.")
    if not 0 < keep <= 1:
        raise UsageError(f"--keep {keep}: is not above 0 and at most 1", "0.1 or 10% keeps a tenth.")
