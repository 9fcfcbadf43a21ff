"""What is fed behind a context looks where transformers' own attention says it does."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import flowmm.observe.reconstruct
from flowmm.context import ContextCache, Evidence, Modality, Piece, Prompt
from flowmm.hf.decoding import Decoder
from flowmm.hf.layers import output_weight
from flowmm.hf.loading import LoadedModel
from flowmm.observe.probes import replayed
from flowmm.observe.reconstruct import Seen, reconstruct
from flowmm.observe.replay import Replay
from flowmm.observing import Probes, Reconstruct
from flowmm.prefill import FullRead, prefill
from flowmm.records import Answer, Provenance
from flowmm.references import attend, references
from tests.conformance.families import build, context, question, transformers_inputs

CLOSE = {"atol": 1e-5, "rtol": 0.0}


def read(family: str) -> tuple[LoadedModel, Any, FullRead, ContextCache]:
    loaded, tiny = build(family)
    full = prefill(context(tiny), loaded)
    provenance = Provenance(loaded.identity, ())
    return loaded, tiny, full, ContextCache(full.layers, full.modality, full.next_position, provenance)


def attentions(loaded: LoadedModel, inputs: dict[str, Tensor]) -> Any:
    """transformers' own maps, each ``[1, H_q, n, n]``, and hidden states."""
    loaded.model.set_attn_implementation("eager")
    found = loaded.model(**inputs, output_attentions=True, output_hidden_states=True)
    loaded.model.set_attn_implementation("sdpa")
    return found


def largest(attention: Tensor, behind: int, num_kv: int) -> Tensor:
    """``[H_kv, T]``: the largest attention from the tokens behind the first ``behind`` ones to those."""
    return attention[0, :, behind:, :behind].amax(1).view(num_kv, -1, behind).amax(1)


@pytest.mark.parametrize("family", ["llama", "qwen2_5_vl", "qwen3_vl", "gemma3"])
def test_the_largest_attention_of_what_is_fed_is_that_of_the_map(family):
    loaded, tiny, _, cache = read(family)
    ids = question(9)
    watcher = Replay(cache.layers, relative=True)
    decoder = Decoder(loaded, cache, 1, 9, watcher)
    for part in (ids[:4], ids[4:]):
        decoder.feed(torch.tensor([part]), torch.ones(1, len(part), dtype=torch.bool))
    found = attentions(loaded, transformers_inputs(loaded, tiny, context(tiny), ids))
    for layer, seen in enumerate(watcher.received()):
        expected = largest(found.attentions[layer], cache.num_tokens, 2)
        torch.testing.assert_close(seen, expected, **CLOSE)
        lengths = found.hidden_states[layer][0].norm(dim=-1)
        scaled = largest(found.attentions[layer] / lengths[:, None], cache.num_tokens, 2)
        torch.testing.assert_close(watcher.received_relative()[layer], scaled, **CLOSE)


def test_answers_of_different_lengths_are_fed_as_if_alone(monkeypatch):
    loaded, tiny, _, cache = read("qwen2_5_vl")
    rows = {"a": question(3, 1), "b": question(8, 2), "c": question(5, 3)}
    monkeypatch.setattr("flowmm.observe.probes.question_ids", lambda text, _: rows[text])
    answers = [Answer(name, "", tuple(question(4, 20)), "stop", 0, 0) for name in rows]
    seen = replayed(cache, answers, loaded, Probes(queries=100))
    maps = [
        attentions(loaded, transformers_inputs(loaded, tiny, context(tiny), [*ids, *question(4, 20)])).attentions
        for ids in rows.values()
    ]
    for layer, received in enumerate(seen.received):
        expected = torch.stack([largest(one[layer], cache.num_tokens, 2) for one in maps]).amax(0)
        torch.testing.assert_close(received, expected, **CLOSE)
        assert seen.queries[layer] is not None
        assert seen.queries[layer].shape[1] == 3 + 8 + 5 + 3 * 4  # all of them, padding left out


