"""`flowmm prefill`: documents to one context file."""

from typing import Annotated, Literal

import typer

from flowmm_cli import options as o
from flowmm_cli import output, summary

_INPUT = "Input"
Sources = Annotated[
    list[str], typer.Argument(metavar="SRC...", help="PDF, image and text files in context order; - is stdin.")
]
Pdf = Annotated[
    Literal["auto", "text", "image", "both"],
    typer.Option("--pdf", help="How PDF pages are read.", rich_help_panel=_INPUT),
]
Pages = Annotated[
    str | None, typer.Option("--pages", metavar="1-4,7", help="Pages to read of each PDF.", rich_help_panel=_INPUT)
]
Password = Annotated[str | None, typer.Option("--password", help="Opens encrypted PDFs.", rich_help_panel=_INPUT)]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", metavar="N", min=1, help="Scale images down to this.", rich_help_panel=_INPUT),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="Of text files; default UTF-8.", rich_help_panel=_INPUT),
]
VideoFrames = Annotated[
    int, typer.Option("--video-frames", metavar="N", min=1, help="Frames of each video.", rich_help_panel=_INPUT)
]
System = Annotated[
    str | None,
    typer.Option("--system", "-s", metavar="TEXT", help="System message before the context.", rich_help_panel=_INPUT),
]
NoCompress = Annotated[bool, typer.Option("--no-compress", help="Keep every slot.", rich_help_panel="Compression")]
Scout = Annotated[
    str | None,
    typer.Option(
        "--scout",
        metavar="NAME",
        help="Smaller model of the same family that scores for the large one, with --method smallkv.",
        rich_help_panel="Compression",
    ),
]
ChunkTokens = Annotated[
    int, typer.Option("--chunk-tokens", metavar="N", min=1, help="Tokens read at a time.", rich_help_panel="Model")
]


def prefill(
    sources: Sources,
    output_file: o.Output,
    pdf: Pdf = "auto",
    pages: Pages = None,
    password: Password = None,
    max_pixels: MaxPixels = None,
    encoding: Encoding = None,
    video_frames: VideoFrames = 8,
    system: System = None,
    keep: o.Keep = None,
    keep_tokens: o.KeepTokens = None,
    max_bytes: o.MaxBytes = None,
    reduce: o.Reduce = None,
    no_compress: NoCompress = False,
    method: o.Method = None,
    quality: o.Quality = None,
    min_agreement: o.MinAgreement = None,
    scout: Scout = None,
    profile: o.Profile = None,
    kv_dtype: o.KvDtype = None,
    model: o.Model = None,
    revision: o.Revision = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    device_map: o.DeviceMap = None,
    offline: o.Offline = False,
    trust_remote_code: o.TrustRemoteCode = False,
    chunk_tokens: ChunkTokens = 2048,
    seed: o.Seed = 0,
    force: o.Force = False,
    no_provenance: o.NoProvenance = False,
    json: o.Json = False,
    stats: o.Stats = False,
    quiet: o.Quiet = False,
) -> None:
    """Read documents once, write their compressed KV cache."""
    from flowmm import ReadOptions, prefill_file

    compression = o.compress_options(
        keep,
        keep_tokens,
        method,
        profile,
        seed,
        max_bytes=max_bytes,
        reduce=reduce,
        quality=quality,
        min_agreement=min_agreement,
        enabled=not no_compress,
    )
    read = ReadOptions(pdf, pages, password, max_pixels, encoding, video_frames)
    notices = output.Notices(wanted=not quiet)
    with output.progress_bar(wanted=not quiet, on_work=notices.begin) as progress:
        header = prefill_file(
            sources,
            output_file,
            read=read,
            model=o.model_options(model, revision, device, dtype, device_map, offline, trust_remote_code),
            scout=scout,
            compression=compression,
            system=system,
            chunk_tokens=chunk_tokens,
            kv_dtype=kv_dtype,
            force=force,
            provenance=not no_provenance,
            progress=progress,
            notice=notices,
        )
    notices.begin()
    summary.show(output_file, header, json=json, stats=stats, quiet=quiet)
