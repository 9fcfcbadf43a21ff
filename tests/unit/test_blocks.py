"""Blocks cover everything once, and attention in blocks is attention."""

import pytest
import torch

from flowmm import blocks as module
from flowmm.blocks import attention_blocks, blocks
from tests.unit.plain_layers import causal


def lengths(*arguments, **options):
    return [part.stop - part.start for part in blocks(*arguments, **options)]


def test_blocks_hold_what_fits(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    monkeypatch.setattr(module, "_CACHE_BYTES", 40)
    monkeypatch.setattr(module, "_FEWEST", 2)
    assert lengths(25, 10) == [10, 10, 5]
    assert lengths(25, 10, cached=True) == [4, 4, 4, 4, 4, 4, 1]
    assert lengths(5, 30, cached=True) == [2, 2, 1]  # fewer rows would be slow
    assert lengths(3, 1000, cached=True) == [1, 1, 1]  # but never more than fit at all


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("per_head", [False, True])
def test_attention_hides_what_is_not_allowed_and_nothing_else(window, per_head, monkeypatch):
    monkeypatch.setattr(module, "_CACHE_BYTES", 1)
    monkeypatch.setattr(module, "_FEWEST", 2)
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(heads, length, 4, generator=generator) for heads, length in ((4, 5), (2, 9)))
    allowed = causal(4, 5, 9, window)  # all five see tokens 0 to 4 where there is no window
    expected = (queries.view(2, 2, 5, 4) @ keys[:, None].mT * 0.5).masked_fill(~allowed, float("-inf")).softmax(-1)
    given = allowed.expand(2, 5, 9) if per_head else allowed
    found = [attention for _, attention in attention_blocks(queries, keys, 0.5, given)]
    assert [part.shape[2] for part in found] == [2, 2, 1]
    assert torch.allclose(torch.cat(found, 2), expected, atol=1e-6)
