"""What a quality run is going to measure: its options, the methods that can be used, and every key."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from flowmm.bench.quality_controls import FULL, control_keys
from flowmm.bench.quality_report import MARKS
from flowmm.bench.quality_rows import PLANNER, SCHEMA_VERSION, Key, RunHeader, Settings
from flowmm.bench.suite import Suite
from flowmm.bench.suite_hash import suite_hash
from flowmm.chosen import called, chosen_model
from flowmm.errors import FlowmmError, UnknownNameError, UsageError
from flowmm.packing import PACKINGS
from flowmm.profiles import Method, ModelProfile, load_method, method_names
from flowmm.records import ModelOptions

if TYPE_CHECKING:
    from flowmm.bench.quality_context import Subject
    from flowmm.hf.loading import LoadedModel

_KEEP = (0.2, 0.1, 0.05)


@dataclass(frozen=True)
class QualityOptions:
    """What to measure."""

    methods: tuple[str, ...] | None = None  # None: all there are, without those that keep everything
    keep: tuple[float, ...] = _KEEP  # shares of the slots
    kv_dtypes: tuple[str, ...] | None = None  # what caches are rounded to, as in files; None: what files are stored in
    score: str = "exact_match"  # which mark the retention is of
    left: tuple[float, ...] = ()  # shares of the full cache's bytes; if any, they are measured in place of ``keep``
    question_aware: bool = False  # also with the question there at compression, reported apart
    losses: bool = False  # also what each small cache loses by the questions of its file's own, as prefill asks them
    limit: int | None = None  # only the first contexts
    max_new_tokens: int = 64
    chunk_tokens: int = 2048
    seed: int = 0


def check_options(options: QualityOptions) -> None:
    """Refuse what can be refused before anything heavy is imported."""
    for name in ("limit", "max_new_tokens", "chunk_tokens"):
        number = getattr(options, name)
        if number is not None and number < 1:
            raise UsageError(f"--{name.replace('_', '-')} {number}: is less than 1", "Give a number of at least 1.")
    for keep in options.keep:
        if not 0 < keep <= 1:
            raise UsageError(f"--keep {keep}: is not above 0 and at most 1", "0.1 or 10% keeps a tenth.")
    if not (options.keep or options.left) or len(set(options.keep)) < len(options.keep):
        raise UsageError(f"--keep {options.keep}: expected shares, each once", "Such as --keep 0.2,0.1,0.05.")
    _check_kv_dtypes(options.kv_dtypes)
    if options.score not in MARKS:
        raise UnknownNameError("score", options.score, MARKS)
    from flowmm.bench.marks import marks

    chosen_methods(options)
    marks("", [""])  # not after the long work: marking needs an extra


def _check_kv_dtypes(wanted: tuple[str, ...] | None) -> None:
    for name in wanted or ():
        if name not in PACKINGS:
            raise UnknownNameError("kv dtype", name, PACKINGS)
    if wanted is not None and (not wanted or len(set(wanted)) < len(wanted)):
        raise UsageError(f"--kv-dtype {wanted}: expected precisions, each once", "Such as --kv-dtype bf16,int8,int4.")


def chosen_methods(options: QualityOptions) -> dict[str, Method]:
    """The methods asked for, by name.

    Raises:
        UsageError: one that does not exist, or two of one name.
    """
    found: dict[str, Method] = {}
    for wanted in method_names() if options.methods is None else options.methods:
        method = load_method(wanted)
        if method.name in found:
            raise UsageError(f"--method: {method.name} was given twice", "Name each method once.")
        found[method.name] = method
    return found


def subject_of(
    suite: Suite, loaded: LoadedModel, profile: ModelProfile, options: QualityOptions
) -> tuple[Subject, dict[str, str]]:
    """What is measured, and why some methods cannot be; when they were named that is an error."""
    from flowmm.bench.quality_context import Subject
    from flowmm.observe.gate_file import gate_of
    from flowmm.readings import check_gate
    from flowmm.rules import build_rules

    strict = options.methods is not None
    by_bytes = bool(options.left)  # of which some may hold nothing at all
    methods: dict[str, Method] = {}
    refused: dict[str, str] = {}
    gate = None
    for name, method in chosen_methods(options).items():
        try:
            rules, own = build_rules(method), gate_of(profile, loaded, method)
            check_gate({name: method.observe}, own)
            _check_scout(method)
        except FlowmmError as error:
            if strict:
                raise
            refused[name] = error.what
            continue
        gate = gate or own
        if strict or rules.budget.counted:
            methods[name] = method
    how = (options.max_new_tokens, options.chunk_tokens, options.seed, options.losses)
    return Subject(suite, loaded, profile, methods, gate, strict and not by_bytes, *how), refused


def _check_scout(method: Method) -> None:
    if method.observe.scout is not None:
        what = f"method {method.name} takes the scores of a smaller model, which this benchmark does not send"
        raise UsageError(what, "Leave the method out.")


def all_keys(subject: Subject, options: QualityOptions) -> list[Key]:
    """All that is measured on each context, in the order in which it is reported."""
    import torch

    from flowmm.hf.loading import DTYPES
    from flowmm.rules import build_rules
    from flowmm.store import file_dtype

    run_in = getattr(torch, subject.loaded.identity.dtype)
    own = next(name for name, dtype in DTYPES.items() if dtype == run_in)
    if options.left:
        stored = (PLANNER, *(options.kv_dtypes or ()))
        planned = [(name, share, one) for share in options.left for one in stored for name in subject.methods]
        return [Key("control", FULL, None, own), *(Key("planned", *one) for one in planned)]
    compressed = [
        (name, share, stored)
        for stored in options.kv_dtypes or (file_dtype(run_in, None),)
        for name, method in subject.methods.items()
        for share in (options.keep if build_rules(method).budget.counted else (1.0,))
    ]
    keys = control_keys(options.keep, own, list(PACKINGS)) + [Key("compressed", *one) for one in compressed]
    if options.question_aware:
        keys += [Key("question_aware", FULL, None, own), *(Key("question_aware", *one) for one in compressed)]
    return keys


def header_of(subject: Subject, options: QualityOptions) -> RunHeader:
    """The first line of the rows."""
    texts = "\0".join([subject.profile.text, *(method.text for method in subject.methods.values())])
    settings = Settings(
        methods=tuple(subject.methods),
        keep=options.keep,
        kv_dtype=None if options.kv_dtypes is None else ",".join(options.kv_dtypes),
        question_aware=options.question_aware,
        limit=options.limit,
        max_new_tokens=options.max_new_tokens,
        chunk_tokens=options.chunk_tokens,
        rules=sha256(texts.encode()).hexdigest(),
        left=options.left,
        losses=options.losses,
    )
    return RunHeader(
        SCHEMA_VERSION, subject.suite.name, suite_hash(subject.suite), subject.loaded.identity, options.seed, settings
    )


def command_of(options: QualityOptions, suite: str, model: ModelOptions) -> str:
    """The command that measures this, as a document shows it: folders by their names."""
    words = ["flowmm", "bench", "quality", "--suite", suite]
    words += [] if options.methods is None else ["--method", ",".join(options.methods)]
    words += ["--keep", ",".join(f"{share:g}" for share in options.keep)]
    words += [] if options.kv_dtypes is None else ["--kv-dtype", ",".join(options.kv_dtypes)]
    words += [] if options.score == "exact_match" else ["--score", options.score]
    words += ["--question-aware"] if options.question_aware else []
    words += ["--losses"] if options.losses else []
    words += [] if options.limit is None else ["--limit", str(options.limit)]
    return shlex.join([*words, "--seed", str(options.seed), "-m", called(chosen_model(model)), "-o", "results"])
