"""What `flowmm bench mutate` found, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """A file that did not end as it should; the files and the seed of the run, and ``number``, make it again."""

    number: int
    kind: str
    how: str


@dataclass(frozen=True)
class Kind:
    """The files of one kind."""

    files: int = 0
    refused: int = 0
    longest_seconds: float = 0.0

    def with_one(self, refused: bool, seconds: float) -> Kind:
        """One file more."""
        return Kind(self.files + 1, self.refused + refused, max(self.longest_seconds, seconds))


@dataclass(frozen=True)
class MutateReport:
    """What came of all files. Good: no ``undocumented`` and no ``wrong``."""

    files: int
    by_kind: dict[str, Kind]
    refused: int  # with a documented error of two lines
    harmless: int  # loaded, every number as it was: a link, a change beside the tensors with a checksum that fits
    undocumented: tuple[Finding, ...]  # other errors, crashes, readers that did not come back
    wrong: tuple[Finding, ...]  # loaded as something else, or loaded although bytes differ
    memory_before_bytes: int | None  # of the reading process
    peak_memory_bytes: int | None
    seed: int

    @property
    def longest_seconds(self) -> float:
        """Of reading one file: its header, its checksums, its tensors."""
        return max((kind.longest_seconds for kind in self.by_kind.values()), default=0.0)

    @property
    def good(self) -> bool:
        """Whether every file was refused as documented or loaded as it was."""
        return not self.undocumented and not self.wrong

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        findings = {name: [vars(one) for one in getattr(self, name)] for name in ("undocumented", "wrong")}
        kinds = {name: vars(kind) for name, kind in self.by_kind.items()}
        longest = {"longest_seconds": self.longest_seconds, "good": self.good}
        return {**vars(self), "by_kind": kinds, **findings, **longest}
