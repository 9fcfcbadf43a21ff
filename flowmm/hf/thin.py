"""Linear layers that multiply a few rows, as a decode step or a question does, at the speed of memory on a CPU."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW_ROWS = 3  # up to here the time goes into reading the weights
_MOST_ROWS = 64  # beyond, one large product is about as fast
_TALL, _WIDE = 16, 2  # parts of a weight with more outputs than inputs, and of the others
_MOST_COPIED = 2**30  # bytes of weights


def spread_thin_products(model: Any) -> None:
    """Let the float32 linear layers of decoder and head on the CPU multiply a few rows as fast as memory allows.

    One product with one row goes through MKL's ``gemv``, which works on one thread and, on AMD, well below what memory
    gives; its batched ``gemm``, each product with a part of the weight's rows, reads the same weights where they lie at
    full bandwidth (``docs/log.md``). The results differ in the order of summation only. Nothing changes for other
    dtypes, devices or builds; twice is as once.
    """
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return
    for module in _layers(model):
        if "forward" not in vars(module) and _fits(module):
            module.forward = _Thin(module).product  # type: ignore[assignment, method-assign]


def copy_thin_weights(model: Any) -> None:
    """Let the same layers keep a second copy of their weights, in an order that several rows are multiplied by faster.

    Four rows and more then take half the time (oneDNN, ``docs/log.md``). A layer is copied when it is asked a second
    time, for one question does not win that back, and only in models of up to 1 GiB.
    """
    thin = [layer for module in _layers(model) if (layer := _thin_of(module)) is not None]
    if torch.backends.mkldnn.is_available() and sum(one.nbytes for one in thin) <= _MOST_COPIED:  # type: ignore[no-untyped-call]
        for one in thin:
            one.copies = True


def restore_products(model: Any) -> None:
    """Undo :func:`spread_thin_products`, to measure transformers as it is."""
    for module in _layers(model):
        vars(module).pop("forward", None)


def _thin_of(module: nn.Linear) -> _Thin | None:
    owner = getattr(vars(module).get("forward"), "__self__", None)
    return owner if isinstance(owner, _Thin) else None


def _layers(model: Any) -> list[nn.Linear]:
    parts = (model.get_decoder(), model.get_output_embeddings())
    return [one for part in parts if part is not None for one in part.modules() if type(one) is nn.Linear]


def _fits(layer: nn.Linear) -> bool:
    weight = layer.weight
    in_memory = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous()
    return in_memory and layer.out_features % 2 == 0


def reordered(weight: Tensor, rows: int) -> Tensor:
    """A copy of ``[out, in]`` as oneDNN likes it for about so many rows."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return packed


class _Thin:
    """``x @ weight.T + bias`` of a layer, for ``x`` ``[..., in]``."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer, self.copies = layer, False
        self._parts = math.gcd(layer.out_features, _TALL if layer.out_features > layer.in_features else _WIDE)
        self._packed: Tensor | None = None
        self._version: int | None = None  # of the weight, when several rows came last

    @property
    def nbytes(self) -> int:
        """Of the weight."""
        return self._layer.weight.nbytes

    def product(self, x: Tensor) -> Tensor:
        rows = x.numel() // self._layer.in_features
        if not 0 < rows <= _MOST_ROWS:
            return F.linear(x, self._layer.weight, self._layer.bias)
        if rows > _FEW_ROWS and self.copies and not (torch.is_grad_enabled() and self._learns(x)):
            packed = self._weight(rows)
            if packed is not None:
                found: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, self._layer.bias, "none", [], "")
                return found
        return self._in_parts(x, rows)

    def _learns(self, x: Tensor) -> bool:
        return x.requires_grad or any(one.requires_grad for one in self._layer.parameters())

    def _weight(self, rows: int) -> Tensor | None:
        """In oneDNN's order; None the first time, for what asks once does not win the time back."""
        weight = self._layer.weight
        if self._version != weight._version:
            self._version, self._packed = weight._version, None
        elif self._packed is None:
            self._packed = reordered(weight.detach(), rows)
        return self._packed

    def _in_parts(self, x: Tensor, rows: int) -> Tensor:
        layer = self._layer
        weight = layer.weight.view(self._parts, -1, layer.in_features)
        across = x.reshape(rows, -1).t().expand(self._parts, -1, -1)  # [parts, in, rows]
        if layer.bias is None:
            out = torch.bmm(weight, across)
        else:
            out = torch.baddbmm(layer.bias.view(self._parts, -1, 1), weight, across)
        return out.view(-1, rows).t().contiguous().view(*x.shape[:-1], layer.out_features)
