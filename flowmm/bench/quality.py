"""Measure how well compressed contexts answer, against the full cache and against controls, on a suite."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flowmm.bench.markdown import check_document
from flowmm.bench.quality_ledger import Ledger
from flowmm.bench.quality_losses import loss_orders
from flowmm.bench.quality_plan import QualityOptions, all_keys, check_options, command_of, header_of, subject_of
from flowmm.bench.quality_report import QualityReport, results_of
from flowmm.bench.quality_rows import Key
from flowmm.bench.quality_written import section_name, write_results, write_section
from flowmm.bench.suite import Suite
from flowmm.bench.suites import open_suite
from flowmm.chosen import load_chosen_model
from flowmm.plan import Progress
from flowmm.profiles import load_profile
from flowmm.records import ModelOptions

if TYPE_CHECKING:
    from flowmm.bench.quality_context import Subject

_MODEL = ModelOptions()
_OPTIONS = QualityOptions()


def bench_quality(
    suite: Path,
    results: Path,
    *,
    options: QualityOptions = _OPTIONS,
    model: ModelOptions = _MODEL,
    profile: str | None = None,
    markdown: Path | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> QualityReport:
    """Ask every question of a suite of the full cache, of controls, and of what every method keeps of it.

    Args:
        suite: its folder, of any format that :mod:`flowmm.bench.suites` knows.
        results: a folder for rows.jsonl, results.json, table.md and curve.svg; a run that ended early goes on.
        options: what to measure.
        model: which to read with; None in it is the embedded reader.
        profile: of the model; None: FLOWMM_PROFILE, else the model's own.
        markdown: a document whose section of this suite is rewritten, with the curve beside it.
        progress: told how many rows are done.
        notice: told what was there already.

    Raises:
        InputError: the suite or the document is missing or damaged.
        UsageError: a number that cannot be; a method that was named cannot be used on this model; the results are of
            another run.
    """
    check_options(options)
    read = opened(suite, options)
    check_document(markdown, section_name(read.name))
    run = measured(read, results, options, model, profile, progress, notice)
    report = _report(run, options)
    command = command_of(options, read.name, model)
    write_results(report, results, command)
    if markdown is not None:
        write_section(report, markdown, command)
    return report


@dataclass(frozen=True)
class Run:
    """All rows of a run."""

    subject: Subject
    keys: Sequence[Key]
    ledger: Ledger
    refused: dict[str, str]  # why methods could not be measured, by their names


def opened(suite: Path, options: QualityOptions) -> Suite:
    """The suite in a folder, or its first contexts."""
    read = open_suite(suite)
    return read if options.limit is None else replace(read, contexts=read.contexts[: options.limit])


def measured(
    suite: Suite,
    results: Path,
    options: QualityOptions,
    model: ModelOptions,
    profile: str | None,
    progress: Progress | None,
    notice: Callable[[str], None] | None,
) -> Run:
    """Load the model, and measure what the results folder does not have yet; raises as :func:`bench_quality`."""
    tell = progress or (lambda phase, done, total: None)
    tell("model", 0, 1)
    loaded = load_chosen_model(model)
    tell("model", 1, 1)
    named = profile or os.environ.get("FLOWMM_PROFILE") or ("reader" if loaded.is_reader else None)
    subject, refused = subject_of(suite, loaded, load_profile(named, loaded.family.name), options)
    keys = all_keys(subject, options)
    ledger = Ledger.open(results, header_of(subject, options))
    if notice is not None and ledger.rows:
        notice(f"{results}: goes on with {len(ledger.rows)} rows that are there")
    _measure(subject, keys, ledger, tell)
    return Run(subject, keys, ledger, refused | _refused(ledger, keys))


def _measure(subject: Subject, keys: Sequence[Key], ledger: Ledger, tell: Progress) -> None:
    """Every row that is not there yet; what was refused on one context is not tried on the next."""
    from flowmm.bench.quality_context import ContextRun

    total = len(subject.suite.contexts) * len(keys)
    for done, context in enumerate(subject.suite.contexts):
        tell("rows", done * len(keys), total)
        pending = [key for key in keys if not ledger.has(context.id, key) and key not in ledger.refused]
        for row in ContextRun(subject, context).rows(pending) if pending and context.questions else ():
            ledger.add(row)
            left = sum(not ledger.has(context.id, key) and key not in ledger.refused for key in keys)
            tell("rows", (done + 1) * len(keys) - left, total)
    tell("rows", total, total)


def _report(run: Run, options: QualityOptions) -> QualityReport:
    ledger, subject = run.ledger, run.subject
    groups = {key.group: results_of(ledger.rows, run.keys, key.group, options.score, options.seed) for key in run.keys}
    full, *controls = groups["control"]
    aware = groups.get("question_aware", [])
    identity = ledger.header.model
    return QualityReport(
        model=identity.id,
        device=subject.loaded.model.device.type,
        dtype=identity.dtype,
        suite=subject.suite.name,
        suite_hash=ledger.header.suite_hash,
        contexts=len(subject.suite.contexts),
        seed=options.seed,
        score=options.score,
        full=full,
        controls=tuple(controls),
        results=tuple(groups.get("compressed", [])),
        aware_full=aware[0] if aware else None,
        aware=tuple(aware[1:]),
        refused=run.refused,
        losses=loss_orders(ledger.rows, options.score),
    )


def _refused(ledger: Ledger, keys: Sequence[Key]) -> dict[str, str]:
    """Why methods were not measured: under the name alone where that is so at every share."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(key.name for key in ledger.refused):
        own = [key for key in keys if key.name == name]
        here = [key for key in own if key in ledger.refused]
        reasons = [ledger.refused[key] for key in here]
        if len(here) == len(own) and len(set(reasons)) == 1:
            found[name] = reasons[0]
        else:
            several = len({key.kv_dtype for key in own}) > 1
            found |= {_spoken(key, several): reason for key, reason in zip(here, reasons, strict=True)}
    return found


def _spoken(key: Key, several: bool) -> str:
    """A key in words, with its precision where there are several."""
    at = "" if key.keep is None else f" at {key.keep:g}"
    stored = f" in {key.kv_dtype}" if several else ""
    return f"{key.name}{at}{stored}{', question-aware' if key.group == 'question_aware' else ''}"
