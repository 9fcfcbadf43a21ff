"""How keys and values are packed: one file for each kind of packing, one line for each here.

Which tensors a packing makes is in ``flowmm/packing.py``, which needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from flowmm.codecs.plain import PlainCodec
from flowmm.codecs.rotated import RotatedCodec
from flowmm.codecs.scaled import ScaledCodec
from flowmm.codecs.uniform import UniformCodec
from flowmm.packing import Packing, Part, Plain, Rotated, Scaled, Uniform


class Codec(Protocol):
    """Packs slots and unpacks them."""

    def encode(self, part: Part, slots: Tensor, lengths: Sequence[int]) -> Mapping[str, Tensor]:
        """The tensors that the packing lists.

        Args:
            part: whether these are keys or values.
            slots: ``[N, D]`` finite, heads one after another.
            lengths: slots of each head.

        Raises:
            UsageError: a number that the precision cannot hold.
        """
        ...

    def decode(self, part: Part, packed: Mapping[str, Tensor], lengths: Sequence[int], head_size: int) -> Tensor:
        """The ``[N, D]`` slots: in the type of plain packings, bfloat16 of all others."""
        ...


_CODECS: Mapping[type[Packing], Callable[[Any], Codec]] = {
    Plain: PlainCodec,
    Scaled: ScaledCodec,
    Uniform: UniformCodec,
    Rotated: RotatedCodec,
}


def codec_of(packing: Packing) -> Codec:
    """What does the work of a packing."""
    return _CODECS[type(packing)](packing)
