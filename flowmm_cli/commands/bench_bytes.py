"""`flowmm bench bytes`: which precision answers best from how many bytes."""

from typing import TYPE_CHECKING, Annotated

import typer

from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.commands import bench_quality as b
from flowmm_cli.output import human_bytes, percent
from flowmm_cli.values import parse_share

if TYPE_CHECKING:
    from flowmm import BytesReport

Method = Annotated[str, typer.Option("--method", metavar="NAME", help="The method that chooses the slots.")]
Reductions = Annotated[
    str, typer.Option("--reduce", metavar="SHARES", help="Shares of the full cache's bytes that go, with commas.")
]
KvDtypes = Annotated[str, typer.Option("--kv-dtype", metavar="A,B", help="Precisions to fill the bytes with.")]


def by_bytes(
    suite: b.Suite,
    results: b.Results,
    method: Method = "flowmm",
    reduce: Reductions = "80%,90%,95%,97.5%",
    kv_dtype: KvDtypes = "bf16,int8,int4,int3,rot3,rot2",
    score: b.Score = "exact_match",
    limit: b.Limit = None,
    max_new_tokens: b.Longest = 64,
    chunk_tokens: b.ChunkTokens = 2048,
    markdown: b.Markdown = None,
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
    """Ask a suite's questions of files of equal bytes: more slots of fewer bits, or fewer slots of more.

    Each context is read once. Each share of its bytes is filled with as many slots as fit, in each precision, and in
    the one that --reduce takes. What is done is kept row by row in the results folder.
    """
    from flowmm import BytesOptions, bench_bytes

    options = BytesOptions(
        method=method,
        reduce=tuple(parse_share(share.strip(), "--reduce") for share in reduce.split(",")),
        kv_dtypes=tuple(name.strip() for name in kv_dtype.split(",")),
        score=score,
        limit=limit,
        max_new_tokens=max_new_tokens,
        chunk_tokens=chunk_tokens,
        seed=seed,
    )
    with output.progress_bar(wanted=not quiet) as progress:
        report = bench_bytes(
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
        _put(report)
    if not quiet:
        output.say(f"{results}: rows.jsonl, results.json, table.md, curve.svg")


def _put(report: "BytesReport") -> None:
    mark = report.score.replace("_", " ")
    rows = []
    for level in report.levels:
        shown = [(one.key.kv_dtype, one) for one in level.results]
        shown += [] if level.planner is None else [(f"--reduce: {', '.join(level.planner.stored)}", level.planner)]
        rows += [
            (
                percent(level.left),
                name,
                percent(one.keep_reached),
                human_bytes(round(one.file_bytes)),
                percent(one.scores.marks[report.score]),
                "" if one.retention is None else percent(one.retention),
                "" if one.ci95 is None else f"{percent(one.ci95[0])} to {percent(one.ci95[1])}",
            )
            for name, one in shown
        ]
    full = report.full.scores
    output.put(
        f"{report.suite}: {report.contexts} contexts, {full.questions} questions; {report.model}, {report.dtype}."
    )
    output.put(f"Method {report.method}; {mark} of the full cache {percent(full.marks[report.score])}.")
    output.put("")
    output.put_table(("bytes left", "precision", "slots", "bytes", mark, "retention", "95 %"), rows, right=range(2, 7))
    output.put("")
    for level in report.levels:
        if level.best is not None and level.behind is not None:
            best = f"{level.best.key.kv_dtype} is best"
            output.put(f"{percent(level.left)}: {best}, --reduce is {level.behind:.1f} points behind it")
    for name, why in report.refused.items():
        output.say(f"{name} was not measured: {why}")
