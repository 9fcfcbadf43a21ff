"""What a context loses in each precision when its slots fill the same bytes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from flowmm.calibration import PrecisionErrors
from flowmm.compress import compress
from flowmm.context import ContextCache, Prompt
from flowmm.filling import fill, least_share, plain_bytes
from flowmm.hf.loading import LoadedModel
from flowmm.layer_tensors import rounded
from flowmm.packing import PACKINGS
from flowmm.plan import Progress
from flowmm.profiles import Method, ModelProfile
from flowmm.retelling import Retelling
from flowmm.store import FileSize, file_size, stored_dtype

SHARES = (0.025, 0.05, 0.1, 0.2, 0.4)  # of the full cache's bytes in 16 bits
_NAMES = ("rot2", "rot3", "int3", "int4", "int8")  # of fewer bits first; then 16 bits
_NOTHING = 1.0  # what is lost where not even the slots that are always kept fit


def precision_errors(
    prompt: Prompt, cache: ContextCache, method: Method, profile: ModelProfile, loaded: LoadedModel, progress: Progress
) -> PrecisionErrors | None:
    """Fill shares of the bytes with as many slots as fit, and tell the context's text again behind them.

    Only bytes of tensors count, since the header's hardly depend on the precision. How far attention is off says
    little here: it is off least with many slots of 2 bits, in which no figure can be read any more.

    Args:
        prompt: the context.
        cache: of it, full.
        method: chooses the slots.
        profile: of the model.
        loaded: the model.
        progress: told how many of the measurements are done.

    Returns:
        Errors by :meth:`flowmm.retelling.Retelling.lost`, at the shares that some precision can fill; None where there
        is no such share, or no text.
    """
    at = partial(_compressed, cache, method, profile)
    names = (*_NAMES, stored_dtype(cache, None))
    without = at(names[-1], least_share(cache, profile))
    told = Retelling.of(prompt, cache, without, loaded)
    if told is None:
        return None
    found: dict[float, list[float | None]] = {}
    done, total = 0, len(SHARES) * len(names)
    for share in SHARES:
        errors: list[float | None] = []
        for name in names:
            progress("precision", done, total)
            done += 1
            room = round(share * plain_bytes(cache))
            small = fill(cache, room, name, profile, partial(at, name), partial(_tensors, name=name))
            errors.append(None if isinstance(small, int) else told.lost(rounded(small, PACKINGS[name])))
        if any(error is not None for error in errors):
            found[share] = errors
    progress("precision", total, total)
    by_name = {
        name: tuple(_NOTHING if errors[at] is None else float(errors[at] or 0) for errors in found.values())
        for at, name in enumerate(names)
    }
    return PrecisionErrors(tuple(found), by_name) if found else None


def _compressed(cache: ContextCache, method: Method, profile: ModelProfile, name: str, keep: float) -> ContextCache:
    return compress(cache, method, profile=profile, keep=keep, packing=PACKINGS[name])


def _tensors(cache: ContextCache, *, name: str) -> FileSize:
    return replace(file_size(cache, name), head=0)
