"""Compress, see what held-out questions lose by it, and keep more until enough of their answers stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowmm.byte_planner import Job, Planned, compressed
from flowmm.context import ContextCache
from flowmm.distil import distilled, lessons
from flowmm.errors import UsageError
from flowmm.header import Header
from flowmm.held_out import HeldOut, agreement, ask_held_out, held_out_questions
from flowmm.hf.loading import LoadedModel
from flowmm.layer_tensors import rounded
from flowmm.packing import PACKINGS
from flowmm.plan import CompressOptions
from flowmm.records import Agreement, ModelOptions
from flowmm.sessions import load_model_of

MOST = 0.5  # share of the slots up to which more is kept; beyond it a full file is the better one


def compressed_and_compared(
    cache: ContextCache, questions: Sequence[str], loaded: LoadedModel, job: Job, text: str = ""
) -> Planned:
    """A small cache, ready to be written, with what was lost in its record.

    Args:
        cache: the full context.
        questions: that no method has seen.
        loaded: the model.
        job: with ``min_agreement`` the share of slots is doubled until it is reached, up to ``MOST``.
        text: of the context, for methods that train what is kept through the model; without it they do not.

    Raises:
        UsageError: the agreement is not reached.
    """
    held = ask_held_out(cache, questions, loaded)
    known = lessons(cache, text, job.method, loaded)
    asked: float | None = None
    while True:
        tried = _Try(job, held, known, loaded, asked)
        planned = compressed(cache, replace(job, finish=tried.finish))
        if tried.is_enough:
            return planned
        asked = tried.share if asked is None else asked
        if job.options.limited or tried.share >= MOST:
            raise _not_reached(tried.found, tried.share, job.options)
        job = replace(job, options=replace(job.options, keep=min(MOST, 2 * tried.share), keep_tokens=None))


def compressed_later(cache: ContextCache, header: Header, model: ModelOptions, job: Job) -> Planned:
    """The same of a full file, whose ``header`` has the questions; the model is loaded only if agreement is wanted."""
    if job.options.min_agreement is None:
        return compressed(cache, job)
    questions = header.provenance.held_out or held_out_questions(())
    return compressed_and_compared(cache, questions, load_model_of(header, model), job)


class _Try:
    """One compression; its ``finish`` trains and compares, and lets the job finish what agrees well enough."""

    found: Agreement
    share: float  # of the slots, as asked for

    def __init__(
        self, job: Job, held: HeldOut, known: HeldOut | None, loaded: LoadedModel, asked: float | None
    ) -> None:
        self._job, self._held, self._known, self._loaded, self._asked = job, held, known, loaded, asked

    @property
    def is_enough(self) -> bool:
        wanted = self._job.options.min_agreement
        return wanted is None or self.found.top1 >= wanted

    def finish(self, small: ContextCache, name: str) -> ContextCache:
        """See :class:`flowmm.byte_planner.Job`."""
        options, distil = self._job.options, self._job.method.distil
        if self._known is not None and distil is not None:
            how = (self._loaded, distil, PACKINGS[name], options.seed)
            small = _marked(distilled(small, self._known, self._held, *how, bias=not options.limited), small)
        self.found = agreement(self._held, rounded(small, PACKINGS[name]), self._loaded)
        self.share = _share(small)
        if not self.is_enough:
            return small
        asked = self.share if self._asked is None else self._asked
        return self._job.finish(_told(small, self.found, asked, options.min_agreement), name)


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
