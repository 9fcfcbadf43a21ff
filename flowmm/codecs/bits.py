"""Small codes in bytes: 1, 2, 3, 4 or 8 bits each, without gaps.

The codes are dealt out in planes: with M bytes to a row, code ``i`` is in plane ``i // M`` at place ``i % M``. The
codes of all planes at one place make up the bytes of all rows at that place, the first plane in the lowest bits. Planes
and not neighbours share a byte, because then every step runs over memory in order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.packing import unit_of


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes; the last byte of a plane is filled up with zeros.

    Args:
        codes: ``[n]`` uint8 below ``2**bits``.
        bits: 1, 2, 3, 4 or 8.

    Returns:
        uint8, of the size that :func:`flowmm.packing.packed_codes` says.
    """
    planes, rows = unit_of(bits)
    size = -(-len(codes) // planes)
    if len(codes) < planes * size:
        codes = torch.cat([codes, codes.new_zeros(planes * size - len(codes))])
    plane = codes.view(planes, size)
    if bits == 8:
        return plane[0]
    packed = codes.new_zeros(rows, size)
    for i in range(planes):
        row, shift = divmod(i * bits, 8)
        packed[row] |= plane[i] << shift
        if shift + bits > 8:
            packed[row + 1] |= plane[i] >> (8 - shift)
    return packed.view(-1)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The ``[count]`` uint8 codes of what :func:`pack` gave."""
    planes, rows = unit_of(bits)
    if bits == 8:
        return packed
    row_of, mask = packed.view(rows, -1), 2**bits - 1
    if rows == 1:  # no code is in two bytes
        shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)[:, None]
        return (row_of >> shifts).bitwise_and_(mask).view(-1)[:count]
    codes = packed.new_empty(planes, row_of.shape[1])
    for i in range(planes):
        row, shift = divmod(i * bits, 8)
        torch.bitwise_right_shift(row_of[row], shift, out=codes[i])
        if shift + bits > 8:
            codes[i] |= row_of[row + 1] << (8 - shift)
        codes[i] &= mask
    return codes.view(-1)[:count]
