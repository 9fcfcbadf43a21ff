"""Layers of a few slots written out by hand, and whole random contexts."""

from dataclasses import replace

import torch
from torch import Tensor

from flowmm.blocks import causal_blocks
from flowmm.context import ContextCache, Evidence, LayerCache
from flowmm.observe.tail import Recorder
from tests.unit.small_caches import provenance

T, V, P = 0, 1, 2  # text, visual, template


def layer(keys, *, values=None, lengths=None, position=None, modality=None, bias=None, window=None) -> LayerCache:
    """A layer from nested lists; positions start at 100, so that no slot is a sink."""
    keys = torch.tensor(keys, dtype=torch.float32)
    heads, slots, _ = keys.shape
    return LayerCache(
        keys=keys,
        values=keys.clone() if values is None else torch.tensor(values, dtype=torch.float32),
        position=torch.arange(100, 100 + slots).repeat(heads, 1).int() if position is None else torch.tensor(position),
        modality=torch.zeros(heads, slots, dtype=torch.uint8)
        if modality is None
        else torch.tensor(modality, dtype=torch.uint8),
        lengths=torch.full((heads,), slots) if lengths is None else torch.tensor(lengths),
        bias=None if bias is None else torch.tensor(bias),
        window=window,
    )


def causal(first: int, num_queries: int, num_keys: int, window: int | None = None) -> Tensor:
    """``[n, m]`` bool."""
    age = torch.arange(first, first + num_queries)[:, None] - torch.arange(num_keys)
    return (age >= 0) & (age < (window or num_keys + 1))


def random_modality(num_tokens: int) -> Tensor:
    """Two template tokens, text, a run of visual tokens in the middle, text, two template tokens."""
    modality = torch.full((num_tokens,), T, dtype=torch.uint8)
    modality[num_tokens // 3 : 2 * num_tokens // 3] = V
    modality[:2] = modality[-2:] = P
    return modality


def show(recorder: Recorder, layer: int, queries, keys, first: int, scale: float, allowed) -> None:
    """One chunk of one layer, as reading shows it."""
    if recorder.maps:
        for attention in causal_blocks(queries, keys, scale, allowed):
            recorder.see_map(layer, attention)
    recorder.see(layer, queries, keys, first, scale, allowed)


def random_context(
    num_tokens: int = 60, *, dtype: torch.dtype = torch.float32, head_size: int = 8, text_only: bool = False
) -> ContextCache:
    """Three layers, 4 query heads on 2 KV heads; the second layer slides; read through the recorder and again."""
    generator = torch.Generator().manual_seed(num_tokens)
    modality = torch.zeros(num_tokens, dtype=torch.uint8) if text_only else random_modality(num_tokens)
    recorder = Recorder(3, modality, tail=128, cumulative=True, sample=32)
    layers = []
    for index, window in enumerate((None, 25, None)):
        queries, keys, values = (
            torch.randn(heads, num_tokens, head_size, generator=generator).to(dtype) for heads in (4, 2, 2)
        )
        show(recorder, index, queries, keys, 0, head_size**-0.5, causal(0, num_tokens, num_tokens, window))
        layers.append(
            LayerCache(
                keys=keys,
                values=values,
                position=torch.arange(num_tokens, dtype=torch.int32).repeat(2, 1),
                modality=modality.repeat(2, 1),
                lengths=torch.tensor([num_tokens, num_tokens]),
                window=window,
            )
        )
    observed = {"reconstruct": torch.rand(2, num_tokens, generator=generator)}
    evidence = tuple(replace(one, observed=observed) for one in recorder.evidence())
    return ContextCache(tuple(layers), modality, num_tokens, replace(provenance(), flow=(), compression=None), evidence)


def evidence(queries, index, *, scale=1.0, cumulative=None) -> Evidence:
    """Evidence from nested lists; the same queries are the last ones and the sample."""
    queries, index = torch.tensor(queries), torch.tensor(index)
    return Evidence(queries, index, scale, cumulative, sample=queries, sample_index=index)
