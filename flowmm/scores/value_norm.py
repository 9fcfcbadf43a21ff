"""How much a slot's value can change a layer's output: the weight that attention leaves out."""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.context import Evidence, LayerCache


def value_norm(layer: LayerCache, evidence: Evidence) -> Tensor:
    """``|W_O v|``, for scores that are attention: what a slot adds to the residual stream is ``alpha W_O v``.

    KVzip+ (arXiv 2505.23416) and Expected Attention (arXiv 2510.00636) weigh so. It is recorded when the context is
    read; for a model whose output projection could not be found it is ``|v|``.

    Returns:
        ``[H_kv, S]`` float32.
    """
    if evidence.value_weight is not None:
        return evidence.value_weight.to(layer.values.device)
    length: Tensor = torch.linalg.vector_norm(layer.values.float(), dim=-1)
    return length