def test_queries_that_were_kept_see_the_whole_context_and_give_its_attention(monkeypatch):
    loaded, tiny, _, cache = read("qwen2_5_vl")
    monkeypatch.setattr("flowmm.observe.probes.question_ids", lambda _text, _loaded: question(6))
    answers = [Answer("a", "", (), "stop", 0, 0)]
    seen = replayed(cache, answers, loaded, Probes(queries=100))
    found = attentions(loaded, transformers_inputs(loaded, tiny, context(tiny), question(6))).attentions
    evidence = Evidence(torch.zeros(4, 0, 8), torch.zeros(0, dtype=torch.int64), 8**-0.5, asking=seen.queries[0])
    looked = attend(references(evidence, cache.num_tokens, torch.device("cpu")), cache.layers[0])
    share = found[0][0, :, cache.num_tokens :, : cache.num_tokens]  # [H_q, n, T]
    expected = share @ cache.layers[0].values.repeat_interleave(2, 0) / share.sum(-1, keepdim=True)
    torch.testing.assert_close(looked.output[0].flatten(0, 1), expected, **CLOSE)


def reconstructed(loaded: LoadedModel, tiny: Any, full: FullRead, cache: ContextCache, chunk: int) -> Seen:
    names = SimpleNamespace(decode=lambda ids, **_: "x" if ids else "")
    loaded = replace(loaded, tokenizer=names)
    return reconstruct(cache, context(tiny).token_ids, full.embedded, loaded, Reconstruct(chunk=chunk, queries=10))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "llava"])
def test_a_context_repeated_at_once_looks_like_transformers_reading_it_twice(family, monkeypatch):
    loaded, tiny, full, cache = read(family)
    request = question(5)
    monkeypatch.setattr(flowmm.observe.reconstruct, "question_ids", lambda _text, _loaded: request)
    seen = reconstructed(loaded, tiny, full, cache, 1000)
    prompt = context(tiny)
    asked = Piece(torch.tensor(request), torch.full((5,), int(Modality.TEMPLATE), dtype=torch.uint8))
    twice = Prompt((*prompt.pieces, asked, *prompt.pieces[1:-1]), ())
    inputs = transformers_inputs(loaded, tiny, twice, [])
    for name in tiny.pixels:
        inputs[name] = torch.cat([inputs[name], inputs[name]])
    found = attentions(loaded, inputs).attentions
    for layer, received in enumerate(seen.received):
        torch.testing.assert_close(received, largest(found[layer], cache.num_tokens, 2), **CLOSE)
        assert seen.queries[layer] is not None
        assert seen.queries[layer].shape[1] == 10


def test_each_chunk_looks_only_at_itself_and_the_template(monkeypatch):
    loaded, tiny, full, cache = read("llama")
    request = question(5)
    monkeypatch.setattr(flowmm.observe.reconstruct, "question_ids", lambda _text, _loaded: request)
    seen = reconstructed(loaded, tiny, full, cache, 8)
    ids = context(tiny).token_ids
    first, last, tokens = 4, cache.num_tokens - 1, cache.num_tokens
    expected = [torch.zeros(2, tokens) for _ in cache.layers]
    for start in range(first, last, 8):
        end = min(last, start + 8)
        whole = torch.cat([ids, torch.tensor(request), ids[start:end]])[None]
        allowed = torch.ones(whole.shape[1], whole.shape[1]).tril().bool()
        allowed[tokens:, first:last] = False
        allowed[tokens:, start:end] = True
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[None, None]
        found = attentions(loaded, {"input_ids": whole, "attention_mask": mask}).attentions
        for layer, total in enumerate(expected):
            total.copy_(total.maximum(largest(found[layer], tokens, 2)))
    for received, wanted in zip(seen.received, expected, strict=True):
        torch.testing.assert_close(received, wanted, **CLOSE)


def test_the_weight_of_a_value_is_its_length_behind_the_output_projection():
    loaded, _, _, cache = read("llama")
    layer = cache.layers[1]
    weight = loaded.model.model.layers[1].self_attn.o_proj.weight  # [hidden, H_q * D]
    parts = weight.view(32, 2, 2, 8)  # hidden, H_kv, G, D
    lengths = torch.einsum("okgd,ksd->kgso", parts, layer.values).norm(dim=-1)  # [H_kv, G, S]
    found = output_weight(loaded.model, 1, layer)
    torch.testing.assert_close(found, lengths.square().mean(1).sqrt(), atol=1e-4, rtol=1e-4)
