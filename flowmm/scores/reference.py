"""The last of the recorded queries: what rules that look from the end of the context look through."""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.context import Evidence
from flowmm.errors import UsageError


def last_queries(evidence: Evidence, window: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The queries of the last ``window`` tokens that were read, or of all tokens where there are fewer.

    Returns:
        ``[H_q, W, D]`` and ``[W]``, the index of each one's token.

    Raises:
        UsageError: not all of them were recorded.
    """
    index = evidence.query_index[-window:]
    if index.shape[0] < window and int(index[0]) > 0:
        raise UsageError(
            f"the scoring rule looks through the last {window} queries, but {index.shape[0]} were recorded",
            f"Prefill again with a method whose observe.tail is {window}, or lower the rule's window.",
        )
    return evidence.queries[:, -window:].to(device), index.to(device)
