"""What is recorded while a context is read is what transformers' own attention maps say."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import pytest
import torch
from torch import Tensor

from flowmm.context import Evidence, LayerCache, Modality
from flowmm.observe.tail import Recorder
from flowmm.prefill import prefill
from tests.conformance.families import IMAGE, build, context, transformers_inputs
from tests.unit.plain_layers import causal
from tests.unit.test_flow import explicit_flow, explicit_map

# mRoPE: qwen2_5_vl, qwen3_vl. Sliding layers, and images that see themselves in both directions: gemma3.
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "gemma3", "llava", "idefics3", "mistral3")
CHUNK = 16  # tokens; the context takes several, the maps come from one pass


@dataclass(frozen=True)
class Observed:
    """One layer as it was read, and its map ``[H_q, T, T]`` in transformers' eager attention."""

    layer: LayerCache
    evidence: Evidence
    attention: Tensor
    allowed: Tensor  # [T, T] bool
    visual: Tensor  # [T] bool


@pytest.fixture(scope="module", params=FAMILIES)
def layers(request: pytest.FixtureRequest) -> list[Observed]:
    loaded, tiny = build(request.param)
    prompt = context(tiny)
    recorder = Recorder(len(loaded.family.windows), prompt.modality, tail=8, cumulative=True, sample=16)
    full = prefill(prompt, loaded, chunk_tokens=CHUNK, observer=recorder)
    loaded.model.set_attn_implementation("eager")
    with torch.no_grad():
        output = loaded.model(**transformers_inputs(loaded, tiny, prompt, []), output_attentions=True)
    maps = [one[0].float() for one in output.attentions]
    num_tokens, visual = full.modality.shape[0], full.modality == Modality.VISUAL
    assert num_tokens > 2 * CHUNK
    allowed = [causal(0, num_tokens, num_tokens, layer.window) for layer in full.layers]
    if request.param == "gemma3":
        image = (prompt.token_ids != IMAGE).cumsum(0).masked_fill(~visual, -1)  # the same within a run
        both = (image[:, None] == image) & visual
        allowed = [one | both for one in allowed]
    found = zip(full.layers, recorder.evidence(), maps, allowed, strict=True)
    return [Observed(*one, visual) for one in found]


def test_flow_is_that_of_the_maps(layers: list[Observed]) -> None:
    for one in layers:
        assert one.evidence.flow is not None
        expected = [explicit_flow(one.attention, one.visual, first) for first in (0, 4)]
        assert astuple(one.evidence.flow) == pytest.approx([*expected[0], *expected[1]], abs=1e-5)
        assert min(astuple(one.evidence.flow)) > 0.01


def test_recorded_queries_and_keys_give_the_maps(layers: list[Observed]) -> None:
    for one in layers:
        seen = one.evidence
        assert seen.sample is not None
        assert seen.sample_index is not None
        for queries, index in ((seen.queries, seen.query_index), (seen.sample, seen.sample_index)):
            assert queries.shape[1] == len(index) >= 8
            found = explicit_map(queries, one.layer.keys, seen.scale, one.allowed[index])
            torch.testing.assert_close(found, one.attention[:, index], atol=1e-5, rtol=0)


def test_cumulative_attention_is_the_column_sums_of_the_maps(layers: list[Observed]) -> None:
    for one in layers:
        heads, num_tokens = one.layer.keys.shape[:2]
        expected = one.attention.view(heads, -1, num_tokens, num_tokens).mean(1).sum(1)
        torch.testing.assert_close(one.evidence.cumulative, expected, atol=1e-5 * num_tokens, rtol=0)
