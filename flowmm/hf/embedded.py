"""A whole context as the decoder takes it in: all pieces embedded, positions counted on from piece to piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowmm.context import Piece
from flowmm.hf.embedding import Embedded, embed


@dataclass(frozen=True)
class EmbeddedContext:
    """What the decoder is run over; vision features are in it, so reading it again costs no vision."""

    embeddings: Tensor  # [1, T, hidden]
    position: Tensor  # [1, T] or [A, 1, T]
    deepstack: tuple[Tensor, ...]  # each [visual tokens, hidden]
    visual: Tensor | None  # [1, T] bool

    @property
    def next_position(self) -> int:
        """The largest rotary position + 1."""
        return int(self.position.max()) + 1

    def slice(self, start: int, end: int, position: int | None = None) -> dict[str, Any]:
        """Keyword arguments of the decoder for the tokens ``[start, end)``.

        Args:
            start: first token.
            end: behind the last token.
            position: where the positions of the slice start, when it is read in another place than its own.
        """
        place = self.position[..., start:end]
        if position is not None:
            place = place + (position - place.min())
        inputs: dict[str, Any] = {"inputs_embeds": self.embeddings[:, start:end], "position_ids": place}
        if self.visual is not None and bool(self.visual[:, start:end].any()):
            first, last = int(self.visual[:, :start].sum()), int(self.visual[:, :end].sum())
            inputs["visual_pos_masks"] = self.visual[:, start:end]
            inputs["deepstack_visual_embeds"] = [layer[first:last] for layer in self.deepstack]
        return inputs


def embed_all(model: Any, pieces: Sequence[Piece], on_image: Callable[[int, int], None]) -> EmbeddedContext:
    """Embed the pieces of a context in order; ``on_image`` is told images done and images there are."""
    done: list[Embedded] = []
    position = seen = 0
    images = sum(bool(piece.pixels) for piece in pieces)
    for piece in pieces:
        done.append(embed(model, piece, position))
        position = int(done[-1].position.max()) + 1
        if piece.pixels:
            seen += 1
            on_image(seen, images)
    axes = max((piece.position.shape[0] for piece in done if piece.position.ndim == 3), default=0)
    return EmbeddedContext(
        embeddings=torch.cat([piece.embeddings for piece in done], 1),
        position=torch.cat([_with_axes(piece.position, axes) for piece in done], -1),
        deepstack=_join_deepstack(done),
        visual=_join_visual(done),
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
