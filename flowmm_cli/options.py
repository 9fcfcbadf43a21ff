"""The options that commands share, and how their values become the library's option values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flowmm import UsageError
from flowmm_cli.values import parse_bytes, parse_share

if TYPE_CHECKING:
    from flowmm import CompressOptions, ModelOptions

_MODEL, _COMPRESSION = "Model", "Compression"
QUALITIES = {"fast": "flowmm-fast", "balanced": "flowmm", "max": "flowmm-max"}  # methods by what they are called


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"flowmm {version('flowmm')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and stop.", callback=_show_version, is_eager=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Stats = Annotated[bool, typer.Option("--stats", help="Print times on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no notices.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output if it exists.")]
NoProvenance = Annotated[
    bool, typer.Option("--no-provenance", help="Store no names, hashes, texts or times: nothing of where it came from.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
ContextFile = Annotated[str, typer.Argument(metavar="FILE", help="The context file, ctx.kv, or its URL: s3://...")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder with context files.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Look into the folders in it too.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The context file to write.")]


def _model(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option("--model", "-m", metavar="NAME", help=what, rich_help_panel=_MODEL)
    return option


Model = Annotated[
    str | None, _model("Hub id or folder of the model. Without it FLOWMM_MODEL, without that the embedded reader.")
]
ModelOfFile = Annotated[
    str | None,
    _model("Where the model is; the file says which. Needed only if it is a local folder: here or in FLOWMM_MODEL."),
]
ModelToCheck = Annotated[
    str | None, _model("Hub id or folder of a model: also check that it fits the file and says the same.")
]
Revision = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit of a hub model.", rich_help_panel=_MODEL)
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="auto|cpu|cuda[:N]", help="Where to run.", envvar="FLOWMM_DEVICE", rich_help_panel=_MODEL
    ),
]
Dtype = Annotated[
    Literal["auto", "bf16", "fp16", "fp32"],
    typer.Option("--dtype", help="What to compute in; auto is the checkpoint's own.", rich_help_panel=_MODEL),
]
DeviceMap = Annotated[
    str | None,
    typer.Option("--device-map", metavar="auto", help="Spread a large model over GPUs.", rich_help_panel=_MODEL),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Use only files that are already here.", rich_help_panel=_MODEL)
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run Python code that comes with the model.", rich_help_panel=_MODEL),
]

Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="SHARE",
        help="Share of the slots to keep: 0.1 or 10%. Default 0.2.",
        rich_help_panel=_COMPRESSION,
    ),
]
KeepTokens = Annotated[
    int | None,
    typer.Option(
        "--keep-tokens", metavar="N", min=1, help="Slots to keep per head instead.", rich_help_panel=_COMPRESSION
    ),
]
MaxBytes = Annotated[
    str | None,
    typer.Option(
        "--max-bytes",
        metavar="SIZE",
        help="Most bytes of the file, as 50MB: chooses slots, and bits unless --kv-dtype does.",
        rich_help_panel=_COMPRESSION,
    ),
]
Reduce = Annotated[
    str | None,
    typer.Option(
        "--reduce",
        metavar="SHARE",
        help="The same as a share of the full cache in 16 bits that goes: 95% leaves a twentieth.",
        rich_help_panel=_COMPRESSION,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="Compression method; `flowmm methods` lists them. Default: the profile's.",
        rich_help_panel=_COMPRESSION,
    ),
]
Quality = Annotated[
    Literal["fast", "balanced", "max"] | None,
    typer.Option(
        "--quality",
        help="Short for --method flowmm-fast (one pass), flowmm (the default) or flowmm-max (asks more).",
        rich_help_panel=_COMPRESSION,
    ),
]
MinAgreement = Annotated[
    str | None,
    typer.Option(
        "--min-agreement",
        metavar="SHARE",
        help="Keep more, up to half of the slots, until this share of held-out answers stays the same: 0.98 or 98%.",
        rich_help_panel=_COMPRESSION,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME|FILE",
        help="Model profile. Without it FLOWMM_PROFILE, without that the model's own.",
        rich_help_panel=_COMPRESSION,
    ),
]
KvDtype = Annotated[
    Literal["bf16", "fp16", "fp32", "fp8", "int8", "int4", "int3", "rot4", "rot3", "rot2"] | None,
    typer.Option(
        "--kv-dtype",
        help="What keys and values are stored in. Below 16 bits, sinks and template tokens stay bf16.",
        rich_help_panel=_COMPRESSION,
    ),
]


def model_options(
    name: str | None,
    revision: str | None,
    device: str,
    dtype: str,
    device_map: str | None,
    offline: bool,
    trust_remote_code: bool,
) -> "ModelOptions":
    """The model flags as one value."""
    from flowmm import ModelOptions

    return ModelOptions(name, revision, device, dtype, device_map, offline, trust_remote_code)


def compress_options(
    keep: str | None,
    keep_tokens: int | None,
    method: str | None,
    profile: str | None,
    seed: int,
    *,
    max_bytes: str | None = None,
    reduce: str | None = None,
    quality: str | None = None,
    min_agreement: str | None = None,
    enabled: bool = True,
) -> "CompressOptions":
    """The compression flags as one value.

    Raises:
        UsageError: two sizes, a size and ``--no-compress``, two methods, or a value that is none.
    """
    if quality is not None and method is not None:
        raise UsageError("--method and --quality exclude each other", "Give one of them: --method or --quality.")
    if min_agreement is not None and not enabled:
        what = "--min-agreement and --no-compress exclude each other"
        raise UsageError(what, "Leave one of them away: with every slot all answers stay the same.")
    given = [
        flag
        for flag, used in (
            ("--keep", keep is not None),
            ("--keep-tokens", keep_tokens is not None),
            ("--max-bytes", max_bytes is not None),
            ("--reduce", reduce is not None),
            ("--no-compress", not enabled),
        )
        if used
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", f"Give one of them: {' or '.join(given)}.")
    share = None if keep is None else parse_share(keep)
    from flowmm import CompressOptions

    most = None if max_bytes is None else parse_bytes(max_bytes, "--max-bytes")
    gone = None if reduce is None else parse_share(reduce, "--reduce")
    wanted = None if min_agreement is None else parse_share(min_agreement, "--min-agreement")
    named = method if quality is None else QUALITIES[quality]
    return CompressOptions(enabled, named, profile, share, keep_tokens, seed, most, gone, wanted)
