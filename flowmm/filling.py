"""The most slots of one precision that fit into so many bytes: compress, look, and compress again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from flowmm.context import ContextCache
from flowmm.header import ITEM_BYTES
from flowmm.packing import PACKINGS, PARTS
from flowmm.profiles import ModelProfile
from flowmm.store import FileSize

_ROUNDS = 8
_CLOSE = 0.99  # of what is allowed
_BACK = 0.998  # how far below the estimate the next share is, so that it fits more often than not


def fill(
    cache: ContextCache,
    room: int,
    name: str,
    profile: ModelProfile,
    compress_at: Callable[[float], ContextCache],
    size_of: Callable[[ContextCache], FileSize],
) -> ContextCache | int:
    """The most slots that fit into so many bytes.

    Args:
        cache: the full context.
        room: bytes.
        name: the precision.
        profile: of the model.
        compress_at: compresses the cache to a share of the slots.
        size_of: the bytes that a small cache takes of the room.

    Returns:
        The small cache; or if there is none, how many bytes the smallest one takes.
    """
    least = least_share(cache, profile)
    share: float | None = min(1.0, max(least, room / plain_bytes(cache, name)))
    best: ContextCache | None = None
    tried: list[_Tried] = []
    while share is not None:
        small = compress_at(share)
        tried.append(_Tried(share, size_of(small), room))
        if tried[-1].fits and share == max(one.share for one in tried if one.fits):
            best = small
        share = _next_share(tried, least, 1 / cache.num_tokens)
    return min(one.size.total for one in tried) if best is None else best


def plain_bytes(cache: ContextCache, name: str = "bf16") -> int:
    """Bytes of the keys and values of a full cache in a precision, by default in 16 bits."""
    found = 0
    for layer in cache.layers:
        lengths, size = [cache.num_tokens] * layer.keys.shape[0], layer.keys.shape[2]
        shapes = [shape for part in PARTS for shape in PACKINGS[name].shapes(part, lengths, size).values()]
        found += sum(ITEM_BYTES[dtype] * prod(sizes) for dtype, sizes in shapes)
    return found


@dataclass(frozen=True)
class _Tried:
    """What a share of the slots came to."""

    share: float
    size: FileSize
    room: int  # bytes that it may take

    @property
    def fits(self) -> bool:
        return self.size.total <= self.room

    @property
    def close(self) -> bool:
        return self.fits and self.size.total >= _CLOSE * self.room


def _next_share(tried: Sequence[_Tried], least: float, step: float) -> float | None:
    """The share to try next, or None.

    Args:
        tried: so far, in order.
        least: the smallest share that there is.
        step: what shares must differ by to make a difference.
    """
    under = max((one.share for one in tried if one.fits), default=None)
    over = min((one.share for one in tried if not one.fits), default=None)
    if under == 1 or over == least or any(one.close for one in tried) or len(tried) == _ROUNDS:
        return None
    if under is None and len(tried) == _ROUNDS - 1:
        return least
    last = tried[-1]
    estimate = last.share + (_BACK * last.room - last.size.total) / _slope(tried)
    if over is None:
        return min(1.0, max(estimate, last.share + step))
    if under is None:
        return max(least, min(estimate, last.share - step))
    if over - under < step:
        return None
    return estimate if under < estimate < over else (under + over) / 2


def _slope(tried: Sequence[_Tried]) -> float:
    """Bytes that the whole of the slots would take, by the last two shares; by the last alone if there is but one."""
    last = tried[-1]
    for one in reversed(tried[:-1]):
        if one.share != last.share and one.size.total != last.size.total:
            slope = (last.size.total - one.size.total) / (last.share - one.share)
            if slope > 0:
                return slope
    return last.size.tensors / last.share


def least_share(cache: ContextCache, profile: ModelProfile) -> float:
    """The share of the slots at which every layer holds those that are always kept."""
    factors = profile.layer_budget or [1.0] * len(cache.layers)
    mean = sum(factors) / len(factors)
    needed = [
        int(layer.protected.sum(1).max()) * mean / factor for layer, factor in zip(cache.layers, factors, strict=False)
    ]
    return min(1.0, max(needed) / cache.num_tokens)
