"""What a job is going to do, as far as it is known before the model is, and how long its phases take."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

from flowmm.errors import UsageError
from flowmm.inputs.options import ReadOptions
from flowmm.profiles import Method, ModelProfile, load_method, load_profile

Progress = Callable[[str, int, int], None]  # phase (read, model, vision, prefill, compress, write), done, total


@dataclass(frozen=True)
class CompressOptions:
    """How much to keep and by which method. ``enabled=False`` is ``--no-compress``."""

    enabled: bool = True
    method: str | None = None  # None: the profile's
    profile: str | None = None  # None: FLOWMM_PROFILE, else the model's own
    keep: float | None = None  # share of the slots; None with keep_tokens None: compress.DEFAULT_KEEP
    keep_tokens: int | None = None
    seed: int = 0
    max_bytes: int | None = None  # of the file; chooses slots, and bits unless those are asked for
    reduce: float | None = None  # the same as a share of the full cache in 16 bits that goes
    min_agreement: float | None = None  # of the small cache with the full one; keeps more than asked for if need be

    @property
    def limited(self) -> bool:
        """Whether bytes are given instead of slots."""
        return self.max_bytes is not None or self.reduce is not None


@dataclass(frozen=True)
class Plan:
    """Method and profile, as far as they are known before the model is."""

    compression: CompressOptions
    named: str | None  # profile that was asked for, by name or path
    profile: ModelProfile | None
    method: Method | None  # None: not known yet, or no compression
    passes: Method | None  # without compression, the method that a full file is made ready for

    @classmethod
    def early(cls, model: str, compression: CompressOptions) -> Plan:
        """What can be known, and refused, before the long work."""
        if compression.keep is not None and not 0 < compression.keep <= 1:
            raise UsageError(f"--keep {compression.keep}: is not above 0 and at most 1", "0.1 or 10% keeps a tenth.")
        if compression.keep_tokens is not None and compression.keep_tokens < 1:
            raise UsageError(f"--keep-tokens {compression.keep_tokens}: is less than 1", "Give a number of slots.")
        if compression.max_bytes is not None and compression.max_bytes < 1:
            raise UsageError(f"--max-bytes {compression.max_bytes}: is less than 1", "Give the bytes of the file.")
        if compression.reduce is not None and not 0 < compression.reduce < 1:
            raise UsageError(f"--reduce {compression.reduce}: is not between 0 and 1", "95% leaves a twentieth.")
        wanted = compression.min_agreement
        if wanted is not None and not 0 < wanted <= 1:
            raise UsageError(
                f"--min-agreement {wanted}: is not above 0 and at most 1", "0.98 lets one token in 50 differ."
            )
        sizes = (compression.keep, compression.keep_tokens, compression.max_bytes, compression.reduce)
        if sum(size is not None for size in sizes) > 1:
            raise UsageError(
                "two sizes were given", "Give --keep, --keep-tokens, --max-bytes or --reduce, one of them."
            )
        name = compression.profile or os.environ.get("FLOWMM_PROFILE")
        if name is None and model == "flowmm/reader":
            name = "reader"
        profile = None if name is None else load_profile(name)
        return cls(compression, name, profile, *cls._methods(profile, compression))

    def completed(self, model_type: str) -> Plan:
        """The same once the model is known."""
        profile = load_profile(self.named, model_type)
        method, passes = self._methods(profile, self.compression)
        return replace(self, profile=profile, method=method, passes=passes)

    @property
    def known_profile(self) -> ModelProfile:
        """The profile of a completed plan."""
        assert self.profile is not None
        return self.profile

    @property
    def known_method(self) -> Method:
        """The method to compress with, or to make a full file ready for, once it is known."""
        method = self.method or self.passes
        assert method is not None
        return method

    def check_scout(self, scout: str | None) -> None:
        """Raise UsageError unless the method, as far as it is known, and a scout go together."""
        method = self.method or self.passes
        if method is None:
            if scout is not None:
                what = f"--scout {scout}: was given without a method that takes a scout's scores"
                raise UsageError(what, "Name the method too, such as --method smallkv.")
        elif method.observe.scout is None and scout is not None:
            what = f"--scout {scout}: was given, but method {method.name} takes no scout's scores"
            raise UsageError(what, "Leave --scout away, or name a method that does, such as --method smallkv.")
        elif method.observe.scout is not None and scout is None:
            what = f"method {method.name} takes the scores of a smaller model, but no --scout was given"
            raise UsageError(what, "Name a smaller model of the same family with --scout, or take another method.")
        elif method.observe.scout is not None and not method.observe.tail:
            what = f"method {method.name} has observe.tail 0, but a scout's heads are matched by the last queries"
            raise UsageError(what, "Set observe: {tail: 128} in the method.")

    def reading(self, read: ReadOptions) -> ReadOptions:
        """Reading with the pixel budget of the profile, unless one was asked for."""
        budget = self.profile.max_pixels if self.profile is not None else None
        return replace(read, max_pixels=budget) if read.max_pixels is None else read

    @staticmethod
    def _methods(profile: ModelProfile | None, compression: CompressOptions) -> tuple[Method | None, Method | None]:
        """The method to compress with, and the one to make a full file ready for."""
        name = compression.method or (profile.method if profile is not None else None)
        method = None if name is None else load_method(name)
        return (method, None) if compression.enabled else (None, method)


class Clock:
    """Seconds by phase, and progress that may go nowhere."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._told = progress
        self._last = perf_counter()

    def progress(self, phase: str, done: int, total: int) -> None:
        """Pass on how far a phase is."""
        if self._told is not None:
            self._told(phase, done, total)

    def lap(self, phase: str) -> None:
        """Everything since the last lap was this phase; a phase may come again."""
        now = perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now

    def skip(self) -> None:
        """What came since the last lap was timed elsewhere."""
        self._last = perf_counter()
