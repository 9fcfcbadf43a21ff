"""`flowmm calibrate`: measure a model on documents, write its profile."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.commands import prefill as p
from flowmm_cli.values import parse_share

if TYPE_CHECKING:
    from flowmm import ModelProfile

Documents = Annotated[
    list[str], typer.Argument(metavar="SRC...", help="Documents like those to come; each is a context of its own.")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The profile to write, a .yaml.")]
Base = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME|FILE",
        help="The profile that gives what is not measured. Without it FLOWMM_PROFILE, without that the model's own.",
    ),
]
Method = Annotated[
    str,
    typer.Option(
        "--method", metavar="NAME", help="Measures head budgets; one whose heads keep different numbers of slots."
    ),
]
Keep = Annotated[
    str | None, typer.Option("--keep", metavar="SHARE", help="Share of the slots that it keeps. Default 0.2.")
]
Gate = Annotated[
    bool,
    typer.Option(
        "--gate",
        help="Also train a gate, beside the profile: what is recommended keeps more with one, fast-kvzip needs it.",
    ),
]
Suites = Annotated[
    list[Path] | None,
    typer.Option(
        "--suite",
        metavar="DIR",
        help="Contexts with questions like those to come (docs/suites.md), by which heads are weighed and a gate is "
        "trained. May be given more than once.",
    ),
]


def calibrate(
    documents: Documents,
    output_file: Output,
    profile: Base = None,
    method: Method = "leverage",
    keep: Keep = None,
    gate: Gate = False,
    suite: Suites = None,
    pdf: p.Pdf = "auto",
    pages: p.Pages = None,
    password: p.Password = None,
    max_pixels: p.MaxPixels = None,
    encoding: p.Encoding = None,
    video_frames: p.VideoFrames = 8,
    model: o.Model = None,
    revision: o.Revision = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    device_map: o.DeviceMap = None,
    offline: o.Offline = False,
    trust_remote_code: o.TrustRemoteCode = False,
    chunk_tokens: p.ChunkTokens = 2048,
    force: o.Force = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Measure a model on documents, write its profile.

    Measured are the flow of each layer, the theta that parts the layers, each head's share of a budget, how much
    answers need each head, and which precision loses least at how few bytes. No questions are needed; those of a
    --suite help where answers take several steps. With --gate, each document is read twice more, and half a minute or
    more goes into training.
    """
    from flowmm import ReadOptions, calibrate_model

    notices = output.Notices(wanted=not quiet)
    with output.progress_bar(wanted=not quiet, on_work=notices.begin) as progress:
        made = calibrate_model(
            documents,
            output_file,
            read=ReadOptions(pdf, pages, password, max_pixels, encoding, video_frames),
            model=o.model_options(model, revision, device, dtype, device_map, offline, trust_remote_code),
            profile=profile,
            method=method,
            keep=None if keep is None else parse_share(keep),
            gate=gate,
            suites=suite or (),
            chunk_tokens=chunk_tokens,
            force=force,
            progress=progress,
            notice=notices,
        )
    notices.begin()
    if json:
        output.put_json({"file": str(output_file), **made.model_dump(mode="json", exclude={"text"})})
        return
    for line in _lines(output_file, made):
        output.put(line)


def _lines(path: Path, made: "ModelProfile") -> Iterator[str]:
    found, budgets = made.calibrated, made.head_budget or []
    if found is None:
        return
    measured = zip(found.flow_mean, found.flow_spread, strict=True)
    flows: list[tuple[float, float] | None] = [*measured] or [None] * len(budgets)
    weights = made.head_weight or [[]] * len(budgets)
    rows = [
        (str(index), *_flow_cells(flow, made.theta), _listed(heads), _listed(worth))
        for index, (flow, heads, worth) in enumerate(zip(flows, budgets, weights, strict=True))
    ]
    names = ("layer", "flow", "", "+-", "side of theta", "budget of each head, 1 is an equal share", "weight of each")
    yield from output.table_lines(names, rows, right=(0, 1, 3))
    yield from _precision_lines(made)
    yield from _gate_lines(made)
    documents = "1 document" if len(found.documents) == 1 else f"{len(found.documents)} documents"
    yield ""
    yield f"theta {made.theta:g}: {found.theta}"
    yield f"{path}: measured on {found.tokens} tokens of {documents}; use it with -p {path}"


def _listed(heads: list[float]) -> str:
    return " ".join(f"{number:.2f}" for number in heads)


def _precision_lines(made: "ModelProfile") -> Iterator[str]:
    """What each precision loses at equal bytes."""
    found = made.calibrated.precision if made.calibrated is not None else None
    if found is None:
        return
    yield ""
    if found.shares:
        rows = [(name, *(f"{error:.3f}" for error in errors)) for name, errors in found.errors.items()]
        names = ("lost at a share of the bytes", *(f"{100 * share:g} %" for share in found.shares))
        yield from output.table_lines(names, rows, right=range(1, len(names)))
        yield ""
    taken = ", ".join(f"{name} up to {100 * share:.3g} %" for name, share in made.precision.items())
    yield f"precision {taken or '16 bits'}: {found.rule}"


def _gate_lines(made: "ModelProfile") -> Iterator[str]:
    """How well the gate does on what it was not trained on."""
    found = made.calibrated.gate if made.calibrated is not None else None
    if found is None:
        return
    measured = zip(found.bce, found.bce_constant, found.correlation, strict=True)
    rows = [(str(index), *(f"{number:.4f}" for number in numbers)) for index, numbers in enumerate(measured)]
    yield ""
    yield from output.table_lines(("layer", "cross-entropy", "of a constant", "rank correlation"), rows, right=range(4))
    yield ""
    judged = f"judged on {found.held_out_tokens} others, {found.held_out}"
    yield f"gate {made.gate}: trained on {found.tokens} tokens, {judged}"


def _flow_cells(flow: tuple[float, float] | None, theta: float) -> tuple[str, str, str, str]:
    if flow is None:
        return "-", "", "-", "-"
    mean, spread = flow
    return f"{mean:.3f}", output.bar(mean), f"{spread:.3f}", "above" if mean > theta else "below"
