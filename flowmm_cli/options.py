"""The options that commands share, and how their values become the library's option values."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flowmm import UsageError

if TYPE_CHECKING:
    from flowmm import CompressOptions, ModelOptions

_MODEL, _COMPRESSION = "Model", "Compression"
_POWERS = " KMGT"
QUALITIES = {"fast": "flowmm-fast", "balanced": "flowmm", "max": "flowmm-max"}  # methods by what they are called
_SECONDS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


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

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="Hub id or folder of the model. Without it FLOWMM_MODEL, without that the embedded reader.",
        rich_help_panel=_MODEL,
    ),
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
    gone = None if reduce is None else parse_reduction(reduce)
    wanted = None if min_agreement is None else parse_agreement(min_agreement)
    named = method if quality is None else QUALITIES[quality]
    return CompressOptions(enabled, named, profile, share, keep_tokens, seed, most, gone, wanted)


def parse_reduction(text: str) -> float:
    """``0.95`` and ``95%`` as 0.95.

    Raises:
        UsageError: no number, or not in (0, 1).
    """
    hint = "Give the share of the bytes that goes, more than 0 and less than 1: --reduce 0.95 or --reduce 95%."
    share = _fraction(text, "--reduce", hint)
    if not 0 < share < 1:
        raise UsageError(f"--reduce {text}: not a share between 0 and 1", hint)
    return share


def parse_share(text: str) -> float:
    """``0.1`` and ``10%`` as 0.1.

    Raises:
        UsageError: no number, or not in (0, 1].
    """
    hint = "Give the share of the slots to keep, more than 0 and at most 1: --keep 0.2 or --keep 20%."
    share = _fraction(text, "--keep", hint)
    if not 0 < share <= 1:
        raise UsageError(f"--keep {text}: not a share between 0 and 1", hint)
    return share


def parse_agreement(text: str) -> float:
    """``0.98`` and ``98%`` as 0.98.

    Raises:
        UsageError: no number, or not in (0, 1].
    """
    hint = "Give the share of held-out answers' tokens that must stay the same: --min-agreement 0.98 or 98%."
    share = _fraction(text, "--min-agreement", hint)
    if not 0 < share <= 1:
        raise UsageError(f"--min-agreement {text}: not a share between 0 and 1", hint)
    return share


def _fraction(text: str, flag: str, hint: str) -> float:
    number, scale = (text[:-1], 100) if text.endswith("%") else (text, 1)
    try:
        return float(number) / scale
    except ValueError:
        raise UsageError(f"{flag} {text}: not a number", hint) from None


def parse_bytes(text: str, flag: str) -> int:
    """``20GB``, ``1.5MB`` and ``1000`` in powers of 1000, ``1GiB`` in powers of 1024; case makes no difference.

    Args:
        text: the value.
        flag: its option, for the message.

    Raises:
        UsageError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(I?))?B?", text.strip().upper(), re.ASCII)
    if found is None:
        raise UsageError(f"{flag} {text}: not a size", f"Give a number of bytes, as in {flag} 20GB, 50MB or 1GiB.")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS.index(unit or " "))


def parse_age(text: str, flag: str) -> float:
    """``90min``, ``12h``, ``30d`` and ``2w`` in seconds.

    Args:
        text: the value.
        flag: its option, for the message.

    Raises:
        UsageError: it is no age.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(min|h|d|w)", text.strip(), re.ASCII)
    if found is None:
        raise UsageError(f"{flag} {text}: not an age", f"Give a number with min, h, d or w: {flag} 30d.")
    return float(found[1]) * _SECONDS[found[2]]
