"""Puts the weights of a smaller reader into a larger one that computes the same, so that a run goes on with more room.

(Net2Net, arXiv 1511.05641.) What is new is wired in with zeros on its way out: whole layers, and the added inner width
of a perceptron. It learns as soon as a gradient reaches those zeros.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

_WAYS_OUT = ("o_proj", "down_proj", "attn.proj", "fc2")  # back into the residual stream


def grown(small: Mapping[str, Tensor], large: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name.

    Args:
        small: of the smaller model.
        large: of a freshly initialised larger one; more layers, or wider inside of its perceptrons.

    Raises:
        ValueError: a part of the small model has no place in the large one.
    """
    lost = [name for name, tensor in small.items() if name not in large or not _fits(tensor, large[name])]
    if lost:
        raise ValueError(f"no place for {', '.join(lost)}")
    return {name: _placed(name, small.get(name), tensor) for name, tensor in large.items()}


def _fits(small: Tensor, large: Tensor) -> bool:
    return small.ndim == large.ndim and all(a <= b for a, b in zip(small.shape, large.shape, strict=True))


def _placed(name: str, small: Tensor | None, large: Tensor) -> Tensor:
    leads_out = any(way in name for way in _WAYS_OUT)
    if small is not None and small.shape == large.shape:
        return small
    result = torch.zeros_like(large) if leads_out else large.clone()
    if small is not None:
        result[tuple(slice(length) for length in small.shape)] = small
    return result
