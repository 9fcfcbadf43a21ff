"""How much a slot's value can change a layer's output: the weight that attention leaves out."""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.context import LayerCache


def value_norm(layer: LayerCache) -> Tensor:
    """``|v|_2``, for scores that are attention: what a slot adds to the output is ``alpha v``.

    KVzip+ and Expected Attention (arXiv 2510.00636) take ``|W_O v|``. The output projection is no part of a context
    cache; once ``observe`` records it, it is applied here and nowhere else.

    Returns:
        ``[H_kv, S]`` float32.
    """
    length: Tensor = torch.linalg.vector_norm(layer.values.float(), dim=-1)
    return length
