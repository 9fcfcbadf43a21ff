"""Ways to damage a context file, and things that are none: each writes one to a path, drawn at random."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from flowmm.bench.forgeries import FORGERIES, forged, signed

Spans = Mapping[str, tuple[int, int]]  # first byte and the one behind the last of each tensor


@dataclass(frozen=True)
class GoodFile:
    """A whole file: its bytes and where they are."""

    path: Path
    data: bytes
    tensors: Spans

    @property
    def head(self) -> int:
        """Bytes in front of the tensors."""
        return 8 + int.from_bytes(self.data[:8], "little")


@dataclass(frozen=True)
class Mutation:
    """``make`` writes to a path. ``may_load``: the file may say the same, or something that no checksum can tell."""

    make: Callable[[GoodFile, Random, Path], Any]
    may_load: bool = False
    while_read: bool = False  # the file is whole at first, and its bytes change while it is read


def cut(at: int, good: GoodFile, draw: Random, path: Path) -> None:
    """Cut off after ``at`` bytes."""
    path.write_bytes(good.data[:at])


def truncated(good: GoodFile, draw: Random, path: Path) -> None:
    """Cut off anywhere."""
    cut(draw.randrange(len(good.data)), good, draw, path)


def flipped_in_header(good: GoodFile, draw: Random, path: Path) -> None:
    """A bit of the header."""
    path.write_bytes(_flipped(good.data, draw.randrange(good.head), draw))


def flipped_in_tensor(good: GoodFile, draw: Random, path: Path) -> None:
    """A bit of any tensor, small and large ones alike."""
    start, end = draw.choice([span for span in good.tensors.values() if span[1] > span[0]])
    path.write_bytes(_flipped(good.data, draw.randrange(start, end), draw))


def overwritten(good: GoodFile, draw: Random, path: Path) -> None:
    """A stretch of zeros or of noise, as a disk or a network leaves it."""
    size = draw.choice((1, 8, 64, 512, 4096))
    start = draw.randrange(len(good.data))
    noise = bytes(size) if draw.random() < 0.5 else draw.randbytes(size)
    data = good.data[:start] + noise[: len(good.data) - start] + good.data[start + size :]
    path.write_bytes(data if data != good.data else _flipped(data, start, draw))


def moved(good: GoodFile, draw: Random, path: Path) -> None:
    """Bytes that come twice, are missing, or too many at the end."""
    at, size = draw.randrange(len(good.data)), draw.choice((1, 2, 8, 100))
    kinds = (
        good.data[:at] + good.data[max(0, at - size) :],
        good.data[:at] + good.data[at + size :],
        good.data + draw.randbytes(size),
        good.data + good.data,
    )
    data = draw.choice(kinds)
    path.write_bytes(data if data != good.data else data + b"\0")


def swapped(good: GoodFile, draw: Random, path: Path) -> None:
    """Bytes of one tensor where those of another belong."""
    (start, end), (other, other_end) = draw.sample([s for s in good.tensors.values() if s[1] - s[0] > 7], 2)
    size = min(end - start, other_end - other)
    data = bytearray(good.data)
    data[start : start + size] = good.data[other : other + size]
    path.write_bytes(data if data != good.data else _flipped(good.data, start, draw))


def header_length(good: GoodFile, draw: Random, path: Path) -> None:
    """Another length in the first eight bytes."""
    right = good.head - 8
    length = draw.choice((0, 1, right - 1, right + 1, right + 8, len(good.data), 2**26, 2**26 + 1, 2**63, 2**64 - 1))
    path.write_bytes(length.to_bytes(8, "little") + good.data[8:])


def twice(good: GoodFile, draw: Random, path: Path) -> None:
    """A key that comes twice, in the table or in the document."""
    text = good.data[8 : good.head].decode().rstrip()
    old, new = draw.choice(
        (
            ('{\\"provenance\\"', '{\\"num_tokens\\":7,\\"provenance\\"'),
            ('{"__metadata__"', '{"modality":{},"__metadata__"'),
            ('"format":"', '"format":"other","format":"'),
        )
    )
    path.write_bytes(signed(text.replace(old, new, 1), good.data[good.head :]))


def deep(good: GoodFile, draw: Random, path: Path) -> None:
    """JSON nested beyond measure, as the header or in the document."""
    levels = draw.choice((50, 1_000, 20_000, 200_000))
    opening, closing = draw.choice((("[", "]"), ('{"a":', "}")))
    text = opening * levels + "1" + closing * levels
    if draw.random() < 0.5:
        quoted = text.replace('"', '\\"')
        text = f'{{"__metadata__":{{"checksum":"{"0" * 32}","format":"flowmm-kv","format_version":"1",'
        text += f'"document":"{quoted}"}}}}'
    path.write_bytes(signed(text, good.data[good.head :]))


def forgery(name: str, good: GoodFile, draw: Random, path: Path) -> None:
    """A lie in the header."""
    path.write_bytes(forged(good.data, FORGERIES[name], draw))


def foreign(good: GoodFile, draw: Random, path: Path) -> None:
    """A file of another kind, or beginning like one."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ctx.kv", good.data)
    tail = draw.randbytes(draw.randrange(2000))
    whole = (b"", archive.getvalue(), pickle.dumps({"keys": list(tail)}), tail)
    first = (b"\x80\x05", b"%PDF-1.7", b"\x89PNG\r\n", b"\xff\xd8\xff", b"<!DOCTYPE html>", b"{}", b"\x1f\x8b")
    path.write_bytes(draw.choice((*whole, *(beginning + tail for beginning in first))))


def no_file(good: GoodFile, draw: Random, path: Path) -> None:
    """Nothing, a folder, a pipe, a device, or a link to one of them or to itself."""
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: None,
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("nowhere"),
        lambda: path.symlink_to(path.name),
        lambda: path.symlink_to(path.parent),
        lambda: path.symlink_to("/dev/zero"),
    )
    draw.choice(kinds)()


def linked(good: GoodFile, draw: Random, path: Path) -> None:
    """A link to the whole file, which is followed."""
    path.symlink_to(good.path)


def unchanged(good: GoodFile, draw: Random, path: Path) -> None:
    """The whole file."""
    path.write_bytes(good.data)


MUTATIONS: dict[str, Mutation] = {
    "truncated": Mutation(truncated),
    "a bit of the header": Mutation(flipped_in_header),
    "a bit of a tensor": Mutation(flipped_in_tensor),
    "a stretch overwritten": Mutation(overwritten),
    "bytes moved": Mutation(moved),
    "tensors swapped": Mutation(swapped),
    "the header's length": Mutation(header_length),
    "a key twice": Mutation(twice),
    "deep JSON": Mutation(deep),
    **{name: Mutation(partial(forgery, name), may_load=True) for name in FORGERIES},
    "another kind of file": Mutation(foreign),
    "no regular file": Mutation(no_file),
    "a link": Mutation(linked, may_load=True),
    "changed while it is read": Mutation(unchanged, may_load=True, while_read=True),
}


def _flipped(data: bytes, at: int, draw: Random) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)
