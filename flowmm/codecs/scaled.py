"""Eight-bit floats, e4m3: four bits of exponent, three of mantissa, largest number 448, times a scale of the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.packing import Part, Scaled
from flowmm.ragged import owners

_LARGEST = 448.0


@dataclass(frozen=True)
class ScaledCodec:
    """Round to nearest, so that a number is off by at most 2^-4 of itself, or 2^-10 of the scale if it is tiny."""

    packing: Scaled

    def encode(self, part: Part, slots: Tensor, lengths: Sequence[int]) -> Mapping[str, Tensor]:
        """Scale each head so that its largest number becomes 448."""
        heads = owners(lengths, slots.device)
        largest = slots.new_zeros(len(lengths), dtype=torch.float32)
        if slots.numel():
            largest.scatter_reduce_(0, heads, slots.abs().amax(1).float(), "amax")
        scale = largest / _LARGEST
        scale.masked_fill_(scale == 0, 1.0)
        codes = (slots.float() / scale[heads, None]).clamp_(-_LARGEST, _LARGEST)  # beyond 448 there is only NaN
        return {"": codes.to(torch.float8_e4m3fn), ".scale": scale}

    def decode(self, part: Part, packed: Mapping[str, Tensor], lengths: Sequence[int], head_size: int) -> Tensor:
        """Give the ``[N, D]`` slots back, in bfloat16."""
        codes, heads = packed[""], owners(lengths, packed[""].device)
        slots = torch.empty(codes.shape, dtype=torch.bfloat16, device=codes.device)
        for rows in blocks(len(codes), 4 * head_size, cached=True):
            slots[rows] = codes[rows].float().mul_(packed[".scale"][heads[rows], None])
        return slots
