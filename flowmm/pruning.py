"""Which context files of a folder go when it holds too many bytes, and their removal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flowmm.listing import Identity, ListedFile, Listing, in_order


@dataclass(frozen=True)
class PrunePlan:
    """What would go and what would stay, both oldest first."""

    max_bytes: int
    delete: tuple[ListedFile, ...]
    keep: tuple[ListedFile, ...]

    @property
    def bytes_deleted(self) -> int:
        """Of what would go."""
        return sum(file.num_bytes for file in self.delete)

    @property
    def bytes_kept(self) -> int:
        """Of what would stay."""
        return sum(file.num_bytes for file in self.keep)

    @property
    def fits(self) -> bool:
        """Whether what would stay is small enough; too few files may be old enough to go."""
        return self.bytes_kept <= self.max_bytes

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "max_bytes": self.max_bytes,
            "delete": [file.as_dict() for file in self.delete],
            "keep": [file.as_dict() for file in self.keep],
            "bytes_delete": self.bytes_deleted,
            "bytes_keep": self.bytes_kept,
            "fits": self.fits,
        }


def plan_prune(
    listing: Listing, max_bytes: int, *, older_than_seconds: float | None = None, now: float = 0.0
) -> PrunePlan:
    """Choose files, the longest unchanged first, until those that are left fit.

    Args:
        listing: what there is; damaged files and those of a newer version go by their age like the others.
        max_bytes: how much may be left.
        older_than_seconds: files that changed later than this before ``now`` stay, even if the rest does not fit.
        now: seconds since 1970.
    """
    left, delete, keep = listing.num_bytes, [], []
    for file in reversed(in_order(listing.files, "age")):
        old_enough = older_than_seconds is None or now - file.modified > older_than_seconds
        if left > max_bytes and old_enough:
            delete.append(file)
            left -= file.num_bytes
        else:
            keep.append(file)
    return PrunePlan(max_bytes, tuple(delete), tuple(keep))


def prune(plan: PrunePlan) -> Iterator[tuple[ListedFile, str | None]]:
    """Delete the files of a plan, each with None, or with the reason why it stays.

    A file that is not the one any more which was listed (replaced, or changed) stays.
    """
    for file in plan.delete:
        try:
            if Identity.of(os.lstat(file.path)) != file.identity:
                yield file, "it changed meanwhile"
                continue
            os.unlink(file.path)
        except OSError as error:
            yield file, error.strerror or type(error).__name__
        else:
            yield file, None
