"""Files that hold the same slots."""

from pathlib import Path

import torch

from flowmm.store import load


def assert_alike(one: Path, other: Path) -> None:
    """The same slots, and the same keys, values and biases but for the last bits."""
    for layer, expected in zip(load(one).layers, load(other).layers, strict=True):
        assert torch.equal(layer.position, expected.position)
        assert torch.equal(layer.lengths, expected.lengths)
        assert (layer.bias is None) == (expected.bias is None)
        for name in ("keys", "values", "bias"):
            if getattr(expected, name) is not None:
                torch.testing.assert_close(getattr(layer, name), getattr(expected, name), atol=1e-4, rtol=1e-4)
