"""Attention maps in blocks, so that no temporary grows with the square of the context."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

MAX_BYTES = 32 * 2**20  # of one temporary; an attention block holds two (logits and softmax)


def blocks(num_rows: int, bytes_per_row: int) -> Iterator[slice]:
    """Slices that cover ``range(num_rows)``, each of at most ``MAX_BYTES`` (but at least one row)."""
    size = max(1, MAX_BYTES // max(1, bytes_per_row))
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
    grouped = queries.view(num_kv_heads, group, num_queries, head_size)
    transposed = keys.float().mT  # [H_kv, D, m]
    for rows in blocks(num_queries, 4 * num_heads * num_keys):
        # The group goes into the rows: a broadcast product would copy the keys for each member.
        block = (grouped[:, :, rows].float() * scale).flatten(1, 2) @ transposed  # [H_kv, G * b, m]
        logits = block.view(num_kv_heads, group, -1, keys.shape[1])
        if bias is not None:
            logits += bias[:, None, None]
        hidden = ~allowed[..., rows, :]
        hidden = hidden[:, None] if hidden.dim() == 3 else hidden
        yield rows, logits.masked_fill_(hidden, float("-inf")).softmax(-1)
