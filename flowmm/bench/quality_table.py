"""A quality report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from flowmm.bench.markdown import machine, table
from flowmm.bench.quality_report import MARKS, QualityReport, Result

_NAMES = ("exact", "contained", "ANLS", "ROUGE-L")


def quality_section(report: QualityReport, command: str, curve: str) -> str:
    """What `bench quality` writes; only the column of seconds differs between runs of one seed.

    Args:
        report: what was found.
        command: that printed it.
        curve: the name of the SVG beside the document.
    """
    count = report.full.scores.questions
    controls = [_row(f"`{one.label}`", one) for one in (report.full, *report.controls)]
    lines = [
        f"`{command}` on {machine(report.device)}",
        "",
        f"{report.model} ({report.dtype}) on suite `{report.suite}` (`{report.suite_hash[:12]}`): {report.contexts} "
        f"contexts, {count} questions, seed {report.seed}. Retention is {report.score.replace('_', ' ')} over that of "
        'the full cache, with the 95 % interval of a paired bootstrap over contexts. "Evidence gone" is the share of '
        f"the tokens stating an answer that no layer and head has, of the {report.full.evidence_questions} questions "
        "in which they are known. Bytes are those of the tensors as stored, the mean of a context, and so are seconds "
        "(read, compress, answer).",
        "",
        f"![Score against kept slots]({curve})",
        "",
        *_results_table(report.results),
        "",
        "Controls:",
        "",
        *table(("control", *_COLUMNS[2:]), controls),
        *_detail(report),
        *_aware(report),
        *_losses(report),
        *(f"\n`{name}` was not measured: {why}." for name, why in report.refused.items()),
    ]
    return "\n".join(lines)


_COLUMNS = ("method", "keep", *_NAMES, "retention", "evidence gone", "tokens", "dtype", "bytes", "seconds")


def _results_table(results: Sequence[Result]) -> list[str]:
    rows = [_row(f"`{one.key.name}`", one, f"{100 * (one.key.keep or 1):g} %") for one in results]
    return table(_COLUMNS, rows)


def _row(name: str, one: Result, *more: str) -> tuple[str, ...]:
    low_high = "" if one.ci95 is None else f" ({_percent(one.ci95[0])} to {_percent(one.ci95[1])})"
    return (
        name,
        *more,
        *(_percent(one.scores.marks[mark]) for mark in MARKS),
        "" if one.retention is None else f"{_percent(one.retention)}{low_high}",
        "" if one.evidence_evicted is None else _percent(one.evidence_evicted),
        f"{one.tokens:.0f}",
        one.key.kv_dtype,
        f"{one.bytes:,.0f}",
        f"{sum(one.seconds.values()):.2f}",
    )


def _detail(report: QualityReport) -> list[str]:
    """The report's score by kind of question, by where the evidence stands and by size of the context."""
    columns = [(by, value) for by in ("kind", "modality", "size") for value in report.full.by[by]]
    if not columns:
        return []
    names = {"kind": "", "modality": "evidence: ", "size": "size: "}
    rows = [
        (
            f"`{one.label}`"
            if one.key.group == "control"
            else f"`{report.name_of(one)}` {100 * (one.key.keep or 1):g} %",
            *(_percent(one.by[by][value].marks[report.score]) for by, value in columns),
        )
        for one in (report.full, *report.controls, *report.results)
    ]
    title = f"{report.score.replace('_', ' ').capitalize()} by kind of question, evidence and size of context:"
    return ["", title, "", *table(("", *(names[by] + value for by, value in columns)), rows)]


def _aware(report: QualityReport) -> list[str]:
    if report.aware_full is None:
        return []
    return [
        "",
        "With the question there at compression (the paper's protocol; not to be compared with the table above):",
        "",
        *_results_table((report.aware_full, *report.aware)),
    ]


def _losses(report: QualityReport) -> list[str]:
    if not report.losses:
        return []
    rows = [(f"`{one.method}`", *one.cells) for one in report.losses]
    return [
        "",
        "What files say of their own loss (held-out questions, as `prefill` asks them), beside the answers lost: "
        "Spearman's rank correlation over contexts with the divergence, and with the share of tokens that come out "
        "otherwise:",
        "",
        *table(("method", "dtype", "keep", "contexts", "answers lost", "divergence", "tokens otherwise"), rows),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
