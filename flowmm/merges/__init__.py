"""Merging rules: what becomes of the evicted slots. A rule is a file here and a line in ``MERGES``."""

from __future__ import annotations

from typing import Protocol

from flowmm.context import LayerCache
from flowmm.merges.d2o import D2O
from flowmm.merges.evict import Evict
from flowmm.merges.flow_guided import FlowGuided
from flowmm.merges.gaussian import Gaussian
from flowmm.merges.gist import Gist
from flowmm.merges.mass_fold import MassFold
from flowmm.merges.nearest import Mean, Pivotal
from flowmm.merges.selection import Selection


class Merge(Protocol):
    """A merging rule; its fields are its hyper-parameters."""

    @property
    def needs(self) -> frozenset[str]:
        """Of "flow": then ``Selection.strategy`` is set wherever there are two modalities; "rotation"."""
        ...

    def __call__(self, selection: Selection) -> tuple[LayerCache, int]:
        """Make the small layer; protected slots come through verbatim.

        Returns:
            As many slots as were selected, in the order of the tokens, and how many evicted slots went into one of
            them.
        """
        ...


MERGES: dict[str, type[Merge]] = {
    "d2o": D2O,
    "evict": Evict,
    "flow_guided": FlowGuided,
    "gaussian": Gaussian,
    "gist": Gist,
    "mass_fold": MassFold,
    "mean": Mean,
    "pivotal": Pivotal,
}
