"""`flowmm bench mutate` and `flowmm bench kill`: what comes of damaged files, and of writers that are killed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.output import human_bytes, human_seconds
from flowmm_cli.values import parse_bytes

if TYPE_CHECKING:
    from flowmm import KillReport, MutateReport

Files = Annotated[int, typer.Option("--files", metavar="N", min=1, help="Damaged files to make and to read.")]
Times = Annotated[int, typer.Option("--times", metavar="N", min=1, help="Writers to kill.")]
Size = Annotated[str, typer.Option("--size", metavar="SIZE", help="Of the file they write, roughly: 8MB.")]
Markdown = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="A document whose section of this is rewritten.")
]


def mutate(
    files: Files = 20_000,
    markdown: Markdown = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Damage context files in every way, and count how reading them ends.

    A file must be refused with a documented error, or load with every number as it was. Exits with 1 if one does not.
    """
    from flowmm import bench_mutate

    with output.progress_bar(wanted=not quiet) as progress:
        report = bench_mutate(files, seed=seed, markdown=markdown, progress=progress)
    if json:
        output.put_json(report.as_dict())
    else:
        _put_mutate(report)
    if not report.good:
        raise typer.Exit(1)


def kill(
    times: Times = 200,
    size: Size = "8MB",
    markdown: Markdown = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Kill writers at random moments, and look at what they leave.

    Under the name stands the old file or the new one, and the next run leaves nothing else; else this exits with 1.
    """
    from flowmm import bench_kill

    num_bytes = parse_bytes(size, "--size")
    with output.progress_bar(wanted=not quiet) as progress:
        report = bench_kill(times, num_bytes=num_bytes, seed=seed, markdown=markdown, progress=progress)
    if json:
        output.put_json(report.as_dict())
    else:
        _put_kill(report)
    if not report.good:
        raise typer.Exit(1)


def _put_mutate(report: "MutateReport") -> None:
    rows = [
        (name, str(kind.files), str(kind.refused), f"{kind.longest_seconds:.3f} s")
        for name, kind in report.by_kind.items()
    ]
    output.put_table(("kind", "files", "refused", "longest"), rows, right=(1, 2, 3))
    output.put("")
    output.put(f"{report.refused} refused with a documented error, {report.harmless} loaded as they were.")
    output.put(f"Undocumented exits: {len(report.undocumented)}. Wrong answers: {len(report.wrong)}.")
    memory = f"{_memory(report.memory_before_bytes)} before, {_memory(report.peak_memory_bytes)} at the peak"
    output.put(f"Longest: {human_seconds(report.longest_seconds)}. Memory of the process that reads: {memory}.")
    for one in (*report.undocumented, *report.wrong):
        output.put(f"file {one.number} ({one.kind}): {one.how}")


def _put_kill(report: "KillReport") -> None:
    rows = (
        ("the old file", str(report.old)),
        ("the new file", str(report.new)),
        ("neither", str(report.neither)),
        ("left a stray", str(report.strays_left)),
        ("still there after the next run", str(report.strays_after_next_run)),
    )
    size, seconds = human_bytes(report.file_bytes), human_seconds(report.write_seconds)
    output.put(f"{report.times} kills of a process that writes {size}, which takes {seconds}:")
    output.put("")
    output.put_table(("found", "times"), rows, right=(1,))


def _memory(count: int | None) -> str:
    return "not known" if count is None else human_bytes(count)
