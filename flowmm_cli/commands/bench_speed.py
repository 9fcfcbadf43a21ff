"""`flowmm bench speed`: first token, decoding and many questions, beside transformers and the machine's own limit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowmm import UsageError
from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.values import parse_share

if TYPE_CHECKING:
    from flowmm import SpeedReport

Shape = Annotated[
    str | None,
    typer.Option("--shape", metavar="NAME", help="A model of random weights instead: qwen2_45m, qwen2_5_vl_7b, ..."),
]
Context = Annotated[int, typer.Option("--context", metavar="N", min=1, help="Tokens of the context, all text.")]
Keep = Annotated[str, typer.Option("--keep", metavar="A,B", help="Shares of the slots, a file each.")]
Batch = Annotated[str, typer.Option("--batch", metavar="A,B", help="Questions answered side by side.")]
Repeat = Annotated[int, typer.Option("--repeat", metavar="N", min=1, help="Runs of each arm that count, interleaved.")]
NewTokens = Annotated[int, typer.Option("--new-tokens", metavar="N", min=2, help="Of each answer.")]
Method = Annotated[str, typer.Option("--method", metavar="NAME", help="That compresses.")]
Graphs = Annotated[bool, typer.Option("--graphs", help="On a GPU, a decode step is one CUDA graph; never run so far.")]
Markdown = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="A document whose section of this is rewritten.")
]


def speed(
    shape: Shape = None,
    context: Context = 8192,
    keep: Keep = "0.2,0.1,0.05",
    batch: Batch = "1,8,32,64",
    repeat: Repeat = 5,
    new_tokens: NewTokens = 32,
    method: Method = "flowmm",
    graphs: Graphs = False,
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
    """Time answers from context files, against transformers with its full cache.

    Each arm is a process of its own with a first run that does not count; the others are interleaved. Beside each
    figure stands the least it could be: bytes that must move over the measured bandwidth, operations over the
    measured rate.
    """
    from flowmm import bench_speed

    shares = [parse_share(one) for one in keep.split(",")]
    sizes = [_whole(one) for one in batch.split(",")]
    with output.progress_bar(wanted=not quiet) as progress:
        report = bench_speed(
            model=o.model_options(model, revision, device, dtype, device_map, offline, trust_remote_code),
            shape=shape,
            context=context,
            keep=shares,
            batch=sizes,
            repeat=repeat,
            new_tokens=new_tokens,
            method=method,
            seed=seed,
            graphs=graphs,
            markdown=markdown,
            progress=progress,
        )
    if json:
        output.put_json(report.as_dict())
    else:
        _put(report)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--batch {text}: not a whole number", "Give a list such as --batch 1,64.") from None


def _put(report: "SpeedReport") -> None:
    rows = [
        (
            arm.source,
            str(arm.batch),
            "" if arm.first_token is None else _milliseconds(arm.first_token.median),
            "" if arm.first_token is None else _milliseconds(arm.first_token_floor),
            _milliseconds(arm.step.median),
            f"{_milliseconds(arm.step.low)}-{_milliseconds(arm.step.high)}",
            _milliseconds(arm.step_floor),
            f"{arm.batch / arm.step.median:.0f}",
            "" if arm.questions_per_second is None else f"{arm.questions_per_second:.2f}",
        )
        for arm in report.arms
    ]
    columns = ("from", "questions", "first token", "floor", "a step", "spread", "floor", "tokens/s", "questions/s")
    lengths = f"{report.context} tokens, questions of {report.question}, answers of {report.new_tokens}"
    output.put(f"{report.model}, {report.dtype}, {lengths}; medians of {report.repeat}, milliseconds.")
    output.put("")
    output.put_table(columns, rows, right=range(1, len(columns)))
    output.put("")
    for name, ratio in report.ratios.items():
        output.put(f"{name}: {'not measured' if ratio is None else f'{ratio:.1f}'}")


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}"
