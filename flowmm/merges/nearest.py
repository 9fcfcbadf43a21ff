"""Merge every evicted slot into its nearest kept key (LOOK-M, MEDA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flowmm.context import LayerCache
from flowmm.merges.matching import free_pivots, matches
from flowmm.merges.means import AveragesKeys, Means
from flowmm.merges.selection import Selection, take


@dataclass(frozen=True)
class Mean(AveragesKeys):
    """``(c + sum s) / (m + 1)`` of the pivot c and the m slots s nearest to it by cosine of keys (MEDA, 2502.17599).

    Keys and values alike, keys after the rotary embedding unless ``unrotated``, whatever the modality; protected slots
    are no pivots.
    """

    towards: ClassVar[float] = 1.0

    def __call__(self, selection: Selection) -> tuple[LayerCache, int]:
        """The kept slots, some of them merged, and how many slots were merged into them."""
        rotation = self.rotation(selection)
        means = Means(take(selection.layer, selection.kept), rotation=rotation)
        for match in matches(selection, free_pivots(selection), rotation):
            means.add(selection.layer, match.slot, match.pivot, match.found.float())
        return means.layer(towards=self.towards), means.joined


@dataclass(frozen=True)
class Pivotal(Mean):
    """``(c + sum (s + c) / 2) / (m + 1)``: half way to the mean (LOOK-M, arXiv 2406.18139, pivotal merging)."""

    towards: ClassVar[float] = 0.5
