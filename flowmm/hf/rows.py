"""Rows of different lengths as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def padded_rows(rows: Sequence[Sequence[int]], *, left: bool = False) -> tuple[Tensor, Tensor]:
    """``[B, n]`` int64 token ids, padded with zeros on the right or the left, and ``[B, n]`` bool which are real."""
    longest = max(map(len, rows))
    token_ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    real = torch.zeros(len(rows), longest, dtype=torch.bool)
    for ids, mask, row in zip(token_ids, real, rows, strict=True):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[place], mask[place] = torch.tensor(row, dtype=torch.int64), True
    return token_ids, real
