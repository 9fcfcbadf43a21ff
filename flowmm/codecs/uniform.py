"""Codes of 3 to 8 bits on even steps between the least and the largest number of a group (KIVI, arXiv 2402.02750).

Keys have channels that are large in every slot, so they are grouped along the slots of a channel; values have none, so
they are grouped along the channels of a slot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowmm.blocks import blocks
from flowmm.codecs import bits
from flowmm.packing import Part, Uniform

_Spread = Callable[[Tensor, slice], Tensor]  # a number of each group to its members in those rows of [N, D]
_LOW_HALF = 0xFFFF  # what bfloat16 leaves away of a float32


@dataclass(frozen=True)
class UniformCodec:
    """Asymmetric: code 0 is the least number of a group. No number is off by more than half a stored step (and what
    bfloat16, which it is given back in, takes of it)."""

    packing: Uniform

    def encode(self, part: Part, slots: Tensor, lengths: Sequence[int]) -> Mapping[str, Tensor]:
        """Codes of ``[N, D]`` slots, and step and least number of each group."""
        levels = 2**self.packing.bits - 1
        least, largest, spread = self._groups(part, slots.float(), lengths)
        # Outward, so that what bfloat16 cannot hold of the two widens the range and cuts nothing off.
        least = _round(least, up=False)
        step = _round(largest / levels - least / levels, up=True)
        codes = torch.empty(slots.shape, dtype=torch.uint8, device=slots.device)
        width = step.masked_fill(step == 0, 1.0)
        for rows in blocks(len(slots), 4 * slots.shape[1], cached=True):
            above = slots[rows] - spread(least, rows)
            codes[rows] = above.div_(spread(width, rows)).round_().clamp_(0, levels).to(torch.uint8)
        packed = bits.pack(codes.view(-1), self.packing.bits)
        return {"": packed, ".steps": torch.stack([step, least]).to(torch.bfloat16)}

    def decode(self, part: Part, packed: Mapping[str, Tensor], lengths: Sequence[int], head_size: int) -> Tensor:
        """Give the ``[N, D]`` slots back, in bfloat16."""
        num_slots = sum(lengths)
        codes = bits.unpack(packed[""], self.packing.bits, num_slots * head_size).view(num_slots, head_size)
        step, least = packed[".steps"].float()
        spread = self._spread(part, lengths, head_size, codes.device)
        slots = torch.empty(codes.shape, dtype=torch.bfloat16, device=codes.device)
        for rows in blocks(num_slots, 4 * head_size, cached=True):
            slots[rows] = codes[rows].float().mul_(spread(step, rows)).add_(spread(least, rows))
        return slots

    def _groups(self, part: Part, slots: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor, _Spread]:
        """Least and largest number of each group, and what brings a number of each group to its members."""
        along = [slots.shape[1]] if part == "values" else lengths
        members = _members(_sizes(along, self.packing.group, slots.device))
        grouped = slots[:, members] if part == "values" else slots[members]  # [N, C, group] or [G, group, D]
        axis = 2 if part == "values" else 1
        return grouped.amin(axis), grouped.amax(axis), self._spread(part, lengths, slots.shape[1], slots.device)

    def _spread(self, part: Part, lengths: Sequence[int], head_size: int, device: torch.device) -> _Spread:
        if part == "values":
            width = min(self.packing.group, head_size)  # a file may say a group far wider than its heads
            return lambda steps, rows: steps[rows].repeat_interleave(width, 1)[:, :head_size]
        group = torch.repeat_interleave(_sizes(lengths, self.packing.group, device))
        return lambda steps, rows: steps[group[rows]]


def _sizes(lengths: Sequence[int], group: int, device: torch.device) -> Tensor:
    """``[G]`` members of each group; groups do not reach from one head into the next."""
    heads = torch.tensor(lengths, dtype=torch.int64, device=device)
    counts = (heads + group - 1) // group
    head = torch.repeat_interleave(counts)
    nth = torch.arange(len(head), device=device) - (counts.cumsum(0) - counts)[head]
    return (heads[head] - nth * group).clamp_max(group)


def _members(sizes: Tensor) -> Tensor:
    """``[G, largest]`` the members of each group; a smaller group names its last member again."""
    ends = sizes.cumsum(0)
    inside = torch.arange(int(sizes.max()) if len(sizes) else 1, device=sizes.device).expand(len(sizes), -1)
    return (ends - sizes)[:, None] + inside.minimum(sizes[:, None] - 1)


def _round(numbers: Tensor, *, up: bool) -> Tensor:
    """Float32 numbers that bfloat16 holds exactly: the nearest not below (up) or not above."""
    bits_of = numbers.contiguous().view(torch.int32)
    away = ((numbers > 0) if up else (numbers < 0)).int()  # from zero
    return ((bits_of + away * _LOW_HALF) & ~_LOW_HALF).view(torch.float32)
