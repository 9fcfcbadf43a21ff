"""The sections that `flowmm bench mutate` and `flowmm bench kill` write into a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowmm.bench.markdown import machine, table

if TYPE_CHECKING:
    from flowmm.bench.kill import KillReport
    from flowmm.bench.mutate_report import Finding, MutateReport


def mutate_section(report: MutateReport, command: str) -> str:
    """What `bench mutate` writes."""
    rows = [
        (name, str(kind.files), str(kind.refused), f"{kind.longest_seconds:.3f} s")
        for name, kind in report.by_kind.items()
    ]
    wrong, undocumented = len(report.wrong), len(report.undocumented)
    lines = [
        f"`{command}` on {machine('cpu')}",
        "",
        f"Of {report.files} files {report.refused} were refused with a documented error, {report.harmless} loaded with "
        f"every number as it was. Undocumented exits: {undocumented}. Wrong answers: {wrong}. The longest took "
        f"{report.longest_seconds:.2f} s; the process that reads takes {_megabytes(report.memory_before_bytes)} before "
        f"the first file and {_megabytes(report.peak_memory_bytes)} at its peak.",
        "",
        *table(("kind", "files", "refused", "longest"), rows),
        *(f"\n{_told(one)}" for one in (*report.undocumented, *report.wrong)),
    ]
    return "\n".join(lines)


def kill_section(report: KillReport, command: str) -> str:
    """What `bench kill` writes."""
    columns = ("kills", "old file", "new file", "neither", "left a stray", "stray after the next run")
    row = (
        report.times,
        report.old,
        report.new,
        report.neither,
        report.strays_left,
        report.strays_after_next_run,
    )
    lines = [
        f"`{command}` on {machine('cpu')}",
        "",
        f"The file has {_megabytes(report.file_bytes)}; writing it takes {report.write_seconds:.3f} s when nobody "
        "interrupts. The moments are drawn evenly from that time and a fifth more.",
        "",
        *table(columns, [tuple(map(str, row))]),
    ]
    return "\n".join(lines)


def _told(finding: Finding) -> str:
    return f"File {finding.number} ({finding.kind}): {finding.how}."


def _megabytes(count: int | None) -> str:
    return "not known" if count is None else f"{count / 1e6:.0f} MB"
