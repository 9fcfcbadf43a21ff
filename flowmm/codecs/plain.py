"""Keys and values stored as they are, in 16 or 32 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowmm.errors import UsageError
from flowmm.packing import Part, Plain

_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


@dataclass(frozen=True)
class PlainCodec:
    """Rounds to a floating-point type that torch and safetensors both know."""

    packing: Plain

    def encode(self, part: Part, slots: Tensor, lengths: Sequence[int]) -> Mapping[str, Tensor]:
        """Round ``[N, D]`` slots to the stored type.

        Raises:
            UsageError: when a value is too large for the type (float16 ends at 65504).
        """
        dtype = _TYPES[self.packing.dtype]
        packed = slots.to(dtype)
        narrower = dtype is torch.float16 and slots.dtype is not torch.float16
        if narrower and bool(packed.isinf().any()):
            raise UsageError(
                f"values up to {float(slots.abs().max()):.0f} do not fit float16, which ends at 65504",
                "Store with --kv-dtype bf16.",
            )
        return {"": packed}

    def decode(self, part: Part, packed: Mapping[str, Tensor], lengths: Sequence[int], head_size: int) -> Tensor:
        """Give the ``[N, D]`` slots back, in the stored type."""
        return packed[""]
