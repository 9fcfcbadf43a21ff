"""The safetensors container read and hashed without torch, numpy or the safetensors library."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from flowmm.errors import InputError
from flowmm.typed_json import MalformedError, canonical, decode, parse

MAX_HEADER_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20  # stays in the processor's cache between reading and hashing

# First bytes of what people hand over by mistake.
_MAGIC = {
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"<": "HTML or XML",
    b"version https://git-lfs": "a Git LFS pointer; the file itself was not downloaded",
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a container: bytes ``[start, end)`` counted from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Container:
    """What stands in front of the tensors. ``head`` is the file up to the first tensor, length prefix included."""

    head: bytes
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]
    file_bytes: int


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, ...]


@dataclass(frozen=True)
class _Metadata:
    items: Mapping[str, str]


def read_container(
    path: str | os.PathLike[str], max_header_bytes: int = MAX_HEADER_BYTES, max_tensors: int | None = None
) -> Container:
    """Read and check a safetensors header; the tensors are not touched.

    Args:
        path: the file.
        max_header_bytes: a longer header is refused before it is read.
        max_tensors: more of them are refused before they are looked at; None: any number is fine.

    Raises:
        InputError: when the file is missing, unreadable or no regular file.
        MalformedError: when it is no safetensors file, truncated, or its tensors do not fill it exactly.
    """
    with open_regular(path) as file:
        try:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if size < 8 or length > min(size - 8, max_header_bytes):
                raise MalformedError(_what_it_is(prefix + file.read(32), size, length, max_header_bytes))
            text = file.read(length)
        except OSError as error:
            raise _unreadable(path, error) from error
    if len(text) < length:
        raise MalformedError("truncated while it was read")
    table = parse(text, "header")
    if type(table) is not dict:
        raise MalformedError("header: expected a table of tensors")
    metadata = decode(_Metadata, {"items": table.pop("__metadata__", {})}, "header").items
    if max_tensors is not None and len(table) > max_tensors:
        raise MalformedError(f"header: {len(table)} tensors, at most {max_tensors} are expected")
    tensors = {name: _entry(name, value, 8 + length) for name, value in table.items()}
    _check_filled(tensors, 8 + length, size)
    return Container(prefix + text, metadata, tensors, size)


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file, or one at a URL, for reading; whatever else and cannot be opened is an InputError."""
    if isinstance(path, str) and "://" in path:
        from flowmm.remote import is_url, open_url  # local files do without

        if is_url(path):
            return open_url(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):  # opening a FIFO would wait for ever
            return Path(path).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unreadable(path, error) from error
    kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
    raise InputError(f"{os.fspath(path)}: is {kind}, expected a file", "Name a file.")


def checksum(file: BufferedReader, start: int, end: int) -> str:
    """xxh3_128 (hex) of the bytes ``[start, end)``. Raises MalformedError if the file ends before."""
    digest, buffer = xxh3_128(), memoryview(bytearray(min(_CHUNK_BYTES, end - start)))
    file.seek(start)
    left = end - start
    while left:
        count = file.readinto(buffer[:left])
        if not count:
            raise MalformedError("truncated while it was read")
        digest.update(buffer[:count])
        left -= count
    return digest.hexdigest()


def pack_head(metadata: Mapping[str, str], specs: Mapping[str, tuple[str, tuple[int, ...], int]]) -> bytes:
    """The bytes in front of the tensors, for tensors that follow each other in the order of ``specs``.

    Args:
        metadata: text by name.
        specs: per tensor its safetensors dtype, its shape, and its size in bytes.

    Returns:
        Length prefix and JSON, padded with spaces to a multiple of 8 bytes.
    """
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape, num_bytes) in specs.items():
        start, end = end, end + num_bytes
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = canonical(table)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _entry(name: str, value: Any, data_start: int) -> TensorEntry:
    entry = decode(_Entry, value, f"header.{name}")
    if min(entry.shape, default=0) < 0:
        raise MalformedError(f"header.{name}: negative size in shape {list(entry.shape)}")
    if len(entry.data_offsets) != 2 or not 0 <= entry.data_offsets[0] <= entry.data_offsets[1]:
        raise MalformedError(f"header.{name}: {list(entry.data_offsets)} are no offsets")
    start, end = entry.data_offsets
    return TensorEntry(entry.dtype, entry.shape, data_start + start, data_start + end)


def _check_filled(tensors: Mapping[str, TensorEntry], position: int, size: int) -> None:
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            raise MalformedError(f"header.{name}: starts at byte {entry.start}, expected {position}")
        position = entry.end
    if position > size:
        raise MalformedError(f"truncated: {size} bytes, expected {position}")
    if position < size:
        raise MalformedError(f"{size - position} bytes too many at the end: {size}, expected {position}")


def _what_it_is(first: bytes, size: int, length: int, most: int) -> str:
    if size == 0:
        return "the file is empty"
    for magic, name in _MAGIC.items():
        if first.startswith(magic):
            return f"is {name}, expected a safetensors file"
    if size < 8 or length <= most:
        return f"truncated: {size} bytes, expected more than {length + 8 if size >= 8 else 8}"
    return f"no safetensors file: its header would be {length} bytes, at most {most} are allowed"


def _unreadable(path: str | os.PathLike[str], error: Exception) -> InputError:
    reason = "no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", None) or str(error)
    return InputError(f"{os.fspath(path)!s}: cannot be read: {reason}", "Check the path and its permissions.")
