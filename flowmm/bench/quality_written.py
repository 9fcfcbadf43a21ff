"""A quality report on disk: results.json, table.md and curve.svg, and its section of a document."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from flowmm.atomic import replacing
from flowmm.bench.curve_svg import Curve, Point, curve_svg
from flowmm.bench.markdown import rewrite
from flowmm.bench.quality_report import QualityReport, Result
from flowmm.bench.quality_table import quality_section

RESULTS_FILE, TABLE_FILE, CURVE_FILE = "results.json", "table.md", "curve.svg"


def write_results(report: QualityReport, folder: Path, command: str) -> None:
    """Write the three files, each whole or not at all.

    Raises:
        ResourceError: the folder cannot be written.
    """
    write_files(folder, report.as_dict(), quality_section(report, command, CURVE_FILE), curve_of(report))


def write_files(folder: Path, found: dict[str, Any], section: str, curve: str) -> None:
    """The three files of any report.

    Args:
        folder: that they go to.
        found: the report as JSON values.
        section: as Markdown.
        curve: as SVG.
    """
    write_whole(folder / RESULTS_FILE, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    write_whole(folder / TABLE_FILE, section + "\n")
    write_whole(folder / CURVE_FILE, curve)


def write_section(report: QualityReport, document: Path, command: str) -> None:
    """Rewrite the section of a document, and put the curve beside it.

    Raises:
        InputError: there is no such document.
    """
    curve = document.with_name(f"quality-{re.sub(r'[^A-Za-z0-9._-]+', '-', report.suite)}.svg")
    write_whole(curve, curve_of(report))
    rewrite(document, section_name(report.suite), quality_section(report, command, curve.name))


def section_name(suite: str) -> str:
    """What the marks around the section say."""
    return f"quality {suite}"


def curve_of(report: QualityReport) -> str:
    """The report's score against kept slots, as SVG."""
    lines: dict[str, list[Point]] = {}
    for one in report.results:
        if one.key.keep is not None and one.key.keep < 1:
            lines.setdefault(report.name_of(one), []).append(_point(one, report.score, one.key.keep))
    curves = [Curve(name, tuple(sorted(points, key=lambda point: point.keep))) for name, points in lines.items()]
    levels = {"full cache": report.full.scores.marks[report.score]}
    levels |= {
        one.label.replace("_", " "): one.scores.marks[report.score]
        for one in report.controls
        if one.key.name == "no_context"
    }
    score = report.score.replace("_", " ")
    return curve_svg(f"{report.suite}: {score} against kept slots ({report.model})", score, curves, levels)


def _point(result: Result, score: str, keep: float) -> Point:
    return Point(keep, result.scores.marks[score], result.interval)


def write_whole(path: Path, text: str) -> None:
    """A text as a file, whole or not at all."""
    data = text.encode("utf-8")
    with replacing(path, len(data)) as file:
        file.write(data)
