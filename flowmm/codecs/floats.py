"""Keys and values stored as they are, in 16 or 32 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flowmm.errors import UsageError


@dataclass(frozen=True)
class Float:
    """A floating-point type that torch and safetensors both know."""

    dtype: torch.dtype

    def encode(self, slots: Tensor) -> Mapping[str, Tensor]:
        """Round ``[N, D]`` slots to the stored type.

        Raises:
            UsageError: when a value is too large for the type (float16 ends at 65504).
        """
        packed = slots.to(self.dtype)
        narrower = self.dtype is torch.float16 and slots.dtype is not torch.float16
        if narrower and bool(packed.isinf().any()):
            raise UsageError(
                f"values up to {float(slots.abs().max()):.0f} do not fit float16, which ends at 65504",
                "Store with --kv-dtype bf16.",
            )
        return {"": packed}

    def decode(self, packed: Mapping[str, Tensor]) -> Tensor:
        """Give the ``[N, D]`` slots back, in the stored type."""
        return packed[""]
