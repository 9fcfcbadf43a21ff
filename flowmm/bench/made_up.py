"""Context caches of random numbers, with everything that a file can hold; nothing was read for them."""

from __future__ import annotations

import torch
from torch import Tensor

from flowmm.context import ContextCache, Evidence, LayerCache
from flowmm.records import ModelIdentity, Probe, Provenance, Source, Span
from flowmm.rotation import Rotation

_HEADS, _SIZE, _GROUP = 2, 8, 2


def full_context(num_tokens: int, seed: int = 0) -> ContextCache:
    """Two layers with every slot and with evidence of every kind."""
    draw = torch.Generator().manual_seed(seed)
    lengths = (num_tokens,) * _HEADS
    layers = tuple(_layer(lengths, num_tokens, draw) for _ in range(2))
    angles = torch.rand(num_tokens, _SIZE // 2, generator=draw)
    pairs = torch.arange(_SIZE).view(2, -1).T.contiguous()
    rotation = Rotation(angles.cos(), angles.sin(), pairs)
    return _context(layers, num_tokens, tuple(_evidence(num_tokens, rotation, draw) for _ in layers))


def small_context(num_tokens: int, seed: int = 0) -> ContextCache:
    """Two layers of which slots were left out: heads of different lengths, a bias, a sliding window."""
    draw = torch.Generator().manual_seed(seed)
    some = max(1, num_tokens // 2)
    first = _layer((some, max(1, some // 2)), num_tokens, draw, bias=True)
    return _context((first, _layer((some, some), num_tokens, draw, window=num_tokens)), num_tokens, None)


def _context(layers: tuple[LayerCache, ...], num_tokens: int, evidence: tuple[Evidence, ...] | None) -> ContextCache:
    model = ModelIdentity("made-up", None, True, "qwen2_vl", *("0" * 32,) * 4, None, "bfloat16")
    span = Span(Source("made-up.pdf", "0" * 64, "pdf", 1), 0, num_tokens)
    provenance = Provenance(model, (span,), probe=Probe((1, 2), (3, 4), (0.5, -1.25)), seconds={"prefill": 1.5})
    return ContextCache(layers, _modality(num_tokens), num_tokens, provenance, evidence)


def _modality(num_tokens: int) -> Tensor:
    return (torch.arange(num_tokens) % 3).to(torch.uint8)


def _layer(
    lengths: tuple[int, ...], num_tokens: int, draw: torch.Generator, *, bias: bool = False, window: int | None = None
) -> LayerCache:
    heads, longest = len(lengths), max(lengths)
    living = torch.arange(longest) < torch.tensor(lengths)[:, None]
    position = torch.zeros(heads, longest, dtype=torch.int32)
    for head, length in enumerate(lengths):
        position[head, :length] = torch.randperm(num_tokens, generator=draw)[:length].sort().values.int()

    def slots() -> Tensor:
        return (torch.randn(heads, longest, _SIZE, generator=draw) * living[..., None]).bfloat16()

    return LayerCache(
        keys=slots(),
        values=slots(),
        position=position,
        modality=_modality(num_tokens)[position.long()],
        lengths=torch.tensor(lengths),
        bias=torch.rand(heads, longest, generator=draw) * living if bias else None,
        window=window,
    )


def _evidence(num_tokens: int, rotation: Rotation, draw: torch.Generator) -> Evidence:
    def queries(count: int) -> Tensor:
        return torch.randn(_HEADS * _GROUP, count, _SIZE, generator=draw).bfloat16()

    def slots() -> Tensor:
        return torch.rand(_HEADS, num_tokens, generator=draw)

    last = torch.arange(max(0, num_tokens - 3), num_tokens)
    return Evidence(
        queries=queries(len(last)),
        query_index=last,
        scale=0.5,
        cumulative=slots(),
        sample=queries(1),
        sample_index=torch.tensor([0]),
        asking=queries(2),
        observed={"reconstruct": slots()},
        value_weight=slots(),
        rotation=rotation,
    )
