"""Linear layers that multiply a few rows, as a decode step does, at the speed of memory on a CPU."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MOST_ROWS = 64  # beyond, one large product is about as fast
_TALL, _WIDE = 16, 2  # parts of a weight with more outputs than inputs, and of the others


def spread_thin_products(model: Any) -> None:
    """Let the float32 linear layers of decoder and head on the CPU take a few rows as one batch of products.

    Each product has a part of the weight's rows. One product with one row goes through MKL's ``gemv``, which works on
    one thread and, on AMD, well below what memory gives; its batched ``gemm`` reads the same weights where they lie at
    full bandwidth (``docs/log.md``). The results differ in the order of summation only. Nothing changes for other
    dtypes, devices or builds; twice is as once.
    """
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return
    for module in _layers(model):
        if "forward" not in vars(module) and _fits(module):
            parts = _TALL if module.out_features > module.in_features else _WIDE
            module.forward = partial(_product, module, math.gcd(module.out_features, parts))  # type: ignore[method-assign]


def restore_products(model: Any) -> None:
    """Undo :func:`spread_thin_products`, to measure transformers as it is."""
    for module in _layers(model):
        vars(module).pop("forward", None)


def _layers(model: Any) -> list[nn.Linear]:
    parts = (model.get_decoder(), model.get_output_embeddings())
    return [one for part in parts if part is not None for one in part.modules() if type(one) is nn.Linear]


def _fits(layer: nn.Linear) -> bool:
    weight = layer.weight
    in_memory = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous()
    return in_memory and layer.out_features % 2 == 0


def _product(layer: nn.Linear, parts: int, x: Tensor) -> Tensor:
    """``x @ weight.T + bias`` for ``x`` ``[..., in]``."""
    rows = x.numel() // layer.in_features
    if not 0 < rows <= _MOST_ROWS:
        return F.linear(x, layer.weight, layer.bias)
    weight = layer.weight.view(parts, -1, layer.in_features)
    across = x.reshape(rows, -1).t().expand(parts, -1, -1)  # [parts, in, rows]
    if layer.bias is None:
        out = torch.bmm(weight, across)
    else:
        out = torch.baddbmm(layer.bias.view(parts, -1, 1), weight, across)
    return out.view(-1, rows).t().contiguous().view(*x.shape[:-1], layer.out_features)
