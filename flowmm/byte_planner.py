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
from flowmm.filling import fill, plain_bytes
from flowmm.packing import PACKINGS
from flowmm.plan import CompressOptions, Progress
from flowmm.profiles import Method, ModelProfile
from flowmm.store import FileSize, file_size, stored_dtype

RESERVE = 1024  # bytes of the header for what is known only later: the probe, seconds, memory
_TRIES = 3  # of a whole plan, where more was added later than was reserved

CompressAt = Callable[[float, str], ContextCache]  # share of the slots, precision
Finish = Callable[[ContextCache, str], ContextCache]  # a small cache and its precision
Bare = Callable[[ContextCache], ContextCache]


@dataclass(frozen=True)
class Planned:
    """A small cache, the precision that it is to be stored in, and the most bytes that the file may have."""

    cache: ContextCache
    kv_dtype: str
    most_bytes: int | None = None  # None: any number


def _as_it_is(cache: ContextCache) -> ContextCache:
    return cache


@dataclass(frozen=True)
class Job:
    """How a cache is to be made small.

    Attributes:
        method: the rules.
        profile: of the model.
        options: how much to keep: a share of the slots, or bytes.
        kv_dtype: the precision; None: the profile's for so many bytes, or 16 bits.
        progress: told how many layers are done.
        finish: adds what is known only of a small cache: probe, seconds.
        bare: takes out of a cache what is not to be written.
    """

    method: Method
    profile: ModelProfile
    options: CompressOptions
    kv_dtype: str | None
    progress: Progress
    finish: Finish
    bare: Bare = _as_it_is


def compressed(cache: ContextCache, job: Job) -> Planned:
    """A small cache, ready to be written.

    Raises:
        UsageError: not even the slots that are always kept fit.
    """
    options, profile, kv_dtype, finish, bare = job.options, job.profile, job.kv_dtype, job.finish, job.bare

    def at(keep: float | None, name: str) -> ContextCache:
        return compress(
            cache,
            job.method,
            profile=profile,
            keep=keep,
            keep_tokens=options.keep_tokens,
            seed=options.seed,
            packing=PACKINGS[name],
            progress=lambda done, total: job.progress("compress", done, total),
        )

    if not options.limited:
        name = stored_dtype(cache, kv_dtype)
        return Planned(bare(finish(at(options.keep, name), name)), name)
    limit, reserve, over = limit_of(cache, options.max_bytes, options.reduce), RESERVE, 0
    for _ in range(_TRIES):
        reserve += over
        planned = plan_bytes(cache, limit, kv_dtype, profile, at, bare=bare, reserve=reserve)
        done = bare(finish(planned.cache, planned.kv_dtype))
        over = file_size(done, planned.kv_dtype).total - limit
        if over <= 0:
            return replace(planned, cache=done)
    raise _too_small(limit, limit + over)


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


def expected_size(cache: ContextCache, name: str, reserve: int = RESERVE) -> FileSize:
    """Of the file that a job will write; the same in every run.

    Args:
        cache: before it is finished.
        name: the precision.
        reserve: bytes for what only a finished job knows.
    """
    untimed = replace(cache.provenance, probe=None, seconds={}, peak_memory_bytes=None)
    size = file_size(replace(cache, provenance=untimed), name)
    return replace(size, head=size.head + reserve)


def plan_bytes(
    cache: ContextCache,
    limit: int,
    kv_dtype: str | None,
    profile: ModelProfile,
    compress_at: CompressAt,
    *,
    bare: Bare = _as_it_is,
    reserve: int = RESERVE,
) -> Planned:
    """Compress to as many slots as fit.

    Args:
        cache: the full context.
        limit: bytes of the file.
        kv_dtype: the precision; None: the profile's for so many bytes.
        profile: of the model.
        compress_at: compresses the cache to a share of the slots, for a precision.
        bare: takes out of a cache what is not to be written.
        reserve: bytes for what only a finished job knows.

    Raises:
        UsageError: not even the slots that are always kept fit.
    """
    name = kv_dtype or precision_for(cache, limit, profile)

    def told(small: ContextCache) -> ContextCache:
        return _told(small, name, limit, kv_dtype is not None)

    filled = fill(
        cache,
        limit,
        name,
        profile,
        lambda share: compress_at(share, name),
        lambda small: expected_size(bare(told(small)), name, reserve),
    )
    if isinstance(filled, int):
        raise _too_small(limit, filled)
    return Planned(told(filled), name, limit)


def _too_small(limit: int, needed: int) -> UsageError:
    return UsageError(
        f"{limit} bytes do not hold this context: at least {needed} bytes are needed",
        "Allow more bytes, or fewer bits with --kv-dtype.",
    )


def _told(cache: ContextCache, name: str, limit: int, asked: bool) -> ContextCache:
    """With what was chosen, and why, in its record."""
    done = cache.provenance.compression
    assert done is not None
    why = "as asked" if asked else "the profile's precision for so few bytes"
    chosen = f"{100 * done.keep_reached:.1f} % of the slots in {name} ({why}): the most that fit {limit:,} bytes"
    return replace(cache, provenance=replace(cache.provenance, compression=replace(done, planned=chosen)))
