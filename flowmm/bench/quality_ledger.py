"""The rows of a quality run on disk: a JSON line each, appended as they come, so that a run goes on where it ended."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from flowmm.bench.quality_rows import Key, Row, RunHeader, Settings
from flowmm.errors import CorruptFileError, ResourceError, UsageError
from flowmm.records import ModelIdentity
from flowmm.typed_json import MalformedError, canonical, decode, encode, parse

ROWS_FILE = "rows.jsonl"

_T = TypeVar("_T", RunHeader, Row)


class Ledger:
    """All rows of one run, in memory and on disk."""

    def __init__(self, path: Path, header: RunHeader, rows: list[Row]) -> None:
        self.header, self.rows = header, rows
        self._path = path
        self._done = {(row.context, row.key) for row in rows}

    @classmethod
    def open(cls, folder: Path, header: RunHeader) -> Ledger:
        """Begin a run in ``folder``, which is made, or go on with the one there; a last line that is torn is cut off.

        Raises:
            UsageError: the run there is another one.
            CorruptFileError: a line is damaged that is not the last.
            ResourceError: the folder cannot be written.
        """
        path = folder / ROWS_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = _whole_lines(path)
            if not lines:
                _append(path, canonical(encode(header)))
                return cls(path, header, [])
            found = _decoded(RunHeader, lines[0], path, 1)
            _check_same(path, found, header)
            return cls(path, header, [_decoded(Row, line, path, i) for i, line in enumerate(lines[1:], start=2)])
        except OSError as error:
            raise _unwritable(path, error) from error

    def has(self, context: str, key: Key) -> bool:
        """Whether this was measured."""
        return (context, key) in self._done

    def add(self, row: Row) -> None:
        """Keep a row; it is on the disk when this returns."""
        try:
            _append(self._path, canonical(encode(row)))
        except OSError as error:
            raise _unwritable(self._path, error) from error
        self.rows.append(row)
        self._done.add((row.context, row.key))

    @property
    def refused(self) -> dict[Key, str]:
        """What could not be measured on some context, and why."""
        return {row.key: row.refused for row in self.rows if row.refused is not None}


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of the file, which is cut behind the last whole one."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.split(b"\n")[:-1]
    if lines and not _readable(lines[-1]):  # a block of the disk that was never written
        whole = whole[: -len(lines.pop()) - 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
            os.fsync(file.fileno())
    return lines


def _readable(line: bytes) -> bool:
    try:
        parse(line, "")
    except MalformedError:
        return False
    return True


def _append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _decoded(kind: type[_T], line: bytes, path: Path, number: int) -> _T:
    where = f"{path}:{number}"
    try:
        return decode(kind, parse(line, where), where)
    except MalformedError as error:
        raise CorruptFileError(str(error), "Take that line out, or begin anew in another folder.") from None


def _check_same(path: Path, found: RunHeader, wanted: RunHeader) -> None:
    pairs = [(one.name, getattr(found, one.name), getattr(wanted, one.name)) for one in fields(RunHeader)[:-1]]
    settings = [
        (one.name, getattr(found.settings, one.name), getattr(wanted.settings, one.name)) for one in fields(Settings)
    ]
    for name, there, asked in [*pairs, *settings]:
        if there != asked:
            what = f"{path}: was begun with {name} {_short(there)}, but {_short(asked)} is asked for"
            raise UsageError(what, "Choose another folder with -o, or delete this one.")


def _short(value: object) -> str:
    text = value.weights[:16] if isinstance(value, ModelIdentity) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _unwritable(path: Path, error: OSError) -> ResourceError:
    reason = error.strerror or type(error).__name__
    return ResourceError(f"{path}: cannot be written: {reason}", "Choose another folder with -o.")
