"""What the rotary embedding did to the keys of a context, so that it can be undone and done again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotation:
    """How far each token's keys were turned; layers that turn alike share one value.

    A pair of dimensions ``(x, y)`` of a key became ``(x cos - y sin, x sin + y cos)``; dimensions in no pair stayed as
    they were. Which dimensions are paired, how frequencies are shared out among the axes of a position, and whether
    the tables are scaled (``cos^2 + sin^2`` need not be 1) differs from family to family; all of it is in here.
    """

    cos: Tensor  # [T, R] float32, of every token and pair
    sin: Tensor  # [T, R] float32
    pairs: Tensor  # [R, 2] int64, the dimensions of each pair

    def undone(self, keys: Tensor, position: Tensor) -> Tensor:
        """The keys before the rotary embedding.

        Args:
            keys: ``[H_kv, N, D]``, rotated.
            position: ``[H_kv, N]`` the index of each key's token in the context (no rotary position).

        Returns:
            ``[H_kv, N, D]`` float32.
        """
        cos, sin = self._of(position, keys.device)
        square = cos.square() + sin.square()
        return self._turned(keys, cos / square, -sin / square)

    def applied(self, keys: Tensor, position: Tensor) -> Tensor:
        """Undo :meth:`undone`; the same shapes."""
        return self._turned(keys, *self._of(position, keys.device))

    def problem(self, head_size: int) -> str | None:
        """Say what is wrong with the pairs in a head of that size, or None."""
        inside = bool(((self.pairs >= 0) & (self.pairs < head_size)).all())
        if inside and bool((self.pairs.flatten().bincount() < 2).all()):
            return None
        return f"the pairs are not of different dimensions below {head_size}"

    def _of(self, position: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine, each ``[H_kv, N, R]``."""
        index = position.long()
        return self.cos.to(device)[index], self.sin.to(device)[index]

    def _turned(self, keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first, second = self.pairs.to(keys.device).unbind(1)
        turned = keys.to(torch.float32, copy=True)
        x, y = turned[..., first], turned[..., second]  # indexing copies
        turned[..., first] = x * cos - y * sin
        turned[..., second] = x * sin + y * cos
        return turned


def shared(rotations: Iterable[Rotation | None]) -> list[Rotation]:
    """Each of them once: equal ones are one object."""
    return list({id(rotation): rotation for rotation in rotations if rotation is not None}.values())
