"""Merge nothing: what is evicted is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flowmm.context import LayerCache
from flowmm.merges.selection import Selection, take


@dataclass(frozen=True)
class Evict:
    """The kept slots as they are."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, selection: Selection) -> tuple[LayerCache, int]:
        """The kept slots; none was merged."""
        return take(selection.layer, selection.kept), 0
