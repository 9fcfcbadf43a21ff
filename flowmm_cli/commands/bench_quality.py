"""`flowmm bench quality` and `flowmm bench order`: how well compressed contexts answer, and whether that is stable."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.output import human_bytes, human_seconds, percent
from flowmm_cli.values import parse_share

if TYPE_CHECKING:
    from flowmm import OrderReport, QualityReport

Suite = Annotated[Path, typer.Option("--suite", metavar="DIR", help="The suite: a folder; docs/quality.md.")]
Results = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results; a run that ended early goes on.")
]
Methods = Annotated[str | None, typer.Option("--method", metavar="A,B", help="Methods to measure. Default: all.")]
KvDtypes = Annotated[
    str | None,
    typer.Option(
        "--kv-dtype", metavar="A,B", help="Precisions that caches are rounded to. Default: what files are stored in."
    ),
]
Keeps = Annotated[str, typer.Option("--keep", metavar="SHARES", help="Shares of the slots to keep, with commas.")]
Score = Annotated[
    Literal["exact_match", "containment", "anls", "rouge_l"],
    typer.Option("--score", help="The mark that retention, intervals and orders are of."),
]
Aware = Annotated[
    bool, typer.Option("--question-aware", help="Also with the question there at compression, reported apart. Slow.")
]
Losses = Annotated[
    bool,
    typer.Option("--losses", help="Also whether what files say of their own loss tells which contexts lose answers."),
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first contexts.")]
Longest = Annotated[int, typer.Option("--max-new-tokens", "-n", metavar="N", min=1, help="Of an answer.")]
ChunkTokens = Annotated[int, typer.Option("--chunk-tokens", metavar="N", min=1, help="Tokens per forward pass.")]
Markdown = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="A document whose section of this suite is rewritten.")
]
Folder = Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder that bench quality wrote.")]


def quality(
    suite: Suite,
    results: Results,
    method: Methods = None,
    keep: Keeps = "0.2,0.1,0.05",
    kv_dtype: KvDtypes = None,
    score: Score = "exact_match",
    question_aware: Aware = False,
    losses: Losses = False,
    limit: Limit = None,
    max_new_tokens: Longest = 64,
    chunk_tokens: ChunkTokens = 2048,
    markdown: Markdown = None,
    profile: o.Profile = None,
    model: o.Model = None,
    revision: o.Revision = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    device_map: o.DeviceMap = None,
    offline: o.Offline = False,
    trust_remote_code: o.TrustRemoteCode = False,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Ask a suite's questions of every method at every budget, of the full cache, and of controls.

    Each context is read once for all methods. Controls: no context, text only, images only, the full cache in other
    precisions, smaller images. What is done is kept row by row in the results folder.
    """
    from flowmm import QualityOptions, bench_quality

    options = QualityOptions(
        methods=None if method is None else tuple(name.strip() for name in method.split(",")),
        keep=tuple(parse_share(share.strip()) for share in keep.split(",")),
        kv_dtypes=None if kv_dtype is None else tuple(name.strip() for name in kv_dtype.split(",")),
        score=score,
        question_aware=question_aware,
        losses=losses,
        limit=limit,
        max_new_tokens=max_new_tokens,
        chunk_tokens=chunk_tokens,
        seed=seed,
    )
    with output.progress_bar(wanted=not quiet) as progress:
        report = bench_quality(
            suite,
            results,
            options=options,
            model=o.model_options(model, revision, device, dtype, device_map, offline, trust_remote_code),
            profile=profile,
            markdown=markdown,
            progress=progress,
            notice=None if quiet else output.say,
        )
    if json:
        output.put_json(report.as_dict())
    else:
        _put_quality(report)
    if not quiet:
        output.say(f"{results}: rows.jsonl, results.json, table.md, curve.svg")


def order(dev: Folder, test: Folder, score: Score = "exact_match", json: o.Json = False) -> None:
    """Compare the order of the methods in two results: Spearman's rank correlation at each share of kept slots."""
    from flowmm import bench_order

    report = bench_order(dev, test, score=score)
    if json:
        output.put_json(report.as_dict())
    else:
        _put_order(report)


def _put_quality(report: "QualityReport") -> None:
    marks = list(report.full.scores.marks)
    columns = ("", "keep", *(mark.replace("_", " ") for mark in marks), "retention", "95 %", "bytes", "seconds")
    shown = [(one.label, "", one) for one in (report.full, *report.controls)]
    shown += [(report.name_of(one), percent(one.key.keep or 1), one) for one in report.results]
    aware = [] if report.aware_full is None else [report.aware_full, *report.aware]
    shown += [(f"{report.name_of(one)}, question-aware", percent(one.key.keep or 1), one) for one in aware]
    rows = [
        (
            name,
            keep,
            *(percent(one.scores.marks[mark]) for mark in marks),
            "" if one.retention is None else percent(one.retention),
            "" if one.ci95 is None else f"{percent(one.ci95[0])} to {percent(one.ci95[1])}",
            human_bytes(round(one.bytes)),
            human_seconds(sum(one.seconds.values())),
        )
        for name, keep, one in shown
    ]
    questions = report.full.scores.questions
    output.put(f"{report.suite}: {report.contexts} contexts, {questions} questions; {report.model}, {report.dtype}.")
    output.put("")
    output.put_table(columns, rows, right=range(1, len(columns)))
    _put_losses(report)
    for name, why in report.refused.items():
        output.say(f"{name} was not measured: {why}")


def _put_losses(report: "QualityReport") -> None:
    if not report.losses:
        return
    output.put("")
    output.put("Rank correlation of answers lost with what files say of their own loss:")
    output.put("")
    columns = ("", "dtype", "keep", "contexts", "answers lost", "divergence", "tokens otherwise")
    output.put_table(columns, [(one.method, *one.cells) for one in report.losses], right=range(2, len(columns)))


def _put_order(report: "OrderReport") -> None:
    for one in report.orders:
        correlation = "not defined" if one.correlation is None else f"{one.correlation:.3f}"
        output.put(f"{percent(one.keep)} kept, {len(one.dev)} methods, rank correlation {correlation}")
        output.put("")
        pairs = zip(one.dev, one.test, strict=True)
        rows = [(f"{a} {percent(left)}", f"{b} {percent(right)}") for (a, left), (b, right) in pairs]
        output.put_table((report.dev, report.test), rows)
        output.put("")
