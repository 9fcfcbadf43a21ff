"""Reports as Markdown, and their sections in a document, which are rewritten in place."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from flowmm.bench.cost_report import STAGES, CostReport
from flowmm.bench.refit_report import RefitReport
from flowmm.errors import InputError


def check_document(path: Path | None, name: str) -> None:
    """Refuse before the long work what :func:`rewrite` would refuse after it."""
    if path is not None:
        _parted(path, name)


def rewrite(path: Path, name: str, section: str) -> None:
    """Put ``section`` between the two marks of ``name``, or with its marks at the end of a document without them.

    Raises:
        InputError: there is no such document, or only one of the marks is in it.
    """
    before, after = _parted(path, name)
    path.write_text(f"{before}\n{section.strip()}\n{after}", encoding="utf-8")


def _parted(path: Path, name: str) -> tuple[str, str]:
    """A document up to and with the first mark, and from the second on."""
    begin, end = f"<!-- flowmm bench {name} -->", f"<!-- end of flowmm bench {name} -->"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read", "Name a Markdown file that exists.") from error
    if begin not in text and end not in text:
        return f"{text.rstrip()}\n\n{begin}", f"{end}\n"
    before, _, rest = text.partition(begin)
    if end not in rest:
        raise InputError(f"{path}: has not both {begin} and, after it, {end}", "Put both lines in, or take both out.")
    return before + begin, end + rest.partition(end)[2]


def cost_section(report: CostReport, command: str) -> str:
    """What `bench cost` writes."""
    columns = ("method", *STAGES, "together", "plain prefill", "peak memory")
    rows = [
        (
            f"`{cost.method}`",
            *(f"{cost.share(stage):.2f}" for stage in STAGES),
            f"{cost.total / cost.plain:.2f}",
            f"{cost.plain:.2f} s",
            _gigabytes(cost.peak_memory_bytes),
        )
        for cost in report.costs
    ]
    lines = [
        f"`{command}` on {machine(report.device)}",
        "",
        f"{report.model}, {report.tokens} tokens, {report.visual_tokens} of them of images, {report.dtype}. Stages are "
        "seconds over those of the plain prefill before them; the run with the median of "
        f"{report.repeat}. A plain prefill peaks at {_gigabytes(report.plain_memory_bytes)}, the model included.",
        "",
        *table(columns, rows),
        *(f"\n`{method}` was not measured: {why}." for method, why in report.refused.items()),
    ]
    return "\n".join(lines)


def refit_section(report: RefitReport, command: str) -> str:
    """What `bench refit` writes."""
    sizes, layers = report.sizes, report.layers
    columns = ("layers", "KV heads", "slots", "head size", "kept", "refit", "a layer", "before it", "peak memory")
    row = (
        *(str(number) for number in (sizes.layers, sizes.heads, sizes.slots, sizes.size)),
        f"{100 * report.keep:g} %",
        f"{report.refit_seconds:.1f} s",
        f"{report.refit_seconds / len(layers):.2f} s",
        f"{report.select_seconds:.1f} s",
        _gigabytes(report.peak_memory_bytes),
    )
    lines = [
        f"`{command}` on {machine('cpu')}",
        "",
        f"`{report.method}`, {report.references} reference tokens with {sizes.group} queries for each KV head. Layers "
        "are random with structure (runs of neighbours share one of 64 directions), bfloat16, one in memory at a time; "
        '"before it" is score, budget and selection. Without a layer the process takes '
        f"{_gigabytes(report.memory_before_bytes)}.",
        "",
        *table(columns, [row]),
    ]
    return "\n".join(lines)


def machine(device: str) -> str:
    """Hardware and versions in one line."""
    import torch

    from flowmm.readings import versions

    found = ", ".join(f"{name} {number}" for name, number in versions().items())
    cpu = f"{os.cpu_count()} cores of {_processor()}, {torch.get_num_threads()} threads, {_memory()}"
    gpu = f"{torch.cuda.get_device_name()}, " if device == "cuda" else ""
    return f"{gpu}{cpu}; {found}."


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, OSError, ValueError):
        return "memory not known"


def _gigabytes(count: int | None) -> str:
    return "not known" if count is None else f"{count / 1e9:.2f} GB"


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ("---",) * len(columns), *rows)]
