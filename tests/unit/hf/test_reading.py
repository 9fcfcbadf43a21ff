"""Attention while a context is read: one kernel call gives the output and the mass that an observer asks for."""

import pytest
import torch

from flowmm.flow import crossing, layer_flow
from flowmm.hf.reading import ReadingAttention, widened
from flowmm.observe.tail import Recorder
from tests.unit.plain_layers import V, causal, random_modality

MODALITY = random_modality(40)


def read(observer, chunks, head_size=8):
    """``[H_q, 40, D]`` attention output of one layer, 6 query heads on 2 KV heads, and the queries and keys."""
    generator = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(1, heads, 40, head_size, generator=generator) for heads in (6, 2, 2))
    attention, first, outputs = ReadingAttention(40, (None,), None, observer), 0, []
    for length in chunks:
        rows = slice(first, first + length)
        attention.begin_chunk(first)
        outputs.append(attention.attend(0, query[:, :, rows], key[:, :, rows], value[:, :, rows], 0.4)[0])
        first += length
    return torch.cat(outputs, 1), query[0], key[0]


@pytest.mark.parametrize("head_size", [8, 12])
@pytest.mark.parametrize("chunks", [[40], [7, 13, 20]])
def test_who_asks_for_mass_changes_no_output_and_gets_the_flow(chunks, head_size, monkeypatch):
    plain, queries, keys = read(None, chunks, head_size)
    expected = layer_flow(crossing(queries, keys, 0.4, causal(0, 40, 40), MODALITY == V, 0))
    monkeypatch.setattr("flowmm.observe.tail.crossing", lambda *_: pytest.fail("a second attention"))
    recorder = Recorder(1, MODALITY)
    observed, _, _ = read(recorder, chunks, head_size)
    assert observed.shape == plain.shape == (6, 40, head_size)
    assert torch.allclose(observed, plain, atol=1e-6)
    flow = recorder.evidence()[0].flow
    assert (flow.rho, flow.rho_without_sinks) == pytest.approx((expected.rho, expected.rho_without_sinks), abs=1e-5)
    assert flow.rho > 0.01


def test_a_recorder_of_one_modality_asks_for_nothing():
    assert Recorder(1, torch.zeros(40, dtype=torch.uint8)).sets is None
    assert Recorder(1, MODALITY).sets.shape == (40, 4)


def test_columns_are_added_up_to_a_multiple_of_eight():
    query, keys, values = torch.ones(6, 3, 12), torch.ones(2, 5, 12), torch.ones(2, 5, 12)
    query, keys, values = widened(query, keys, values, torch.eye(5, dtype=torch.bool)[:, :2])
    assert (query.shape, keys.shape, values.shape) == ((6, 3, 16), (2, 5, 16), (2, 5, 16))
    assert keys[..., 12:].count_nonzero() == query[..., 12:].count_nonzero() == 0
    assert values[0, :, 12:].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
