"""`flowmm bench`: measurements, one command each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.commands import bench_bytes, bench_load, bench_make, bench_quality, bench_speed, bench_trust
from flowmm_cli.output import human_bytes, human_seconds
from flowmm_cli.values import parse_share

if TYPE_CHECKING:
    from flowmm import CostReport, RefitReport

app = typer.Typer(help="Make suites; measure cost, quality, and what files withstand.")
app.command()(bench_make.make)
app.command()(bench_quality.quality)
app.command()(bench_quality.order)
app.command("bytes")(bench_bytes.by_bytes)
app.command()(bench_trust.mutate)
app.command()(bench_trust.kill)
app.command()(bench_load.load)
app.command()(bench_speed.speed)

Methods = Annotated[str | None, typer.Option("--method", metavar="A,B", help="Methods to measure. Default: all.")]
Shape = Annotated[
    str | None,
    typer.Option("--shape", metavar="NAME", help="A model of random weights instead, such as qwen2_45m."),
]
Tokens = Annotated[int, typer.Option("--tokens", metavar="N", min=1, help="Of the context, half of them of images.")]
Keep = Annotated[str, typer.Option("--keep", metavar="SHARE", help="Share of the slots to keep: 0.1 or 10%.")]
Repeat = Annotated[int, typer.Option("--repeat", metavar="N", min=1, help="Runs of a method; the median counts.")]
Markdown = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="A document whose section of this is rewritten.")
]
Layers = Annotated[int, typer.Option("--layers", metavar="N", min=1, help="Layers, one in memory at a time.")]
Heads = Annotated[int, typer.Option("--heads", metavar="N", min=1, help="KV heads.")]
Slots = Annotated[int, typer.Option("--slots", metavar="N", min=1, help="Slots of a head.")]
Size = Annotated[int, typer.Option("--size", metavar="N", min=1, help="Size of a head.")]
Group = Annotated[int, typer.Option("--group", metavar="N", min=1, help="Query heads of each KV head.")]
Method = Annotated[str, typer.Option("--method", metavar="NAME", help="Whose rules and refit are measured.")]


@app.command()
def cost(
    method: Methods = None,
    shape: Shape = None,
    tokens: Tokens = 4096,
    keep: Keep = "0.1",
    repeat: Repeat = 3,
    markdown: Markdown = None,
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
    """Time the stages of each method, over a plain prefill.

    A made-up context is read plainly and with each method in turn. Stages: observe (what the prefill takes longer),
    passes (over the model, besides it), select (score, budget, selection, merge), refit, diagnose, train (through
    the model), compare (the held-out questions of every prefill).
    """
    from flowmm import bench_cost

    share = parse_share(keep)
    names = None if method is None else [name.strip() for name in method.split(",")]
    with output.progress_bar(wanted=not quiet) as progress:
        report = bench_cost(
            names,
            model=o.model_options(model, revision, device, dtype, device_map, offline, trust_remote_code),
            shape=shape,
            tokens=tokens,
            keep=share,
            repeat=repeat,
            seed=seed,
            markdown=markdown,
            progress=progress,
        )
    if json:
        output.put_json(report.as_dict())
    else:
        _put_cost(report)


@app.command()
def refit(
    layers: Layers = 28,
    heads: Heads = 4,
    slots: Slots = 32_768,
    size: Size = 128,
    group: Group = 7,
    keep: Keep = "0.1",
    method: Method = "attention-matching",
    markdown: Markdown = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Time the refit of random layers of a given size.

    The layers have some structure: runs of neighbours share a direction, and queries look for directions.
    """
    from flowmm import bench_refit

    share = parse_share(keep)
    with output.progress_bar(wanted=not quiet) as progress:
        report = bench_refit(
            layers=layers,
            heads=heads,
            slots=slots,
            size=size,
            group=group,
            keep=share,
            method=method,
            seed=seed,
            markdown=markdown,
            progress=progress,
        )
    if json:
        output.put_json(report.as_dict())
    else:
        _put_refit(report)


def _put_cost(report: "CostReport") -> None:
    stages = [*report.costs[0].stages] if report.costs else []
    rows = [
        (
            cost.method,
            *(f"{cost.share(stage):.2f}" for stage in stages),
            f"{cost.total / cost.plain:.2f}",
            human_seconds(cost.plain),
            _memory(cost.peak_memory_bytes),
        )
        for cost in report.costs
    ]
    columns = ("method", *stages, "together", "prefill", "peak memory")
    output.put(f"{report.model}, {report.tokens} tokens, {report.visual_tokens} of them of images, {report.dtype}.")
    output.put("Seconds of each stage over those of the plain prefill before it:")
    output.put("")
    output.put_table(columns, rows, right=range(1, len(columns)))
    for name, why in report.refused.items():
        output.say(f"{name} was not measured: {why}")


def _put_refit(report: "RefitReport") -> None:
    rows: Sequence[tuple[str, str]] = (
        ("refit", human_seconds(report.refit_seconds)),
        ("refit, a layer", human_seconds(report.refit_seconds / len(report.layers))),
        ("score, budget, selection", human_seconds(report.select_seconds)),
        ("memory before", _memory(report.memory_before_bytes)),
        ("peak memory", _memory(report.peak_memory_bytes)),
    )
    output.put_table(("random layers", ""), rows, right=(1,))


def _memory(count: int | None) -> str:
    return "not known" if count is None else human_bytes(count)
