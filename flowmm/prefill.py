"""Read a context once: pieces are embedded one by one, the decoder runs over them in chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from flowmm.context import LayerCache, Modality, Prompt
from flowmm.errors import UnsupportedModelError, UsageError
from flowmm.hf.attention import attention_of
from flowmm.hf.embedding import Embedded, embed
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
    next_position: int
    rotations: tuple[Rotation | None, ...]  # of the keys, per layer; None where it is not known how they turn
    seconds: Mapping[str, float]  # by phase: vision, prefill


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
    began = perf_counter()
    modality = prompt.modality
    embedded = _embed_all(prompt, loaded, progress)
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
            if progress is not None:
                progress("prefill", end, num_tokens)
        rotations = rotation.found(attention.keys)
    layers = tuple(
        _layer(keys, values, modality, window)
        for keys, values, window in zip(attention.keys, attention.values, loaded.family.windows, strict=True)
    )
    seconds = {"vision": seen - began, "prefill": perf_counter() - seen}
    return FullRead(layers, modality, embedded.next_position, rotations, seconds)


@dataclass(frozen=True)
class _Inputs:
    """The whole context as the decoder takes it in."""

    embeddings: Tensor  # [1, T, hidden]
    position: Tensor  # [1, T] or [A, 1, T]
    deepstack: tuple[Tensor, ...]  # each [visual tokens, hidden]
    visual: Tensor | None  # [1, T] bool
    next_position: int

    def slice(self, start: int, end: int) -> dict[str, object]:
        """Keyword arguments of the decoder for the tokens ``[start, end)``."""
        inputs: dict[str, object] = {
            "inputs_embeds": self.embeddings[:, start:end],
            "position_ids": self.position[..., start:end],
        }
        if self.visual is not None and bool(self.visual[:, start:end].any()):
            first, last = int(self.visual[:, :start].sum()), int(self.visual[:, :end].sum())
            inputs["visual_pos_masks"] = self.visual[:, start:end]
            inputs["deepstack_visual_embeds"] = [layer[first:last] for layer in self.deepstack]
        return inputs


def _embed_all(prompt: Prompt, loaded: LoadedModel, progress: Progress | None) -> _Inputs:
    pieces: list[Embedded] = []
    position = 0
    images = sum(bool(piece.pixels) for piece in prompt.pieces)
    seen = 0
    for piece in prompt.pieces:
        pieces.append(embed(loaded.model, piece, position))
        position = int(pieces[-1].position.max()) + 1
        if piece.pixels and progress is not None:
            seen += 1
            progress("vision", seen, images)
    axes = max((piece.position.shape[0] for piece in pieces if piece.position.ndim == 3), default=0)
    return _Inputs(
        embeddings=torch.cat([piece.embeddings for piece in pieces], 1),
        position=torch.cat([_with_axes(piece.position, axes) for piece in pieces], -1),
        deepstack=_join_deepstack(pieces),
        visual=_join_visual(pieces),
        next_position=position,
    )


def _with_axes(position: Tensor, axes: int) -> Tensor:
    """``[1, n]`` becomes ``[axes, 1, n]`` where other pieces have rotary axes of their own."""
    return position.expand(axes, -1, -1) if axes and position.ndim == 2 else position


def _join_deepstack(pieces: list[Embedded]) -> tuple[Tensor, ...]:
    stacks = [piece.deepstack for piece in pieces if piece.deepstack]
    return tuple(torch.cat(layer) for layer in zip(*stacks, strict=True))


def _join_visual(pieces: list[Embedded]) -> Tensor | None:
    if not any(piece.deepstack for piece in pieces):
        return None
    masks = [
        torch.zeros(piece.embeddings.shape[:2], dtype=torch.bool, device=piece.embeddings.device)
        if piece.visual is None
        else piece.visual
        for piece in pieces
    ]
    return torch.cat(masks, 1)


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
