"""Every failing case through the real command: exit code, two lines on stderr, nothing left behind."""

import os
import re
from pathlib import Path

import pytest

from tests.e2e.cases import CASES, Case
from tests.e2e.process import ROOT, Finished

LIMITS = ROOT / "docs" / "limits.md"
BEGIN, END = "<!-- generated: failures -->", "<!-- end -->"
WRITE = "FLOWMM_WRITE_LIMITS" in os.environ


def row_of(case: Case, done: Finished, folder: Path) -> str:
    """A line of the table in docs/limits.md; what differs from run to run is left out."""
    text = done.stderr.strip().replace(f"{folder}", "/here")
    text = re.sub(r"\b(?=[a-z]*\d)[0-9a-z]{16,}\b", "(hash)", text)
    text = re.sub(r"\b\d{4,} bytes|(?<=bytes, expected )\d+", "(number) bytes", text)
    message = "<br>".join(line.replace("|", "\\|").replace("<", "&lt;") for line in text.splitlines())
    return f"| {case.title} | `{case.command}` | {case.code} | {message} |"


def shown() -> list[str]:
    """The rows that docs/limits.md shows."""
    section = LIMITS.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return section.strip().splitlines()[2:]


def show(row: str) -> None:
    """Put a row into docs/limits.md, in the order of the cases, in the place of the one with its title."""
    rows = {line.split(" | ")[0]: line for line in [*shown(), row]}
    ordered = [rows[f"| {case.title}"] for case in CASES if f"| {case.title}" in rows]
    before, _, rest = LIMITS.read_text(encoding="utf-8").partition(BEGIN)
    head = ["| what | command | exit | message |", "|---|---|---|---|"]
    section = "\n".join([BEGIN, *head, *ordered, END])
    LIMITS.write_text(before + section + rest.partition(END)[2], encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_failure_is_two_lines_and_an_exit_code(case, workshop):
    before = {path.name for path in workshop.glob("*.kv")}
    done = case.finish(workshop)
    assert done.code == case.code, done.stderr
    assert "Traceback" not in done.stderr
    noticed = 1 if case.code == 7 else 0  # a batch that goes on names each bad line as it passes over it
    assert len(done.error) == 2 + noticed, done.stderr
    assert all(line.strip() for line in done.error)
    made = {path.name for path in workshop.glob("*.kv")} - before
    assert made <= {"cut.kv", "bit.kv", "head.kv", "newer.kv"}
    assert list(workshop.rglob(".*.tmp")) == []
    row = row_of(case, done, workshop)
    if WRITE:
        show(row)
    if not case.ours:
        row = row[: row.rindex("|", 0, -1)]  # another version of typer may say it differently
    assert any(line.startswith(row) for line in shown()), "docs/limits.md is stale: run make docs"


def test_the_document_shows_the_cases_and_nothing_else():
    assert [row.split(" | ")[0][2:] for row in shown()] == [case.title for case in CASES]


def test_every_exit_code_is_produced():
    interrupted = 130  # tests/e2e/test_interrupts.py
    assert {case.code for case in CASES} | {0, interrupted} == {0, 1, 2, 3, 4, 5, 6, 7, 8, 130}
