"""`flowmm bench load`: what loading a context file takes, over plain reads and copies of its bytes."""

from typing import TYPE_CHECKING, Annotated

import typer

from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.output import human_bytes, human_seconds

if TYPE_CHECKING:
    from flowmm import LoadReport

Megabytes = Annotated[int, typer.Option("--megabytes", metavar="N", min=1, help="Of the file, about.")]
PlainMegabytes = Annotated[
    int, typer.Option("--plain-megabytes", metavar="N", min=1, help="Of the other file, which is in bf16.")
]
Repeat = Annotated[int, typer.Option("--repeat", metavar="N", min=1, help="Loads of each; the medians count.")]


def load(
    megabytes: Megabytes = 1000,
    kv_dtype: o.KvDtype = None,
    plain_megabytes: PlainMegabytes = 100,
    repeat: Repeat = 5,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Time loading a context file of random slots in a precision (int4), and one in bf16.

    Loading reads, verifies and unpacks. Beside it: safetensors' load_file of the same file with a copy of each tensor,
    and a copy of the unpacked keys and values. The files are in the system's cache; memory for twice the unpacked
    slots is needed.
    """
    from flowmm import bench_load

    with output.progress_bar(wanted=not quiet) as progress:
        report = bench_load(
            megabytes=megabytes,
            kv_dtype=kv_dtype or "int4",
            plain_megabytes=plain_megabytes,
            repeat=repeat,
            seed=seed,
            progress=progress,
        )
    if json:
        output.put_json(report.as_dict())
    else:
        _put(report)


def _put(report: "LoadReport") -> None:
    both = (report.packed, report.plain)
    rows = (
        ("in the file", *(human_bytes(one.file_bytes) for one in both)),
        ("in memory", *(human_bytes(one.unpacked_bytes) for one in both)),
        ("load: read, verify, unpack", *(human_seconds(one.load_seconds) for one in both)),
        ("load_file, copied", *(human_seconds(one.read_seconds) for one in both)),
        ("load_file, mapped only", *(human_seconds(one.map_seconds) for one in both)),
        ("load / load_file, copied", *(f"{one.load_over_read:.2f}" for one in both)),
        ("unpack", *(human_seconds(one.unpack_seconds) for one in both)),
        ("copy what was unpacked", *(human_seconds(one.copy_seconds) for one in both)),
        ("unpack / copy", *(f"{one.unpack_over_copy:.2f}" for one in both)),
    )
    output.put_table(("", *(one.kv_dtype for one in both)), rows, right=(1, 2))
    output.put("")
    output.put(f"Medians of {report.repeat}, {report.threads} threads.")
