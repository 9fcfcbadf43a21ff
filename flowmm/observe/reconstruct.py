"""Observe by reading the context again behind itself, chunk by chunk, as if it were to be repeated (KVzip)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowmm.context import ContextCache, LayerCache, Modality
from flowmm.hf.decoding import Decoder
from flowmm.hf.embedded import EmbeddedContext
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import question_ids
from flowmm.observe.replay import Replay
from flowmm.observe.tail import drawn_evenly
from flowmm.observing import Reconstruct

_START = 8  # last tokens of a chunk that announce the next one, as in the paper's code
_STEP = 512  # tokens of a forward pass; bounds the masks, changes nothing


@dataclass(frozen=True)
class Seen:
    """What a pass over a context saw, per layer."""

    received: tuple[Tensor, ...]  # each [H_kv, S] float32, the largest attention; 0 for what was not looked at
    relative: tuple[Tensor, ...]  # the same over the length of the hidden states; empty unless asked for
    queries: tuple[Tensor | None, ...]  # each [H_q, R, D]


@torch.no_grad()
def reconstruct(
    cache: ContextCache,
    token_ids: Tensor,
    embedded: EmbeddedContext,
    loaded: LoadedModel,
    settings: Reconstruct,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Seen:
    """KVzip (arXiv 2505.23416): what repeating a chunk looks at, in that chunk, the template and the request itself.

    Chunks are repeated as they went in: text by its tokens, images by their embeddings, since no model can spell an
    image out. In families whose image tokens see each other in both directions they are repeated causally.

    Args:
        cache: the full cache, on the model's devices.
        token_ids: ``[T]`` int64, of the context.
        embedded: the same, embedded.
        loaded: the model.
        settings: of the method.
        seed: of the draw of queries to keep.
        progress: called with tokens done and tokens there are.
    """
    template = cache.modality.cpu() == Modality.TEMPLATE
    inner = (~template).nonzero()[:, 0]
    first, last = int(inner[0]), int(inner[-1]) + 1
    zeros = [torch.zeros(layer.position.shape, device=layer.keys.device) for layer in cache.layers]
    received, relative = zeros, [zero.clone() for zero in zeros] if settings.relative else []
    kept: list[list[Tensor]] = [[] for _ in cache.layers]
    for start, end, request in _chunks(token_ids, cache.modality.cpu(), first, last, loaded, settings):
        here = template.clone()
        here[start:end] = True
        slots = here.nonzero()[:, 0]
        part = restricted(cache, slots)
        share = round(settings.queries * (end - start) / (last - first))
        draw = drawn_evenly(end - start, share, seed + start) + len(request)
        watcher = Replay(part.layers, relative=settings.relative, draw=draw)
        decoder = Decoder(loaded, part, 1, len(request) + end - start, watcher)
        decoder.feed(torch.tensor([request]), torch.ones(1, len(request), dtype=torch.bool))
        for step in range(start, end, _STEP):
            decoder.feed_again(embedded, step, min(end, step + _STEP))
        _add(received, watcher.received(), slots)
        _add(relative, watcher.received_relative(), slots)
        for layer, queries in enumerate(kept):
            found = watcher.queries(layer)
            queries += [] if found is None else [found]
        if progress is not None:
            progress(end - first, last - first)
    return Seen(tuple(received), tuple(relative), tuple(torch.cat(one, 1) if one else None for one in kept))


def _chunks(
    token_ids: Tensor, modality: Tensor, first: int, last: int, loaded: LoadedModel, settings: Reconstruct
) -> Iterator[tuple[int, int, list[int]]]:
    """Start and end of each chunk, and the tokens that ask for it."""
    for start in range(first, last, settings.chunk):
        before = slice(max(first, start - _START), start)
        words = token_ids[before][modality[before] == Modality.TEXT].tolist()
        text = loaded.tokenizer.decode(words, skip_special_tokens=True).strip() if words else ""
        request = settings.next.format(start=text) if text else settings.first
        yield start, min(last, start + settings.chunk), question_ids(request, loaded)


def restricted(cache: ContextCache, tokens: Tensor) -> ContextCache:
    """A full cache with the tokens ``[s]`` alone, at their places; without evidence."""
    return replace(cache, layers=tuple(_part(layer, tokens) for layer in cache.layers), evidence=None)


def _part(layer: LayerCache, tokens: Tensor) -> LayerCache:
    index = tokens.to(layer.keys.device)
    return replace(
        layer,
        keys=layer.keys[:, index],
        values=layer.values[:, index],
        position=layer.position[:, index],
        modality=layer.modality[:, index],
        lengths=torch.full_like(layer.lengths, index.shape[0]),
    )


def _add(total: list[Tensor], seen: list[Tensor], slots: Tensor) -> None:
    """The element-wise largest, at ``slots``."""
    for have, new in zip(total, seen, strict=True):
        index = slots.to(have.device)
        have[:, index] = have[:, index].maximum(new)
