"""Flow against the explicit attention map, and by hand."""

import pytest
import torch

from flowmm.flow import crossing, layer_flow, layer_strategy, mass_on
from flowmm.records import LayerFlow
from tests.unit.plain_layers import V, causal, random_modality


def explicit_map(queries, keys, scale, allowed):
    """``[H_q, n, m]`` attention, the plain way."""
    repeated = keys.float().repeat_interleave(queries.shape[0] // keys.shape[0], 0)
    logits = queries.float() @ repeated.mT * scale
    return logits.masked_fill(~allowed, float("-inf")).softmax(-1)


def explicit_flow(attention, visual, first_key):
    """``mean_h (A_v->t + A_t->v) / A_total`` over the keys from ``first_key`` on, both directions apart."""
    attention = attention[:, :, first_key:]
    keys = visual[first_key:]
    total = attention.sum((1, 2))
    to_text = attention[:, visual][:, :, ~keys].sum((1, 2)) / total
    to_visual = attention[:, ~visual][:, :, keys].sum((1, 2)) / total
    return to_text.mean().item(), to_visual.mean().item()


def random_attention(num_tokens=40, heads=(6, 2), head_size=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return tuple(2 * torch.randn(count, num_tokens, head_size, generator=generator).to(dtype) for count in heads)


def test_two_tokens_by_hand():
    # Token 0 is visual and sees itself; token 1 is text and sees both in the proportion 3:1. Mass is 2 in all.
    queries = torch.tensor([[[0.0, 0, 0, 0], [1.0, 0, 0, 0]]])
    keys = torch.tensor([[[torch.tensor(3.0).log(), 0, 0, 0], [0, 0, 0, 0]]])
    visual = torch.tensor([True, False])
    flow = layer_flow(crossing(queries, keys, 1.0, causal(0, 2, 2), visual, 0))
    assert flow.visual_to_text == pytest.approx(0)
    assert flow.text_to_visual == pytest.approx(0.75 / 2)
    assert flow.rho_without_sinks == 0  # both tokens are among the first four


def test_mass_on_a_set_of_keys_is_a_sum_of_attention():
    queries, keys = random_attention()
    allowed = causal(0, 40, 40)
    sets = torch.stack([torch.arange(40) < 7, torch.arange(40) % 2 == 0], 1)
    expected = explicit_map(queries, keys, 0.4, allowed) @ sets.float()
    assert torch.allclose(mass_on(queries, keys, sets, 0.4, allowed), expected, atol=1e-6)


@pytest.mark.parametrize("window", [None, 9])
def test_flow_equals_that_of_the_explicit_map(window):
    queries, keys = random_attention()
    visual, allowed = random_modality(40) == V, causal(0, 40, 40, window)
    flow = layer_flow(crossing(queries, keys, 0.4, allowed, visual, 0))
    attention = explicit_map(queries, keys, 0.4, allowed)
    found = (flow.visual_to_text, flow.text_to_visual)
    without = (flow.visual_to_text_without_sinks, flow.text_to_visual_without_sinks)
    assert found == pytest.approx(explicit_flow(attention, visual, 0), abs=1e-5)
    assert without == pytest.approx(explicit_flow(attention, visual, 4), abs=1e-5)
    assert min(found) > 0.01


def test_an_image_block_that_sees_its_own_future():
    queries, keys = random_attention()
    visual = random_modality(40) == V
    allowed = causal(0, 40, 40) | (visual[:, None] & visual)
    flow = layer_flow(crossing(queries, keys, 0.4, allowed, visual, 0))
    expected = explicit_flow(explicit_map(queries, keys, 0.4, allowed), visual, 0)
    assert (flow.visual_to_text, flow.text_to_visual) == pytest.approx(expected, abs=1e-5)


def test_flow_of_bfloat16_is_close():
    queries, keys = random_attention(dtype=torch.bfloat16)
    visual, allowed = random_modality(40) == V, causal(0, 40, 40)
    flow = layer_flow(crossing(queries, keys, 0.4, allowed, visual, 0))
    expected = explicit_flow(explicit_map(queries, keys, 0.4, allowed), visual, 0)
    assert (flow.visual_to_text, flow.text_to_visual) == pytest.approx(expected, abs=5e-3)


def test_blocks_of_queries_do_not_change_the_mass(monkeypatch):
    queries, keys = random_attention()
    sets, allowed = torch.ones(40, 1, dtype=torch.bool), causal(0, 40, 40)
    monkeypatch.setattr("flowmm.blocks.MAX_BYTES", 4 * 40 * 3)
    assert torch.allclose(mass_on(queries, keys, sets, 0.4, allowed), torch.ones(6, 40, 1), atol=1e-5)


def test_a_layer_is_cross_above_theta():
    flow = LayerFlow(0.2, 0.1, 0.05, 0.05)
    assert layer_strategy(flow, 0.25, without_sinks=False) == "cross"
    assert layer_strategy(flow, 0.25, without_sinks=True) == "intra"
    assert layer_strategy(LayerFlow(0.25, 0, 0, 0), 0.25, without_sinks=False) == "intra"
