"""How keys and values are packed for the file: one file per storage precision, one line per name here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from flowmm.codecs.floats import Float


class Codec(Protocol):
    """Packs slots and unpacks them; the packed parts are those ``geometry.packed_parts`` lists for the name."""

    def encode(self, slots: Tensor) -> Mapping[str, Tensor]:
        """``[N, D]`` slots as packed tensors, by the suffix their names get in the file."""
        ...

    def decode(self, packed: Mapping[str, Tensor]) -> Tensor:
        """The ``[N, D]`` slots of what :meth:`encode` gave."""
        ...


CODECS: Mapping[str, Codec] = {
    "bf16": Float(torch.bfloat16),
    "fp16": Float(torch.float16),
    "fp32": Float(torch.float32),
}
