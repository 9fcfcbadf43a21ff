"""A folder of documents with ``questions.csv`` as a suite."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowmm.bench.inside import document, folder_name
from flowmm.bench.suite import Suite, SuiteContext, SuitePart, SuiteQuestion
from flowmm.errors import InputError

QUESTIONS_FILE = "questions.csv"
LOOKS_FOR = QUESTIONS_FILE
KIND = "documents"  # of a question that names none
ALL = "all"  # id of the context that is all documents

_NEEDED = {"question", "answer"}
_COLUMNS = {*_NEEDED, "file", "id", "kind"}
_HINT = "docs/suites-of-others.md describes questions.csv."


@dataclass(frozen=True)
class _Row:
    file: str  # empty: about all documents
    asked: SuiteQuestion


def recognises(folder: Path) -> bool:
    """Whether ``questions.csv`` lies in the folder."""
    return (folder / QUESTIONS_FILE).is_file()


def load(folder: Path) -> Suite:
    """One context for each document that the column ``file`` names, and one of all documents for rows that name none.

    Raises:
        InputError: naming the line of ``questions.csv`` and what is wrong with it.
    """
    rows = _rows(folder)
    contexts = []
    for file in dict.fromkeys(row.file for row in rows):
        parts = [SuitePart(path=name) for name in ([file] if file else _documents(folder))]
        asked = [row.asked for row in rows if row.file == file]
        contexts.append(SuiteContext(file or ALL, tuple(parts), tuple(asked)))
    return Suite(folder_name(folder), folder, tuple(contexts))


def _rows(folder: Path) -> list[_Row]:
    path = folder / QUESTIONS_FILE
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            return [_row(folder, f"{path}:{reader.line_num}", number, row) for number, row in enumerate(reader, 1)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no CSV in UTF-8 ({error})", _HINT) from None


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    found = ", ".join(map(repr, columns)) or "none"
    if missing := _NEEDED - set(columns):
        raise InputError(f"{path}: has no column {min(missing)!r}; its columns are {found}", _HINT)
    if unknown := set(columns) - _COLUMNS:
        raise InputError(f"{path}: unknown column {min(unknown)!r}; known are {', '.join(sorted(_COLUMNS))}", _HINT)
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: a column stands twice: {found}", _HINT)


def _row(folder: Path, where: str, number: int, row: dict[str | None, str | None]) -> _Row:
    if None in row or None in row.values():
        raise InputError(f"{where}: has not as many values as there are columns", "Quote a value that holds a comma.")
    values = {name: value.strip() for name, value in row.items() if name and value}
    answers = tuple(filter(None, (answer.strip() for answer in values.get("answer", "").split("|"))))
    for name, value in (("question", values.get("question")), ("answer", answers)):
        if not value:
            raise InputError(f"{where}: has no {name}", _HINT)
    file = values.get("file", "")
    name = values.get("id") or f"q{number}"
    asked = SuiteQuestion(name, values["question"], answers, values.get("kind") or KIND)
    return _Row(document(folder, file, where) if file else "", asked)


def _documents(folder: Path) -> list[str]:
    """All visible files below the folder but the questions, page-2 before page-10."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    visible = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    names = [path.as_posix() for path in visible if path != Path(QUESTIONS_FILE)]
    if not names:
        raise InputError(f"{folder}: holds no document beside {QUESTIONS_FILE}", "Put the documents there.")
    return sorted(names, key=_natural)


def _natural(name: str) -> list[str | int]:
    pieces: list[str | int] = [*re.split(r"(\d+)", name)]
    pieces[1::2] = [int(piece) for piece in pieces[1::2]]
    return pieces
