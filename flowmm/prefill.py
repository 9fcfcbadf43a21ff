"""Read a context once: pieces are embedded one by one, the decoder runs over them in chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from flowmm.context import LayerCache, Modality, Prompt
from flowmm.errors import UnsupportedModelError, UsageError
from flowmm.hf.attention import attention_of
from flowmm.hf.embedded import EmbeddedContext, embed_all
from flowmm.hf.loading import LoadedModel
from flowmm.hf.reading import Observer, ReadingAttention
from flowmm.hf.rotation import watched_rotation
from flowmm.rotation import Rotation

Progress = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True)
class FullRead:
    """The full cache of a context: one layer each with all its tokens."""

    layers: tuple[LayerCache, ...]
    modality: Tensor  # [T] uint8
    embedded: EmbeddedContext  # what went in, for passes that read it again
    rotations: tuple[Rotation | None, ...]  # of the keys, per layer; None where it is not known how they turn
    seconds: Mapping[str, float]  # by phase: vision, prefill

    @property
    def next_position(self) -> int:
        """The largest rotary position + 1."""
        return self.embedded.next_position


@torch.no_grad()
def prefill(
    prompt: Prompt,
    loaded: LoadedModel,
    *,
    chunk_tokens: int = 2048,
    observer: Observer | None = None,
    progress: Progress | None = None,
) -> FullRead:
    """Run the model over a context.

    Args:
        prompt: the context.
        loaded: the model.
        chunk_tokens: tokens per forward pass of the decoder; memory grows with it, the result does not change.
        observer: sees queries and keys of every layer on the way.
        progress: called with phase (``vision``, ``prefill``), done and total.
    """
    if chunk_tokens < 1:
        raise UsageError(f"--chunk-tokens {chunk_tokens}: is less than 1", "Give a number of tokens, such as 2048.")
    told = progress or (lambda _phase, _done, _total: None)
    began = perf_counter()
    modality = prompt.modality
    embedded = embed_all(loaded.model, prompt.pieces, partial(told, "vision"))
    seen = perf_counter()
    num_tokens = int(modality.shape[0])
    image_of = _image_of(modality) if loaded.family.bidirectional_images else None
    attention = ReadingAttention(num_tokens, loaded.family.windows, image_of, observer)
    decoder = loaded.model.get_decoder()
    with attention_of(loaded.model), watched_rotation(decoder) as rotation:
        start = 0
        while start < num_tokens:
            end = _chunk_end(start, min(num_tokens, start + chunk_tokens), image_of)
            attention.begin_chunk(start)
            inputs = embedded.slice(start, end)
            decoder(**inputs, attention_mask=None, use_cache=False, flowmm=attention)
            start = end
            told("prefill", end, num_tokens)
        rotations = rotation.found(attention.keys)
    layers = tuple(
        _layer(keys, values, modality, window)
        for keys, values, window in zip(attention.keys, attention.values, loaded.family.windows, strict=True)
    )
    seconds = {"vision": seen - began, "prefill": perf_counter() - seen}
    return FullRead(layers, modality, embedded, rotations, seconds)


def _image_of(modality: Tensor) -> Tensor:
    """``[T]`` int64: number of the run of visual tokens that a token is in, -1 for none."""
    visual = modality == Modality.VISUAL
    starts = visual & ~torch.cat([torch.zeros(1, dtype=torch.bool), visual[:-1]])
    return torch.where(visual, starts.cumsum(0) - 1, -1)


def _chunk_end(start: int, end: int, image_of: Tensor | None) -> int:
    """Move the end of a chunk behind an image whose tokens see each other in both directions."""
    if image_of is None:
        return end
    while end < image_of.shape[0] and image_of[end] >= 0 and image_of[end] == image_of[end - 1]:
        end += 1
    return end


def _layer(keys: Tensor | None, values: Tensor | None, modality: Tensor, window: int | None) -> LayerCache:
    if keys is None or values is None:
        raise UnsupportedModelError(
            "a layer of the model's decoder keeps no keys and values",
            "Use a model of a verified family (docs/limits.md).",
        )
    num_kv, num_tokens, _ = keys.shape
    position = torch.arange(num_tokens, dtype=torch.int32, device=keys.device)
    return LayerCache(
        keys=keys,
        values=values,
        position=position.expand(num_kv, -1),
        modality=modality.to(keys.device).expand(num_kv, -1),
        lengths=torch.full((num_kv,), num_tokens, dtype=torch.int64, device=keys.device),
        window=window,
    )
