"""Open a suite of any format we know. A format is one file and one line in ``FORMATS``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from flowmm.bench import documents, milebench
from flowmm.bench.suite import SUITE_FILE, Suite, checked, read_suite
from flowmm.errors import InputError


class Format(Protocol):
    """What the module of a format offers."""

    LOOKS_FOR: str  # what a folder of this format holds, as an error calls it

    def recognises(self, folder: Path) -> bool:
        """Whether the folder holds that, judged by names alone."""

    def load(self, folder: Path) -> Suite:
        """The suite. Raises ``InputError`` for what is wrong with it, ``OSError`` for what cannot be read."""


class _Native:
    LOOKS_FOR = SUITE_FILE

    def recognises(self, folder: Path) -> bool:
        return (folder / SUITE_FILE).is_file()

    def load(self, folder: Path) -> Suite:
        return read_suite(folder)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "native": _Native(),
        "milebench": milebench,
        "documents": documents,
    }
)


def open_suite(path: Path) -> Suite:
    """The suite in a folder, of whichever format the names of its files tell.

    Raises:
        InputError: no folder, of no format or of several, or damaged.
    """
    try:
        return checked(_format_of(path).load(path))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{error.filename or path}: cannot be read: {reason}", "Check that it is there.") from None


def _format_of(path: Path) -> Format:
    if not path.is_dir():
        raise InputError(f"{path}: is no folder", "Name the folder of a suite.")
    known = {name: format_ for name, format_ in FORMATS.items() if format_.recognises(path)}
    if not known:
        looked_for = ", ".join(format_.LOOKS_FOR for format_ in FORMATS.values())
        raise InputError(f"{path}: is no suite; looked for {looked_for}", "docs/suites-of-others.md shows each format.")
    if len(known) > 1:
        found = " and ".join(format_.LOOKS_FOR for format_ in known.values())
        raise InputError(f"{path}: holds {found}", "Leave one of them in the folder.")
    (format_,) = known.values()
    return format_
