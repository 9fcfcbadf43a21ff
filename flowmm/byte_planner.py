"""Compress to a share of the slots, or choose slots and bits together so that a file has at most so many bytes.

More slots of fewer bits beat fewer slots of 16 (arXiv 2412.12706), but only up to a point; where that point lies is a
table of the model's profile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from flowmm.compress import compress
from flowmm.context import ContextCache
from flowmm.errors import UsageError
from flowmm.packing import PACKINGS
from flowmm.plan import CompressOptions, Progress
from flowmm.profiles import Method, ModelProfile
from flowmm.store import file_bytes, stored_bytes, stored_dtype

RESERVE = 2048  # bytes of the header for what is known only later: the probe, seconds, memory
_ROUNDS = 8
_CLOSE = 0.99  # of what is allowed
_BACK = 0.998  # how far below the estimate the next share is, so that it fits more often than not

CompressAt = Callable[[float, str], ContextCache]  # share of the slots, precision


def compressed(
    cache: ContextCache,
    method: Method,
    profile: ModelProfile,
    options: CompressOptions,
    kv_dtype: str | None,
    progress: Progress,
) -> tuple[ContextCache, str]:
    """The small cache, and the precision that it is to be stored in."""

    def at(keep: float | None, name: str) -> ContextCache:
        return compress(
            cache,
            method,
            profile=profile,
            keep=keep,
            keep_tokens=options.keep_tokens,
            seed=options.seed,
            packing=PACKINGS[name],
            progress=lambda done, total: progress("compress", done, total),
        )

    if not options.limited:
        name = stored_dtype(cache, kv_dtype)
        return at(options.keep, name), name
    planned = plan_bytes(cache, limit_of(cache, options.max_bytes, options.reduce), kv_dtype, profile, at)
    return planned.cache, planned.kv_dtype


@dataclass(frozen=True)
class Planned:
    """A cache that fits, and the precision that it is to be stored in."""

    cache: ContextCache
    kv_dtype: str


def plain_bytes(cache: ContextCache) -> int:
    """Bytes of the keys and values of a full cache in 16 bits."""
    return sum(2 * 2 * layer.keys.shape[0] * cache.num_tokens * layer.keys.shape[2] for layer in cache.layers)


def limit_of(cache: ContextCache, max_bytes: int | None, reduce: float | None) -> int:
    """Bytes that a file may have: so many, or what is left of the full cache in 16 bits."""
    if max_bytes is not None:
        return max_bytes
    assert reduce is not None
    return round((1 - reduce) * plain_bytes(cache))


def precision_for(cache: ContextCache, limit: int, profile: ModelProfile) -> str:
    """The precision that the profile's table has for a file of ``limit`` bytes."""
    share = limit / plain_bytes(cache)
    fits = {name: most for name, most in profile.precision.items() if share <= most}
    return min(fits, key=fits.__getitem__) if fits else stored_dtype(cache, None)


def plan_bytes(
    cache: ContextCache, limit: int, kv_dtype: str | None, profile: ModelProfile, compress_at: CompressAt
) -> Planned:
    """Compress to as many slots as fit.

    Args:
        cache: the full context.
        limit: bytes of the file.
        kv_dtype: the precision; None: the profile's for so many bytes.
        profile: of the model.
        compress_at: compresses the cache to a share of the slots, for a precision.

    Raises:
        UsageError: not even the slots that are always kept fit.
    """
    name = kv_dtype or precision_for(cache, limit, profile)
    least = max(int(layer.protected.sum(1).max()) for layer in cache.layers) / cache.num_tokens  # are always kept
    share, least_over, most_under = min(1.0, max(least, limit / plain_bytes(cache))), 1.0, least
    best: ContextCache | None = None
    sizes: list[int] = []
    for _ in range(_ROUNDS):
        small = compress_at(share, name)
        slots = stored_bytes(small, name)
        size = file_bytes(small, name) + RESERVE
        sizes.append(size)
        fixed = size - slots
        if size <= limit:
            best, most_under = small, share
            if share == 1 or size >= _CLOSE * limit:
                break
        else:
            least_over = share
            if share == least:
                break
        estimate = _BACK * share * max(0.0, limit - fixed) / slots
        inside = most_under < estimate < least_over or estimate >= 1 == least_over
        share = min(1.0, estimate) if inside else least if best is None else (most_under + least_over) / 2
    if best is None:
        raise UsageError(
            f"{limit} bytes do not hold this context: at least {min(sizes)} bytes are needed",
            "Allow more bytes, or fewer bits with --kv-dtype.",
        )
    return Planned(_told(best, name, limit, kv_dtype is not None, profile), name)


def _told(cache: ContextCache, name: str, limit: int, asked: bool, profile: ModelProfile) -> ContextCache:
    """With what was chosen, and why, in its record."""
    done = cache.provenance.compression
    assert done is not None
    why = "as asked" if asked else f"the precision of profile {profile.name} for so few bytes"
    chosen = f"{100 * done.keep_reached:.1f} % of the slots in {name} ({why}): the most that fit {limit:,} bytes"
    return replace(cache, provenance=replace(cache.provenance, compression=replace(done, planned=chosen)))
