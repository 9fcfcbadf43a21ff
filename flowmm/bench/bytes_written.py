"""A report of `flowmm bench bytes` on disk: results.json, table.md and curve.svg, and its section of a document."""

from __future__ import annotations

import re
from pathlib import Path

from flowmm.bench.bytes_report import BytesReport, Level
from flowmm.bench.curve_svg import Curve, Point, curve_svg
from flowmm.bench.markdown import machine, rewrite, table
from flowmm.bench.quality_report import Result
from flowmm.bench.quality_written import CURVE_FILE, write_files, write_whole

_COLUMNS = ("bytes left", "precision", "slots kept", "bytes", "of the full cache")


def write_results(report: BytesReport, folder: Path, command: str) -> None:
    """Write the three files, each whole or not at all.

    Raises:
        ResourceError: the folder cannot be written.
    """
    write_files(folder, report.as_dict(), bytes_section(report, command, CURVE_FILE), curve_of(report))


def write_section(report: BytesReport, document: Path, command: str) -> None:
    """Rewrite the section of a document, and put the curve beside it.

    Raises:
        InputError: there is no such document.
    """
    curve = document.with_name(f"bytes-{re.sub(r'[^A-Za-z0-9._-]+', '-', report.suite)}.svg")
    write_whole(curve, curve_of(report))
    rewrite(document, section_name(report.suite), bytes_section(report, command, curve.name))


def section_name(suite: str) -> str:
    """What the marks around the section say."""
    return f"bytes {suite}"


def bytes_section(report: BytesReport, command: str, curve: str) -> str:
    """What `bench bytes` writes; the same for every run of one seed.

    Args:
        report: what was found.
        command: that printed it.
        curve: the name of the SVG beside the document.
    """
    score = report.score.replace("_", " ")
    columns = (*_COLUMNS, score, "retention")
    full = report.full.scores
    rows = [
        (_percent(level.left), *_cells(one, report.score, one.key.kv_dtype))
        for level in report.levels
        for one in level.results
    ]
    lines = [
        f"`{command}` on {machine(report.device)}",
        "",
        f"{report.model} ({report.dtype}) on suite `{report.suite}` (`{report.suite_hash[:12]}`): {report.contexts} "
        f"contexts, {full.questions} questions, seed {report.seed}, method `{report.method}`. The full cache scores "
        f"{_percent(full.marks[report.score])} ({score}). Each row fills a share of the full cache's bytes in 16 bits "
        "with as many slots as fit in one precision. Bytes are those of a file, all of it, the mean of a context. "
        "Retention is over the full cache, with the 95 % interval of a paired bootstrap over contexts.",
        "",
        f"![Score against bytes]({curve})",
        "",
        *table(columns, rows),
        "",
        f"What `--reduce` takes with the precisions of profile `{report.profile}`, beside the best row above:",
        "",
        *table(
            ("bytes left", "planner", "slots kept", score, "retention", "best", score, "points behind"),
            [_compared(level, report.score) for level in report.levels],
        ),
        *(f"\n`{name}` was not measured: {why}." for name, why in report.refused.items()),
    ]
    return "\n".join(lines)


def _cells(one: Result, score: str, name: str) -> tuple[str, ...]:
    return (
        f"`{name}`",
        _percent(one.keep_reached),
        f"{one.file_bytes:,.0f}",
        _percent(one.byte_share),
        _percent(one.scores.marks[score]),
        _retention(one),
    )


def _compared(level: Level, score: str) -> tuple[str, ...]:
    best = (
        ("", "") if level.best is None else (f"`{level.best.key.kv_dtype}`", _percent(level.best.scores.marks[score]))
    )
    if level.planner is None:
        return (_percent(level.left), "", "", "", "", *best, "")
    name, kept, _, _, mark, retention = _cells(level.planner, score, ", ".join(level.planner.stored))
    behind = "" if level.behind is None else f"{level.behind:.1f}"
    return (_percent(level.left), name, kept, mark, retention, *best, behind)


def _retention(one: Result) -> str:
    if one.retention is None:
        return ""
    low_high = "" if one.ci95 is None else f" ({100 * one.ci95[0]:.1f} to {100 * one.ci95[1]:.1f})"
    return f"{100 * one.retention:.1f}{low_high}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def curve_of(report: BytesReport) -> str:
    """The report's score against the bytes that are left, a line a precision, as SVG."""
    lines: dict[str, list[Point]] = {}
    for level in reversed(report.levels):
        for one in level.results:
            point = Point(level.left, one.scores.marks[report.score], one.interval)
            lines.setdefault(one.key.kv_dtype, []).append(point)
        if level.planner is not None:
            point = Point(level.left, level.planner.scores.marks[report.score], level.planner.interval)
            lines.setdefault("--reduce", []).append(point)
    score = report.score.replace("_", " ")
    title = f"{report.suite}: {score} against bytes ({report.model}, {report.method})"
    curves = [Curve(name, tuple(points)) for name, points in lines.items()]
    whole = {"full cache": report.full.scores.marks[report.score]}
    return curve_svg(title, score, curves, whole, across="bytes of the file, of the full cache in 16 bits")
