"""Compress, see what held-out questions lose by it, and keep more until enough of their answers stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowmm.byte_planner import compressed
from flowmm.context import ContextCache
from flowmm.distil import distilled, lessons
from flowmm.errors import UsageError
from flowmm.header import Header
from flowmm.held_out import agreement, ask_held_out, held_out_questions
from flowmm.hf.loading import LoadedModel
from flowmm.layer_tensors import rounded
from flowmm.packing import PACKINGS
from flowmm.plan import CompressOptions, Progress
from flowmm.profiles import Method, ModelProfile
from flowmm.records import Agreement, ModelOptions
from flowmm.sessions import load_model_of

MOST = 0.5  # share of the slots up to which more is kept; beyond it a full file is the better one


def compressed_and_compared(
    cache: ContextCache,
    questions: Sequence[str],
    loaded: LoadedModel,
    method: Method,
    profile: ModelProfile,
    options: CompressOptions,
    kv_dtype: str | None,
    progress: Progress,
    text: str = "",
) -> tuple[ContextCache, str]:
    """The small cache with what was lost in its record, and the precision that it is to be stored in.

    Args:
        cache: the full context.
        questions: that no method has seen.
        loaded: the model.
        method: of the compression.
        profile: of the model.
        options: with ``min_agreement``, the share of slots is doubled until it is reached, up to ``MOST``.
        kv_dtype: as asked for.
        progress: told how far compressing is.
        text: of the context, for methods that train what is kept through the model; without it they do not.

    Raises:
        UsageError: the agreement is not reached.
    """
    held = ask_held_out(cache, questions, loaded)
    known = lessons(cache, text, method, loaded)
    asked: float | None = None
    while True:
        small, name = compressed(cache, method, profile, options, kv_dtype, progress)
        if known is not None and method.distil is not None:
            how = (loaded, method.distil, PACKINGS[name], options.seed)
            small = _marked(distilled(small, known, held, *how, bias=not options.limited), small)
        found = agreement(held, rounded(small, PACKINGS[name]), loaded)
        share = _share(small)
        asked = share if asked is None else asked
        if options.min_agreement is None or found.top1 >= options.min_agreement:
            return _told(small, found, asked, options.min_agreement), name
        if options.limited or share >= MOST:
            raise _not_reached(found, share, options)
        options = replace(options, keep=min(MOST, 2 * share), keep_tokens=None)


def compressed_later(
    cache: ContextCache,
    header: Header,
    model: ModelOptions,
    method: Method,
    profile: ModelProfile,
    options: CompressOptions,
    kv_dtype: str | None,
    progress: Progress,
) -> tuple[ContextCache, str]:
    """The same of a full file, whose ``header`` has the questions; the model is loaded only if agreement is wanted."""
    if options.min_agreement is None:
        return compressed(cache, method, profile, options, kv_dtype, progress)
    questions = header.provenance.held_out or held_out_questions(())
    loaded = load_model_of(header, model)
    return compressed_and_compared(cache, questions, loaded, method, profile, options, kv_dtype, progress)


def _marked(trained: ContextCache, small: ContextCache) -> ContextCache:
    """With a note that training was taken, if it was."""
    done = small.provenance.compression
    if trained is small or done is None:
        return small
    return replace(trained, provenance=replace(small.provenance, compression=replace(done, trained=True)))


def _share(small: ContextCache) -> float:
    done = small.provenance.compression
    assert done is not None
    return done.keep_asked


def _told(small: ContextCache, found: Agreement, asked: float, wanted: float | None) -> ContextCache:
    """With the agreement, and why more was kept than was asked for."""
    done = small.provenance.compression
    assert done is not None
    done = replace(done, agreement=found)
    if wanted is not None and done.keep_asked > asked:
        why = f"so that {100 * wanted:g} % of the tokens of held-out answers stay the same"
        done = replace(
            done, planned=f"{100 * done.keep_asked:.3g} % of the slots instead of {100 * asked:.3g} %, {why}"
        )
    return replace(small, provenance=replace(small.provenance, compression=done))


def _not_reached(found: Agreement, share: float, options: CompressOptions) -> UsageError:
    reached = f"{100 * found.top1:.1f} % of the tokens of held-out answers stay the same"
    at = "in so few bytes" if options.limited else f"at {100 * share:.3g} % of the slots, the most that is tried"
    hint = "Allow more bytes" if options.limited else "Store every slot with --no-compress"
    return UsageError(
        f"--min-agreement {options.min_agreement:g}: only {reached} {at}", f"{hint}, or ask for less agreement."
    )
