"""Increasing numbers in two to three bits more than their mean gap needs, exactly.

Elias (1974) and Fano (1971): the low bits of each number as they are; the rest, which increases slowly, as a row of
bits in which the ``i``-th one stands at place ``rest + i``. The size follows from how many numbers there are and what
bounds them, whatever they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.codecs import bits
from flowmm.packing import low_bits, packed_codes
from flowmm.typed_json import MalformedError


def pack(numbers: Tensor, bound: int) -> Tensor:
    """Pack numbers.

    Args:
        numbers: ``[n]`` int64, increasing, from 0, below ``bound``.
        bound: any number above them all.

    Returns:
        uint8, of the size that :func:`flowmm.packing.packed_increasing` says.
    """
    count, low = len(numbers), low_bits(len(numbers), bound)
    places = torch.arange(low, device=numbers.device)[:, None]
    listed = ((numbers >> places) & 1).to(torch.uint8)  # [low, n]
    marks = torch.zeros(count + (bound >> low), dtype=torch.uint8, device=numbers.device)
    marks[(numbers >> low) + torch.arange(count, device=numbers.device)] = 1
    return torch.cat([bits.pack(listed.view(-1), 1), bits.pack(marks, 1)])


def unpack(packed: Tensor, count: int, bound: int) -> Tensor:
    """The ``[count]`` int64 numbers of what :func:`pack` gave.

    Raises:
        MalformedError: when it holds another count of them.
    """
    low = low_bits(count, bound)
    _, (split,) = packed_codes(count * low, 1)
    listed = bits.unpack(packed[:split], 1, count * low).view(low, count)
    marked = bits.unpack(packed[split:], 1, count + (bound >> low)).nonzero()[:, 0]
    if len(marked) != count:
        raise MalformedError(f"{len(marked)} increasing numbers, expected {count}")
    numbers = (marked - torch.arange(count, device=packed.device)) << low
    for place, row in enumerate(listed):
        numbers += row.long() << place
    return numbers
