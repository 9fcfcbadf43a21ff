"""A document's bytes, read once: what can be wrong before its kind matters, and its identity."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from flowmm.errors import InputError
from flowmm.records import Source

MAX_BYTES = 4 * 2**30  # a whole file is held in memory while it is read
STDIN = "-"


@dataclass(frozen=True)
class File:
    """A document that was opened.

    Args:
        path: as the user wrote it, for messages.
        data: all of its bytes.
    """

    path: str
    data: bytes = field(repr=False)

    @cached_property
    def name(self) -> str:
        """Without the folder, and always UTF-8."""
        # A name that is not UTF-8 reaches Python as surrogates, which no JSON header can hold.
        return Path(self.path).name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    @cached_property
    def suffix(self) -> str:
        """Lower case, with its dot."""
        return Path(self.path).suffix.lower()

    @cached_property
    def sha256(self) -> str:
        """Hex digest of all bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def brands(self) -> frozenset[bytes]:
        """The brands of an ISO media file (MP4, HEIC, AVIF, ...); empty for any other file."""
        if self.data[4:8] != b"ftyp":
            return frozenset()
        end = min(int.from_bytes(self.data[:4], "big"), 256)
        return frozenset([self.data[8:12], *(self.data[at : at + 4] for at in range(16, end, 4))])

    def source(self, kind: str, page: int | None = None) -> Source:
        """What a part made from this file carries."""
        return Source(self.name, self.sha256, kind, page)

    def error(self, what: str, hint: str) -> InputError:
        """An error about this file, for the caller to raise."""
        return InputError(f"{self.path}: {what}", hint)


def check(path: str) -> None:
    """Find what can be told without reading: a cheap look at all documents before the first one is read.

    Raises:
        InputError: missing, no regular file, empty, too large, or out of reach.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file", "Check the path; documents are read from local files.") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path}: is a directory, expected a file", "Name the files in it, for example with a *.")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: is a pipe, socket or device, expected a file", "Text can be piped in with '-'.")
    if found.st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes)", "Leave it out, or make it again.")
    if found.st_size > MAX_BYTES:
        raise InputError(
            f"{path}: has {found.st_size} bytes, more than the {MAX_BYTES} that are read", "Split or shrink it."
        )


def open_file(path: str) -> File:
    """Read all bytes of ``path``.

    Raises:
        InputError: as ``check``, or the bytes cannot be read.
    """
    check(path)
    try:
        return File(path, Path(path).read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error


def read_stdin(stream: BinaryIO | None) -> File:
    """Read ``stream``, or the process's standard input when None, to its end.

    Raises:
        InputError: nothing was there.
    """
    if stream is None and sys.stdin is not None:
        stream = sys.stdin.buffer
    data = b"" if stream is None else stream.read()
    if not data:
        raise InputError("stdin: is empty", "Pipe text into the command, or leave out the '-'.")
    return File("stdin", data)


def _unreadable(path: str, error: OSError | ValueError) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"{path}: cannot be read: {reason}", "Check the path and its permissions.")
