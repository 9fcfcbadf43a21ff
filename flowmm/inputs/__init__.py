"""Documents in, parts out. A kind of document is one file here and one line in ``LOADERS``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol

from flowmm.errors import UsageError
from flowmm.inputs import image, office, pdf, text, video
from flowmm.inputs.file import STDIN, File, check, open_file, read_stdin
from flowmm.inputs.options import ReadOptions
from flowmm.records import Part

__all__ = ["LOADERS", "Loader", "ReadOptions", "read"]


class Loader(Protocol):
    """What the module of a kind offers."""

    SUFFIXES: frozenset[str]  # lower case; a file named so must be of a binary kind

    def recognises(self, file: File) -> bool:
        """Whether the bytes are of this kind; the name may settle what the bytes leave open."""

    def load(self, file: File, options: ReadOptions) -> list[Part]:
        """The parts, in order. Raises ``InputError`` for whatever is wrong with the file."""


# The first that recognises a file reads it. Text recognises everything, so it comes last.
LOADERS: Mapping[str, Loader] = MappingProxyType(
    {
        "pdf": pdf,
        "image": image,
        "office": office,
        "video": video,
        "text": text,
    }
)

_DEFAULTS = ReadOptions()


def read(
    paths: Sequence[str | os.PathLike[str]],
    options: ReadOptions = _DEFAULTS,
    stdin: BinaryIO | None = None,
    on_file: Callable[[str, int, int], None] | None = None,
) -> list[Part]:
    """Read documents into parts; the order of ``paths`` is the order of the parts.

    Args:
        paths: files, told apart by content; ``-`` is text on standard input.
        options: how to read them.
        stdin: what ``-`` reads; None is the standard input of the process.
        on_file: called as ``on_file(name, done, total)`` before each document with the number of documents already
            read, and once more at the end with ``done == total``.

    Raises:
        UsageError: no document at all, or ``-`` more than once.
        InputError: a document that is missing, unreadable, or not what it claims to be.
    """
    names = [os.fspath(path) for path in paths]
    if not names:
        raise UsageError("no document was given", "Name at least one file, or '-' for text on stdin.")
    if names.count(STDIN) > 1:
        raise UsageError(f"'-' was given {names.count(STDIN)} times", "Standard input can be read only once.")
    for name in names:
        if name != STDIN:
            check(name)
    parts: list[Part] = []
    for done, name in enumerate(names):
        if on_file:
            on_file(Path(name).name, done, len(names))
        parts += _read_stdin(stdin, options) if name == STDIN else _read_file(name, options)
    if on_file:
        on_file(Path(names[-1]).name, len(names), len(names))
    return parts


def kind_of(file: File) -> str:
    """The kind that the bytes are of; ``text`` when no binary kind knows them."""
    return next(kind for kind, loader in LOADERS.items() if loader.recognises(file))


def _read_file(path: str, options: ReadOptions) -> list[Part]:
    file = open_file(path)
    kind = kind_of(file)
    if kind == "text":
        for claimed, loader in LOADERS.items():
            if file.suffix in loader.SUFFIXES:
                raise file.error(
                    f"is named {file.suffix} but holds no {claimed} data (it begins with {file.data[:8]!r})",
                    "Rename it if it is text, otherwise make it again: it may be damaged.",
                )
    return LOADERS[kind].load(file, options)


def _read_stdin(stream: BinaryIO | None, options: ReadOptions) -> list[Part]:
    file = read_stdin(stream)
    kind = kind_of(file)
    if kind != "text":
        raise file.error(f"holds {kind} data, but '-' reads text", "Save it to a file and name the file.")
    return text.load(file, options)
