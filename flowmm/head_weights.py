"""How much answers lose when one head forgets the context: which heads a budget should go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from flowmm.context import ContextCache
from flowmm.held_out import agreement, ask_held_out, text_of
from flowmm.hf.loading import LoadedModel
from flowmm.merges.selection import take
from flowmm.observe.probes import names
from flowmm.records import Part

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


def _forgetting(full: ContextCache, index: int, head: int) -> ContextCache:
    layer = full.layers[index]
    kept = ~layer.padding
    kept[head] &= layer.protected[head]
    others = list(full.layers)
    others[index] = take(layer, kept)
    return replace(full, layers=tuple(others), evidence=None)
