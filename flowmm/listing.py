"""Find the context files in a folder by their headers, without torch."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flowmm.container import open_regular
from flowmm.errors import CorruptFileError, InputError
from flowmm.header import FORMAT, FORMAT_VERSION, MAX_HEADER_BYTES, Header, read_header
from flowmm.temporary import is_temporary

_MARK = re.compile(rb'"format"\s*:\s*"' + FORMAT.encode() + rb'"')
_VERSION = re.compile(rb'"format_version"\s*:\s*"(\d{1,6})"')
_LOOKED_AT = 1024  # bytes at the beginning; the format and its version come first in the header

State = Literal["whole", "damaged", "newer"]


@dataclass(frozen=True)
class Identity:
    """Which file it was that a scan saw: another one under its name, or another content, differs in this."""

    device: int
    inode: int
    modified_ns: int
    num_bytes: int

    @classmethod
    def of(cls, info: os.stat_result) -> Identity:
        """From what the system says of a file."""
        return cls(info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size)


@dataclass(frozen=True)
class ListedFile:
    """A file that flowmm wrote. ``header`` is None unless it is whole as far as its header tells."""

    path: str
    identity: Identity
    state: State
    header: Header | None = None
    problem: str | None = None  # in a line, of a file that is not whole

    @property
    def num_bytes(self) -> int:
        """What it takes on the disk, as its length says."""
        return self.identity.num_bytes

    @property
    def modified(self) -> float:
        """Seconds since 1970 of the last change."""
        return self.identity.modified_ns / 1e9

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the documents, each once, in their order."""
        spans = () if self.header is None else self.header.provenance.sources
        return tuple(dict.fromkeys(span.source.name for span in spans))

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        header = self.header
        return {
            "file": self.path,
            "state": self.state,
            "problem": self.problem,
            "model": None if header is None else header.provenance.model.id,
            "sources": list(self.sources),
            "tokens": None if header is None else header.num_tokens,
            "keep": None if header is None else header.keep,
            "bytes": self.num_bytes,
            "modified_unix_seconds": self.modified,
        }


@dataclass(frozen=True)
class Listing:
    """What is in a folder: the files of flowmm, how many others there are, and what could not be looked at."""

    folder: str
    files: tuple[ListedFile, ...]
    passed_over: int
    unreadable: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Of all files of flowmm together."""
        return sum(file.num_bytes for file in self.files)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "folder": self.folder,
            "files": [file.as_dict() for file in self.files],
            "bytes": self.num_bytes,
            "passed_over": self.passed_over,
            "unreadable": list(self.unreadable),
        }


def list_files(folder: str | os.PathLike[str], *, recursive: bool = False) -> Listing:
    """Look at every file of a folder; a damaged one or one of a newer version is listed as that.

    Args:
        folder: where to look. Links in it are passed over, so that nothing outside of it is seen.
        recursive: look into the folders in it too.

    Returns:
        The files in the order of their paths. A file is flowmm's when its beginning says so, whatever it is called;
        one that is being written has no name yet and is passed over.

    Raises:
        InputError: no such folder, or it cannot be read.
    """
    name = os.fspath(folder)
    if not os.path.isdir(name):
        what = "is not a folder" if os.path.exists(name) else "no such folder"
        raise InputError(f"{name}: {what}", "Name a folder with context files.")
    files: list[ListedFile] = []
    unreadable: list[str] = []
    passed_over = 0
    for path, info in _entries(name, recursive, unreadable):
        try:
            listed = _look(path, info) if stat.S_ISREG(info.st_mode) and not is_temporary(path) else None
        except (OSError, InputError):
            unreadable.append(path)
            continue
        if listed is None:
            passed_over += 1
        else:
            files.append(listed)
    return Listing(name, tuple(sorted(files, key=lambda file: file.path)), passed_over, tuple(sorted(unreadable)))


def in_order(files: Sequence[ListedFile], by: Literal["age", "bytes", "name"]) -> list[ListedFile]:
    """The files, youngest, largest, or first of the alphabet on top."""
    if by == "name":
        return sorted(files, key=lambda file: file.path)
    return sorted(files, key=lambda file: (-(file.modified if by == "age" else file.num_bytes), file.path))


def _entries(folder: str, recursive: bool, unreadable: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Path of everything that is no folder, and what the system says of it; links are not followed."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            if here == folder:
                raise InputError(f"{folder}: cannot be read: {error.strerror}", "Check its permissions.") from error
            unreadable.append(here)
            continue
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:  # gone since
                continue
            if not stat.S_ISDIR(info.st_mode):
                yield entry.path, info
            elif recursive:
                waiting.append(entry.path)


def _look(path: str, info: os.stat_result) -> ListedFile | None:
    """The file, or None if it is not flowmm's."""
    with open_regular(path) as file:
        beginning = file.read(_LOOKED_AT)
    length = int.from_bytes(beginning[:8], "little")
    if length > MAX_HEADER_BYTES or beginning[8:9] != b"{" or not _MARK.search(beginning):
        return None
    identity = Identity.of(info)
    try:
        return ListedFile(path, identity, "whole", read_header(path))
    except CorruptFileError as error:
        version = _VERSION.search(beginning)
        newer = version is not None and int(version[1]) > FORMAT_VERSION
        problem = error.what.removeprefix(f"{path}: ")
        return ListedFile(path, identity, "newer" if newer else "damaged", problem=problem)
