"""Measure which precision answers best from how many bytes, and whether the planner takes it, on a suite."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flowmm.bench.bytes_report import BytesReport
from flowmm.bench.bytes_written import section_name, write_results, write_section
from flowmm.bench.markdown import check_document
from flowmm.bench.quality import Run, measured, opened
from flowmm.bench.quality_plan import QualityOptions, check_options
from flowmm.bench.quality_report import results_of
from flowmm.bench.quality_rows import PLANNER
from flowmm.chosen import called, chosen_model
from flowmm.errors import UsageError
from flowmm.plan import Progress
from flowmm.records import ModelOptions

_MODEL = ModelOptions()


@dataclass(frozen=True)
class BytesOptions:
    """What to measure."""

    method: str = "flowmm"
    reduce: tuple[float, ...] = (0.8, 0.9, 0.95, 0.975)  # shares of the full cache's bytes that go
    kv_dtypes: tuple[str, ...] = ("bf16", "int8", "int4", "int3", "rot3", "rot2")
    score: str = "exact_match"  # which mark is compared
    limit: int | None = None  # only the first contexts
    max_new_tokens: int = 64
    chunk_tokens: int = 2048
    seed: int = 0


_OPTIONS = BytesOptions()


def bench_bytes(
    suite: Path,
    results: Path,
    *,
    options: BytesOptions = _OPTIONS,
    model: ModelOptions = _MODEL,
    profile: str | None = None,
    markdown: Path | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> BytesReport:
    """Ask every question of a suite of caches that fill the same bytes with slots of each precision.

    Args:
        suite: its folder, of any format that :mod:`flowmm.bench.suites` knows.
        results: a folder for rows.jsonl, results.json, table.md and curve.svg; a run that ended early goes on.
        options: what to measure.
        model: which to read with; None in it is the embedded reader.
        profile: of the model, whose precisions the planner takes; None: FLOWMM_PROFILE, else the model's own.
        markdown: a document whose section of this suite is rewritten, with the curve beside it.
        progress: told how many rows are done.
        notice: told what was there already.

    Raises:
        InputError: the suite or the document is missing or damaged.
        UsageError: a number that cannot be, a method that cannot be used, or the results are of another run.
    """
    quality = _as_quality(options)
    check_options(quality)
    read = opened(suite, quality)
    check_document(markdown, section_name(read.name))
    run = measured(read, results, quality, model, profile, progress, notice)
    report = _report(run, options)
    command = command_of(options, read.name, model)
    write_results(report, results, command)
    if markdown is not None:
        write_section(report, markdown, command)
    return report


def _as_quality(options: BytesOptions) -> QualityOptions:
    """The same as a quality run, which does the work."""
    shares = options.reduce
    if not shares or len(set(shares)) < len(shares) or not all(0 < share < 1 for share in shares):
        what = f"--reduce {shares}: expected shares between 0 and 1, each once"
        raise UsageError(what, "Such as --reduce 90%,95%.")
    return QualityOptions(
        methods=(options.method,),
        keep=(),
        kv_dtypes=options.kv_dtypes,
        score=options.score,
        left=tuple(round(1 - share, 9) for share in shares),
        limit=options.limit,
        max_new_tokens=options.max_new_tokens,
        chunk_tokens=options.chunk_tokens,
        seed=options.seed,
    )


def _report(run: Run, options: BytesOptions) -> BytesReport:
    header = run.ledger.header
    [full] = results_of(run.ledger.rows, run.keys, "control", options.score, options.seed)
    planned = results_of(run.ledger.rows, run.keys, "planned", options.score, options.seed)
    [method] = run.subject.methods
    return BytesReport(
        model=header.model.id,
        device=run.subject.loaded.model.device.type,
        dtype=header.model.dtype,
        suite=run.subject.suite.name,
        suite_hash=header.suite_hash,
        contexts=len(run.subject.suite.contexts),
        seed=options.seed,
        score=options.score,
        method=method,
        profile=run.subject.profile.name,
        full=full,
        results=tuple(one for one in planned if one.key.kv_dtype != PLANNER),
        planner=tuple(one for one in planned if one.key.kv_dtype == PLANNER),
        refused=run.refused,
    )


def command_of(options: BytesOptions, suite: str, model: ModelOptions) -> str:
    """The command that measures this, as a document shows it: folders by their names."""
    words = ["flowmm", "bench", "bytes", "--suite", suite, "--method", options.method]
    words += ["--reduce", ",".join(f"{100 * share:g}%" for share in options.reduce)]
    words += ["--kv-dtype", ",".join(options.kv_dtypes)]
    words += [] if options.score == "exact_match" else ["--score", options.score]
    words += [] if options.limit is None else ["--limit", str(options.limit)]
    return shlex.join([*words, "--seed", str(options.seed), "-m", called(chosen_model(model)), "-o", "results"])
