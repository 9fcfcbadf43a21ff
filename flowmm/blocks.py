"""Attention maps in blocks, so that no temporary grows with the square of the context."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

MAX_BYTES = 32 * 2**20  # of one temporary; an attention block holds two (logits and softmax)
_CACHE_BYTES = 2 * 2**20  # what a CPU's cache holds of one: a softmax in it takes two thirds of the time
_STRETCH = 512  # queries of a chunk that are shown the same keys
_FEWEST = 16  # rows of a block that is made small for the cache


def blocks(num_rows: int, bytes_per_row: int, *, cached: bool = False) -> Iterator[slice]:
    """Slices that cover ``range(num_rows)``, each of at most ``MAX_BYTES`` (but at least one row).

    Args:
        num_rows: how many there are.
        bytes_per_row: of the temporary.
        cached: smaller blocks where that keeps them in a CPU's cache.
    """
    size = max(1, MAX_BYTES // max(1, bytes_per_row))
    if cached:
        size = min(size, max(_FEWEST, _CACHE_BYTES // max(1, bytes_per_row)))
    for start in range(0, num_rows, size):
        yield slice(start, min(num_rows, start + size))


def visible(position: Tensor, index: Tensor, window: int | None = None) -> Tensor:
    """Which slots a query may see.

    Args:
        position: ``[H_kv, S]``, index of each slot's token.
        index: ``[N]``, index of each query's token.
        window: of a sliding layer.

    Returns:
        ``[H_kv, N, S]`` bool.
    """
    age = index[:, None] - position[:, None].long()
    return age >= 0 if window is None else (age >= 0) & (age < window)


def attention_blocks(
    queries: Tensor, keys: Tensor, scale: float, allowed: Tensor, bias: Tensor | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Post-softmax attention in float32, a block of queries at a time.

    Args:
        queries: ``[H_q, n, D]``.
        keys: ``[H_kv, m, D]``.
        scale: what ``q . k`` is multiplied with.
        allowed: ``[n, m]`` or ``[H_kv, n, m]`` bool, which key a query may see.
        bias: ``[H_kv, m]`` added to the logits, ``-inf`` on padding.

    Yields:
        The slice of the queries and its ``[H_kv, G, b, m]`` attention.
    """
    num_heads, num_queries, head_size = queries.shape
    num_kv_heads, num_keys, _ = keys.shape
    group = num_heads // num_kv_heads
    grouped = queries.reshape(num_kv_heads, group, num_queries, head_size)
    transposed = keys.float().mT  # [H_kv, D, m]
    hidden = ~allowed if allowed.dim() == 2 else ~allowed[:, None]  # [n, m] or [H_kv, 1, n, m]
    first = _first_true(hidden.flatten(0, -2).any(0))  # what every query sees needs no masking
    for rows in blocks(num_queries, 4 * num_heads * num_keys, cached=queries.device.type == "cpu"):
        # The group goes into the rows: a broadcast product would copy the keys for each member.
        block = (grouped[:, :, rows].float() * scale).flatten(1, 2) @ transposed  # [H_kv, G * b, m]
        logits = block.view(num_kv_heads, group, -1, keys.shape[1])
        if bias is not None:
            logits += bias[:, None, None]
        logits[..., first:].masked_fill_(hidden[..., rows, first:], float("-inf"))
        yield rows, logits.softmax(-1)


def causal_blocks(queries: Tensor, keys: Tensor, scale: float, allowed: Tensor) -> Iterator[Tensor]:
    """The same for one chunk of a context in order, without the keys that no query of a stretch sees.

    Nearly half of a causal map lies behind its queries.

    Yields:
        ``[H_kv, G, b, m]`` attention of the next ``b`` queries on the first ``m`` keys.
    """
    for start in range(0, queries.shape[1], _STRETCH):
        rows = slice(start, start + _STRETCH)
        seen = int(allowed[rows].any(0).nonzero()[-1]) + 1
        for _, attention in attention_blocks(queries[:, rows], keys[:, :seen], scale, allowed[rows, :seen]):
            yield attention


def _first_true(mask: Tensor) -> int:
    """Index of the first True of ``[m]`` bool; m if there is none."""
    return int(mask.int().argmax()) if bool(mask.any()) else mask.shape[0]
