"""Slots turned by a random rotation, then each number rounded to a codebook: the MSE codec of TurboQuant.

(arXiv 2504.19874, algorithm 1.) A rotation that knows nothing of the slot makes every coordinate of it nearly normal,
whatever the slot is, so one codebook, the best for a normal number, fits all; nothing is calibrated.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.codecs import bits
from flowmm.packing import Part, Rotated

# Positive half of the Lloyd-Max quantiser of a normal number with variance 1 (Max 1960, table I, to more digits).
CODEBOOKS: Mapping[int, tuple[float, ...]] = {
    2: (0.45278, 1.5104176),
    3: (0.2450942, 0.7560053, 1.3439093, 2.1519457),
    4: (0.128395, 0.3880483, 0.6567591, 0.9423405, 1.2562312, 1.6180464, 2.0690172, 2.7325896),
}


@dataclass(frozen=True)
class RotatedCodec:
    """The squared error of a slot is on average 0.1175, 0.0345 or 0.0095 of its square, with 2, 3 or 4 bits."""

    packing: Rotated

    def encode(self, part: Part, slots: Tensor, lengths: Sequence[int]) -> Mapping[str, Tensor]:
        """Codes of ``[N, D]`` slots, turned and brought to one length, and the lengths they had."""
        size = slots.shape[1]
        norms = torch.linalg.vector_norm(slots, dim=1, dtype=torch.float64).float()
        length = norms.masked_fill(norms == 0, 1.0)[:, None] / math.sqrt(size)
        turn, book = rotation(size).to(slots.device).T, self._book(slots.device)
        edges = (book[1:] + book[:-1]) / 2
        codes = torch.empty(slots.shape, dtype=torch.uint8, device=slots.device)
        for rows in blocks(len(slots), 4 * size, cached=True):
            codes[rows] = torch.bucketize(slots[rows].float() / length[rows] @ turn, edges)
        packed = bits.pack(codes.view(-1), self.packing.bits)
        return {"": packed, ".norms": norms.to(torch.bfloat16)}

    def decode(self, part: Part, packed: Mapping[str, Tensor], lengths: Sequence[int], head_size: int) -> Tensor:
        """Give the ``[N, D]`` slots back, in bfloat16."""
        norms = packed[".norms"].float()[:, None] / math.sqrt(head_size)
        codes = bits.unpack(packed[""], self.packing.bits, len(norms) * head_size).view(-1, head_size)
        turn, book = rotation(head_size).to(codes.device), self._book(codes.device)
        slots = torch.empty(codes.shape, dtype=torch.bfloat16, device=codes.device)
        for rows in blocks(len(codes), 4 * head_size, cached=True):
            turned = book.index_select(0, codes[rows].reshape(-1).int()).view(-1, head_size)
            slots[rows] = (turned @ turn).mul_(norms[rows])
        return slots

    def _book(self, device: torch.device) -> Tensor:
        half = CODEBOOKS[self.packing.bits]
        return torch.tensor([-number for number in reversed(half)] + list(half), device=device)


@lru_cache(maxsize=8)
def rotation(size: int) -> Tensor:
    """``[size, size]`` float32, orthogonal, and the same everywhere and for ever: files are unreadable without it.

    Python promises the sequence of ``random()``, torch that of no generator. What it gives is made normal (Box and
    Muller 1958), the columns orthogonal from left to right (QR), and the signs such that R has a positive diagonal,
    which makes the result unique.
    """
    source = random.Random(0)
    drawn = torch.tensor([1 - source.random() for _ in range(2 * size * size)], dtype=torch.float64)
    radius, angle = drawn.view(2, size, size)
    q, r = torch.linalg.qr((-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos())
    turn: Tensor = q * r.diagonal().sign()
    return turn.float()
