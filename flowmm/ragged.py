"""Heads of different lengths: one after another in the file, padded to the longest in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


def flat(padded: Tensor, lengths: Sequence[int]) -> Tensor:
    """Leave the padding out.

    Args:
        padded: ``[H, S, ...]``.
        lengths: living slots of each of the H heads.

    Returns:
        ``[sum(lengths), ...]``, heads one after another; a view when there is no padding.
    """
    if min(lengths) == padded.shape[1]:
        return padded.reshape(-1, *padded.shape[2:])
    return torch.cat([head[:length] for head, length in zip(padded, lengths, strict=True)])


def padded(flat: Tensor, lengths: Sequence[int]) -> Tensor:
    """Undo :func:`flat`: ``[H, max(lengths), ...]`` with zeros as padding; a view when all heads are equally long."""
    heads, longest = len(lengths), max(lengths)
    if min(lengths) == longest:
        return flat.reshape(heads, longest, *flat.shape[1:])
    result, living = blank(lengths, flat.shape[1:], flat.dtype, flat.device)
    for head, end in zip(living, accumulate(lengths), strict=True):
        head.copy_(flat[end - len(head) : end])
    return result


def blank(
    lengths: Sequence[int], sizes: Sequence[int], dtype: torch.dtype, device: torch.device | None = None
) -> tuple[Tensor, list[Tensor]]:
    """``[H, max(lengths), *sizes]`` with zeros as padding, and the living slots of each head, views to write to."""
    result = torch.empty(len(lengths), max(lengths), *sizes, dtype=dtype, device=device)
    for head, length in zip(result, lengths, strict=True):
        head[length:] = 0
    return result, [head[:length] for head, length in zip(result, lengths, strict=True)]


def owners(lengths: Sequence[int], device: torch.device) -> Tensor:
    """``[sum(lengths)]`` int64: the head of each slot."""
    return torch.repeat_interleave(torch.tensor(lengths, dtype=torch.int64, device=device))


def slots_problem(position: Tensor, lengths: Tensor, num_tokens: int, bias: Tensor | None = None) -> str | None:
    """Say what is wrong with a layer's slots, or None.

    Args:
        position: ``[H, S]``; within a head increasing, and below ``num_tokens``.
        lengths: ``[H]`` living slots per head.
        num_tokens: T.
        bias: ``[H, S]``; finite.
    """
    living = torch.arange(position.shape[1], device=lengths.device) < lengths[:, None]
    if bool((((position < 0) | (position >= num_tokens)) & living).any()):
        return f"a position is not one of the {num_tokens} tokens"
    if bool(((position[:, 1:] <= position[:, :-1]) & living[:, 1:]).any()):
        return "the positions of a head do not increase"
    if bias is not None and bool((~bias.isfinite() & living).any()):
        return "a bias is not finite"
    return None
