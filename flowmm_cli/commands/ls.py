"""`flowmm ls`: the context files in a folder; reads their headers only, without torch."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.output import human_age, human_bytes, percent

if TYPE_CHECKING:
    from flowmm import ListedFile, Listing

Sort = Annotated[
    Literal["age", "bytes", "name"], typer.Option("--sort", help="Youngest, largest, or first name on top.")
]
_COLUMNS = ("file", "model", "sources", "tokens", "keep", "bytes", "age")
_FLEXIBLE = {0: 16, 1: 10, 2: 10}  # columns that are cut on a terminal, and how short they may become


def ls(folder: o.Folder, recursive: o.Recursive = False, sort: Sort = "age", json: o.Json = False) -> None:
    """List the context files in a folder.

    Reads headers only; `flowmm verify` checks the rest of a file. Files of other programs and links are passed over.
    Age is that of the last change. On a terminal long names are cut to its width.
    """
    from flowmm import in_order, list_files

    listing = list_files(folder, recursive=recursive)
    files = in_order(listing.files, sort)
    now = time.time()
    if json:
        found = {**listing.as_dict(), "files": [{**f.as_dict(), "age_seconds": now - f.modified} for f in files]}
        output.put_json(found)
        return
    for line in table(files, folder, now, output.width()):
        output.put(line)
    output.put(f"{count(len(files))}, {human_bytes(listing.num_bytes)}; other files passed over: {listing.passed_over}")
    warn(listing)


def count(number: int) -> str:
    """``1 context file``, ``2 context files``."""
    return f"{number} context file{'' if number == 1 else 's'}"


def warn(listing: "Listing") -> None:
    """Say on stderr what could not be looked at."""
    for path in listing.unreadable:
        output.say(f"{path}: cannot be read; it is not in the list")


def table(files: Sequence["ListedFile"], folder: Path, now: float, width: int = output.NO_LIMIT) -> list[str]:
    """The lines of a table of files, in their order, at most ``width`` wide, and what is wrong with some of them."""
    if not files:
        return []
    rows = [_row(file, folder, now) for file in files]
    lines = output.table_lines(_COLUMNS, _fitted(rows, width), right=(3, 4, 5, 6))
    return [*lines, "", *(f"{row[0]}: {f.problem}" for row, f in zip(rows, files, strict=True) if f.problem)]


def _row(file: "ListedFile", folder: Path, now: float) -> tuple[str, ...]:
    header, age = file.header, human_age(now - file.modified)
    path = os.path.relpath(file.path, folder)
    if header is None:
        what = "(newer version)" if file.state == "newer" else "(damaged)"
        return path, what, "-", "-", "-", human_bytes(file.num_bytes), age
    names = file.sources
    sources = names[0] + (f" +{len(names) - 1}" if names[1:] else "") if names else "-"
    facts = (header.provenance.model.id, sources, str(header.num_tokens), percent(header.keep))
    return path, *facts, human_bytes(file.num_bytes), age


def _fitted(rows: Sequence[tuple[str, ...]], width: int) -> list[tuple[str, ...]]:
    """The rows, their names cut in the middle where the table would be wider; the widest column gives way first."""
    widths = [max(map(len, cells)) for cells in zip(_COLUMNS, *rows, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    while excess > 0 and any(widths[i] > least for i, least in _FLEXIBLE.items()):
        widest = max(_FLEXIBLE, key=lambda i: widths[i] - _FLEXIBLE[i])
        widths[widest] -= 1
        excess -= 1
    return [tuple(cut(cell, size) for cell, size in zip(row, widths, strict=True)) for row in rows]


def cut(text: str, size: int) -> str:
    """At most ``size`` characters: the beginning and the end of what is longer."""
    if len(text) <= size:
        return text
    end = (size - 1) // 2
    return f"{text[: size - 1 - end]}…{text[len(text) - end :]}"
