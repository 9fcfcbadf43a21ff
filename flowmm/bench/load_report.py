"""What `flowmm bench load` found, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LoadCase:
    """One file; seconds are medians of repeats, in each of which everything is timed in turn."""

    kv_dtype: str
    file_bytes: int
    unpacked_bytes: int  # keys and values in memory, padding included
    load_seconds: float  # read, every checksum verified, unpacked
    read_seconds: float  # safetensors' load_file, and each tensor copied, because load_file only maps the file
    map_seconds: float  # load_file alone
    unpack_seconds: float  # of tensors in memory
    copy_seconds: float  # of what was unpacked

    @property
    def load_over_read(self) -> float:
        """What loading takes over reading the same bytes unchecked."""
        return self.load_seconds / self.read_seconds

    @property
    def unpack_over_copy(self) -> float:
        """What unpacking takes over copying what it gives."""
        return self.unpack_seconds / self.copy_seconds

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "load_over_read": self.load_over_read, "unpack_over_copy": self.unpack_over_copy}


@dataclass(frozen=True)
class LoadReport:
    """A file of the precision that was asked for, and one of 16 bits."""

    threads: int
    repeat: int
    packed: LoadCase
    plain: LoadCase

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        found = {"threads": self.threads, "repeat": self.repeat}
        return {**found, "packed": self.packed.as_dict(), "plain": self.plain.as_dict()}
