"""Tiny context caches that the tests of the file store and read."""

import math

import torch

from flowmm.context import ContextCache, Evidence, LayerCache
from flowmm.records import (
    Compression,
    Diagnostics,
    LayerFlow,
    LayerLoss,
    LayerRecord,
    ModelIdentity,
    Probe,
    Provenance,
    ScoutRecord,
    Source,
    Span,
)
from flowmm.rotation import Rotation

MODALITY = torch.tensor([2, 0, 1, 1, 0], dtype=torch.uint8)  # five tokens: template, text, two visual, text
FLOW = LayerFlow(0.25, 0.5, 0.125, 0.0625)
ROTATION = Rotation(torch.full((5, 1), 0.75), torch.full((5, 1), 0.5), torch.tensor([[1, 3]]))


def identity(name: str) -> ModelIdentity:
    return ModelIdentity(
        id=name,
        revision=None,
        local=True,
        model_type="qwen2_vl",
        weights="0" * 32,
        config="1" * 32,
        tokenizer="2" * 32,
        template="3" * 32,
        processor=None,
        dtype="float32",
    )


def provenance() -> Provenance:
    page = Source(name="Bericht \u00e4\u4e2d \U0001f600.pdf", sha256="ab" * 32, kind="pdf", page=3)
    return Provenance(
        model=identity("flowmm/reader"),
        sources=(Span(page, 0, 5),),
        flow=(FLOW, None),
        compression=Compression(
            method="snapkv",
            method_text='# quotes " and \\ and\nlines\n',
            profile="qwen2_vl",
            profile_text="",
            keep_asked=0.2,
            keep_reached=1 / 3,
            seed=7,
            layers=(
                LayerRecord("intra", FLOW, {"text": 2, "visual": 1}, 1, 0.5, 0.25, 2),
                LayerRecord(None, None, {}, 0),
            ),
            diagnostics=Diagnostics(
                0.125,
                {"text": 0.25, "visual": 0.0},
                (LayerLoss(0.25, {"text": 0.5}, {"visual": 0.5}, 0.75), LayerLoss()),
            ),
        ),
        probe=Probe((1, 2), (3, 4), (0.5, -1.25)),
        seconds={"prefill": 1.5},
        peak_memory_bytes=2**40,
        versions={"torch": "2.13.0"},
        created="2026-01-02T03:04:05Z",
        scout=ScoutRecord(identity("small"), (0.5, 0.25)),
    )


def layer(lengths, positions=None, *, head_size=4, dtype=torch.float32, bias=False, window=None, seed=0) -> LayerCache:
    """Random slots with zeros as padding; ``positions`` per head, by default the first tokens."""
    generator = torch.Generator().manual_seed(seed)
    heads, longest = len(lengths), max(lengths)
    counts = torch.tensor(lengths)
    living = torch.arange(longest) < counts[:, None]
    position = torch.zeros(heads, longest, dtype=torch.int32)
    for head, length in enumerate(lengths):
        position[head, :length] = torch.tensor((positions or {}).get(head, list(range(length))), dtype=torch.int32)

    def slots() -> torch.Tensor:
        return (torch.randn(heads, longest, head_size, generator=generator) * living[..., None]).to(dtype)

    return LayerCache(
        keys=slots(),
        values=slots(),
        position=position,
        modality=MODALITY[position.long()],
        lengths=counts,
        bias=torch.full((heads, longest), math.log(2)) * living if bias else None,
        window=window,
    )


def cache(*layers: LayerCache, evidence: bool = False) -> ContextCache:
    def observed(of: LayerCache, with_cumulative: bool) -> Evidence:
        heads, longest, size = of.keys.shape
        return Evidence(
            queries=torch.arange(2 * heads * 3 * size, dtype=torch.float32).reshape(2 * heads, 3, size),
            query_index=torch.tensor([2, 3, 4]),
            scale=0.5,
            cumulative=torch.ones(heads, longest) if with_cumulative else None,
            flow=FLOW if with_cumulative else None,
            sample=torch.full((2 * heads, 2, size), 7.0) if with_cumulative else None,
            sample_index=torch.tensor([0, 3]) if with_cumulative else None,
            asking=torch.full((2 * heads, 1, size), 3.0) if with_cumulative else None,
            observed={"probes": torch.full((heads, longest), 0.5), "gate": torch.ones(heads, longest)}
            if with_cumulative
            else {},
            value_weight=torch.full((heads, longest), 2.0) if with_cumulative else None,
            rotation=ROTATION,
        )

    return ContextCache(
        layers=layers,
        modality=MODALITY,
        next_position=4,
        provenance=provenance(),
        evidence=tuple(observed(one, i == 0) for i, one in enumerate(layers)) if evidence else None,
    )


def full() -> ContextCache:
    return cache(layer([5, 5]), layer([5, 5], seed=1), evidence=True)


def ragged() -> ContextCache:
    """Two layers: heads of 3 and 1 slots with a bias; a sliding one whose heads hold the last two tokens."""
    first = layer([3, 1], {0: [0, 2, 4], 1: [3]}, bias=True)
    return cache(first, layer([2, 2], {0: [3, 4], 1: [3, 4]}, window=2, seed=1))
