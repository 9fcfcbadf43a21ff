"""The recorder sees chunks and keeps what the whole would give."""

import pytest
import torch

from flowmm.flow import crossing, layer_flow
from flowmm.observe.tail import Recorder, drawn_evenly
from tests.unit.plain_layers import V, causal, random_modality, show
from tests.unit.test_flow import explicit_map, random_attention

MODALITY = random_modality(40)


def read(chunks, *, window=None, modality=MODALITY, **options):
    """Evidence of one layer read in chunks of these lengths."""
    queries, keys = random_attention()
    recorder, first = Recorder(1, modality, **options), 0
    for length in chunks:
        end = first + length
        show(recorder, 0, queries[:, first:end], keys[:, :end], first, 0.4, causal(first, length, end, window))
        first = end
    return recorder.evidence()[0]


def test_the_last_queries_are_kept_over_chunk_borders():
    queries, _ = random_attention()
    evidence = read([15, 20, 5], tail=8)
    assert torch.equal(evidence.queries, queries[:, 32:])
    assert evidence.query_index.tolist() == list(range(32, 40))
    assert evidence.scale == 0.4


def test_a_context_shorter_than_the_tail_gives_all_its_queries():
    assert read([40], tail=100).query_index.tolist() == list(range(40))


def test_the_caller_may_reuse_its_memory():
    queries, keys = random_attention()
    recorder = Recorder(1, MODALITY, tail=8)
    buffer = queries.clone()
    recorder.see(0, buffer, keys, 0, 0.4, causal(0, 40, 40))
    buffer.zero_()
    assert torch.equal(recorder.evidence()[0].queries, queries[:, 32:])


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("chunks", [[40], [7, 13, 20]])
def test_cumulative_attention_is_the_column_sum_of_the_map(chunks, window):
    queries, keys = random_attention()
    expected = explicit_map(queries, keys, 0.4, causal(0, 40, 40, window)).view(2, 3, 40, 40).mean(1).sum(1)
    found = read(chunks, window=window, cumulative=True).cumulative
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("window", [None, 9])
def test_flow_of_chunks_is_the_flow_of_the_whole(window):
    queries, keys = random_attention()
    whole = layer_flow(crossing(queries, keys, 0.4, causal(0, 40, 40, window), MODALITY == V, 0))
    chunked = read([7, 13, 20], window=window).flow
    assert (chunked.visual_to_text, chunked.text_to_visual) == pytest.approx(
        (whole.visual_to_text, whole.text_to_visual), abs=1e-5
    )
    assert chunked.rho_without_sinks == pytest.approx(whole.rho_without_sinks, abs=1e-5)


@pytest.mark.parametrize("value", [0, 1])
def test_there_is_no_flow_in_one_modality(value):
    assert read([40], modality=torch.full((40,), value, dtype=torch.uint8)).flow is None


def test_what_was_not_asked_for_is_not_recorded():
    evidence = read([40], flow=False, tail=0)
    assert (evidence.flow, evidence.cumulative, evidence.queries.shape[1]) == (None, None, 0)


def test_kept_queries_reproduce_the_attention():
    _, keys = random_attention()
    evidence = read([25, 15], tail=5)
    found = explicit_map(evidence.queries, keys, evidence.scale, evidence.query_index[:, None] >= torch.arange(40))
    queries, _ = random_attention()
    assert torch.allclose(found, explicit_map(queries, keys, 0.4, causal(0, 40, 40))[:, 35:], atol=1e-5)


@pytest.mark.parametrize("chunks", [[40], [7, 13, 20], [1] * 40])
def test_one_query_of_each_stretch_of_the_context_is_sampled(chunks):
    queries, _ = random_attention()
    evidence = read(chunks, tail=4, sample=8)
    assert (evidence.sample_index // 5).tolist() == list(range(8))  # 40 tokens, 8 stretches of 5
    assert torch.equal(evidence.sample, queries[:, evidence.sample_index])
    assert torch.equal(evidence.queries, queries[:, 36:])


def test_the_sample_is_drawn_by_the_seed():
    first, again, other = (read([40], sample=8, seed=seed).sample_index.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_no_token_is_sampled_twice():
    assert len(set(drawn_evenly(40, 27, seed=0).tolist())) == 27
    assert drawn_evenly(40, 1000, seed=0).tolist() == list(range(40))


def test_without_a_sample_there_is_none():
    evidence = read([40], sample=0)
    assert (evidence.sample, evidence.sample_index, evidence.num_references) == (None, None, 32)


def test_sampled_queries_reproduce_the_attention():
    queries, keys = random_attention()
    evidence = read([25, 15], sample=6)
    allowed = evidence.sample_index[:, None] >= torch.arange(40)
    whole = explicit_map(queries, keys, 0.4, causal(0, 40, 40))
    found = explicit_map(evidence.sample, keys, evidence.scale, allowed)
    assert torch.allclose(found, whole[:, evidence.sample_index], atol=1e-5)
