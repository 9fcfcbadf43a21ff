"""How much answers lose when one head forgets the context: which heads a budget should go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from flowmm.bench.suites import open_suite
from flowmm.calibration import head_weight_of
from flowmm.context import ContextCache
from flowmm.contexts import full_cache, read_prompt
from flowmm.held_out import agreement, ask_held_out, text_of
from flowmm.hf.loading import LoadedModel
from flowmm.inputs.options import ReadOptions
from flowmm.merges.selection import take
from flowmm.observe.probes import names
from flowmm.plan import Progress
from flowmm.profiles import load_method
from flowmm.records import Part

Asked = tuple[Sequence[Part], Sequence[str]]  # a context and questions

_ABOUT = "What is {item}?"
_ITEMS = 24


def head_losses(
    full: ContextCache,
    questions: Sequence[str],
    loaded: LoadedModel,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[float]]:
    """Let one KV head after the other keep nothing of a context but what always stays, and replay answers.

    That few heads look facts up and the others hardly need the context was seen of large models too (retrieval heads,
    arXiv 2404.15574; DuoAttention, arXiv 2410.10819, finds them by training; HeadKV, arXiv 2410.19258, by needles).

    Args:
        full: the cache of a context.
        questions: to which the full cache's own answers are replayed.
        loaded: the model.
        progress: called with heads done and heads there are.

    Returns:
        Per layer and KV head the mean Kullback-Leibler divergence of the answers' tokens, in nats.
    """
    held = ask_held_out(full, questions, loaded)
    heads = [(index, head) for index, layer in enumerate(full.layers) for head in range(layer.keys.shape[0])]
    losses: list[list[float]] = [[] for _ in full.layers]
    for done, (index, head) in enumerate(heads, start=1):
        losses[index].append(agreement(held, _forgetting(full, index, head), loaded).kl)
        if progress is not None:
            progress(done, len(heads))
    return losses


def questions_about(parts: Sequence[Part]) -> tuple[str, ...]:
    """A question about each of some names and numbers of the text; none without text."""
    return tuple(_ABOUT.format(item=name) for name in names(text_of(parts), _ITEMS))


def asked_of(documents: Sequence[Sequence[Part]], suites: Sequence[str | Path], read: ReadOptions) -> list[Asked]:
    """The documents, with questions about names in them, and the contexts of suites with their questions.

    Raises:
        InputError: a suite, or a document of it, cannot be read.
    """
    found: list[Asked] = [(parts, questions_about(parts)) for parts in documents]
    for suite in suites:
        known = open_suite(Path(suite))
        for context in known.contexts:
            parts = known.load_parts(context, max_pixels=read.max_pixels)
            found.append(([part for some in parts for part in some], tuple(one.question for one in context.questions)))
    return found


def head_weights(
    asked: Sequence[Asked], loaded: LoadedModel, chunk_tokens: int, tell: Progress
) -> list[list[float]] | None:
    """Per layer and KV head a weight, by what the answers to each context's questions lose; None without a question."""
    losses, plain = [], load_method("full")
    for parts, questions in asked:
        if questions:
            cache = full_cache(read_prompt(parts, loaded), loaded, plain, chunk_tokens=chunk_tokens, progress=tell)
            losses.append(head_losses(cache, questions, loaded, partial(tell, "heads")))
    return head_weight_of(losses) if losses else None


def _forgetting(full: ContextCache, index: int, head: int) -> ContextCache:
    layer = full.layers[index]
    kept = ~layer.padding
    kept[head] &= layer.protected[head]
    others = list(full.layers)
    others[index] = take(layer, kept)
    return replace(full, layers=tuple(others), evidence=None)
