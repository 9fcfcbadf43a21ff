"""Every family, against transformers' own forward pass: what is stored and asked must be what was read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flowmm.context import ContextCache, LayerCache
from flowmm.hf.attention import attention_of
from flowmm.hf.decoding import Decoder, placed
from flowmm.hf.loading import LoadedModel
from flowmm.prefill import prefill
from flowmm.records import Provenance
from tests.conformance.families import FAMILIES, Tiny, build, context, question, transformers_inputs

CLOSE = {"atol": 1e-4, "rtol": 0.0}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[LoadedModel, Tiny]:
    return build(request.param)


def read(loaded: LoadedModel, tiny: Tiny, chunk_tokens: int = 2048) -> ContextCache:
    full = prefill(context(tiny), loaded, chunk_tokens=chunk_tokens)
    return ContextCache(full.layers, full.modality, full.next_position, Provenance(loaded.identity, ()))


def logits_of(loaded: LoadedModel, cache: ContextCache, questions: list[list[int]], steps: int = 0) -> list[Tensor]:
    """Logits behind each question and behind each of ``steps`` greedy tokens: a list of ``[B, V]``."""
    from flowmm.answer import _feed_questions

    decoder = Decoder(loaded, placed(cache, loaded), len(questions), max(map(len, questions)) + steps)
    found = [_feed_questions(decoder, questions)]
    for _ in range(steps):
        tokens = found[-1].argmax(-1)[:, None]
        found.append(decoder.feed(tokens, torch.ones_like(tokens, dtype=torch.bool)))
    return found


def greedy(loaded: LoadedModel, cache: ContextCache, ids: list[int], tokens: int) -> list[int]:
    return [int(logits.argmax(-1)) for logits in logits_of(loaded, cache, [ids], tokens - 1)]


def shortened(cache: ContextCache, seed: int = 7) -> ContextCache:
    """Other slots and another number of them in every layer and head; the cut is drawn, order is kept."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for number, layer in enumerate(cache.layers):
        lengths = torch.tensor([3 + 2 * number + head for head in range(layer.keys.shape[0])])
        index = torch.zeros(layer.keys.shape[0], int(lengths.max()), dtype=torch.int64)
        for head, length in enumerate(lengths.tolist()):
            drawn = torch.randperm(cache.num_tokens, generator=generator)[:length]
            index[head, :length] = drawn.sort().values
        wide = index[..., None].expand(-1, -1, layer.keys.shape[2])
        layers.append(
            LayerCache(
                layer.keys.gather(1, wide),
                layer.values.gather(1, wide),
                layer.position.gather(1, index),
                layer.modality.gather(1, index),
                lengths,
                window=layer.window,
            )
        )
    return replace(cache, layers=tuple(layers))


def test_a_full_cache_answers_like_transformers(family: tuple[LoadedModel, Tiny]) -> None:
    loaded, tiny = family
    ids = question(6)
    inputs = transformers_inputs(loaded, tiny, context(tiny), ids)
    expected = loaded.model.generate(**inputs, max_new_tokens=32, min_new_tokens=32, do_sample=False)
    assert (
        greedy_without_end(loaded, read(loaded, tiny), ids, 32) == expected[0, inputs["input_ids"].shape[1] :].tolist()
    )


def greedy_without_end(loaded: LoadedModel, cache: ContextCache, ids: list[int], tokens: int) -> list[int]:
    """Greedy tokens while the end token (2) is barred, as ``min_new_tokens`` does."""
    from flowmm.answer import _feed_questions

    decoder = Decoder(loaded, placed(cache, loaded), 1, len(ids) + tokens)
    logits = _feed_questions(decoder, [ids])
    found: list[int] = []
    end = torch.arange(logits.shape[-1]) == 2
    while True:
        found.append(int(logits.masked_fill(end, float("-inf")).argmax(-1)))
        if len(found) == tokens:
            return found
        logits = decoder.feed(torch.tensor([[found[-1]]]), torch.ones(1, 1, dtype=torch.bool))


def test_a_full_cache_has_the_logits_of_one_forward_pass(family: tuple[LoadedModel, Tiny]) -> None:
    loaded, tiny = family
    ids = question(6)
    expected = loaded.model(**transformers_inputs(loaded, tiny, context(tiny), ids)).logits[:, -1]
    torch.testing.assert_close(logits_of(loaded, read(loaded, tiny), [ids])[0], expected, **CLOSE)


class MaskedAttention:
    """The plainest attention there is, over the full cache with an explicit mask: what ours is held against."""

    def __init__(self, full: ContextCache, kept: ContextCache) -> None:
        self.keys = [layer.keys for layer in full.layers]
        self.values = [layer.values for layer in full.layers]
        self.windows = [layer.window for layer in full.layers]
        self.seen = [_kept_mask(layer, full.num_tokens) for layer in kept.layers]  # each [H_kv, T] bool

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        keys = self.keys[layer] = torch.cat([self.keys[layer], key[0]], 1)
        values = self.values[layer] = torch.cat([self.values[layer], value[0]], 1)
        group, n, total = query.shape[1] // keys.shape[0], query.shape[2], keys.shape[1]
        at, of = torch.arange(total), torch.arange(total - n, total)[:, None]
        allowed = (at <= of).expand(keys.shape[0], -1, -1).clone()
        stored = self.seen[layer].shape[1]
        allowed[:, :, :stored] &= self.seen[layer][:, None]
        if self.windows[layer] is not None:
            allowed &= at > of - self.windows[layer]
        logits = query[0] @ keys.repeat_interleave(group, 0).transpose(1, 2) * scale
        hidden = ~allowed.repeat_interleave(group, 0)
        weights = logits.masked_fill(hidden, float("-inf")).softmax(-1)
        return (weights @ values.repeat_interleave(group, 0))[None]


def _kept_mask(layer: LayerCache, num_tokens: int) -> Tensor:
    mask = torch.zeros(layer.position.shape[0], num_tokens, dtype=torch.bool)
    for head, length in enumerate(layer.lengths.tolist()):
        mask[head, layer.position[head, :length].long()] = True
    return mask


def test_heads_of_different_lengths_equal_an_explicit_mask_over_the_full_cache(
    family: tuple[LoadedModel, Tiny],
) -> None:
    loaded, tiny = family
    full = read(loaded, tiny)
    short = shortened(full)
    ids = torch.tensor([question(16)])
    position = full.next_position + torch.arange(16)[None]
    with attention_of(loaded.model):
        masked = MaskedAttention(full, short)
        expected = loaded.model(input_ids=ids, position_ids=position, use_cache=False, flowmm=masked).logits[:, -1]
    found = logits_of(loaded, short, [question(16)])[0]
    torch.testing.assert_close(found, expected, **CLOSE)
    untouched = logits_of(loaded, full, [question(16)])[0]
    assert not torch.allclose(found, untouched, atol=1e-2), "the cut changed nothing, so this test shows nothing"


def test_a_slot_with_log_two_equals_the_slot_twice(family: tuple[LoadedModel, Tiny]) -> None:
    loaded, tiny = family
    cache = read(loaded, tiny)
    twice, merged = [], []
    for layer in cache.layers:
        order = torch.tensor([*range(12), *range(11, cache.num_tokens)])
        twice.append(
            replace(
                layer,
                keys=layer.keys[:, order],
                values=layer.values[:, order],
                position=layer.position[:, order],
                modality=layer.modality[:, order],
                lengths=layer.lengths + 1,
            )
        )
        bias = torch.zeros(layer.position.shape)
        bias[:, 11] = torch.log(torch.tensor(2.0))
        merged.append(replace(layer, bias=bias))
    found = logits_of(loaded, replace(cache, layers=tuple(merged)), [question(5)], steps=1)
    expected = logits_of(loaded, replace(cache, layers=tuple(twice)), [question(5)], steps=1)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("chunk_tokens", [1, 7])
def test_reading_in_chunks_equals_one_pass(family: tuple[LoadedModel, Tiny], chunk_tokens: int) -> None:
    loaded, tiny = family
    for chunked, whole in zip(read(loaded, tiny, chunk_tokens).layers, read(loaded, tiny).layers, strict=True):
        torch.testing.assert_close(chunked.keys, whole.keys, **CLOSE)
        torch.testing.assert_close(chunked.values, whole.values, **CLOSE)


def test_four_questions_side_by_side_equal_four_alone(family: tuple[LoadedModel, Tiny]) -> None:
    loaded, tiny = family
    cache = shortened(read(loaded, tiny))
    questions = [question(length, seed=length) for length in (9, 1, 4, 6)]
    together = logits_of(loaded, cache, questions, steps=3)
    for row, ids in enumerate(questions):
        alone = logits_of(loaded, cache, [ids], steps=3)
        torch.testing.assert_close([step[row] for step in together], [step[0] for step in alone], **CLOSE)


def test_two_contexts_in_turn_do_not_disturb_each_other(family: tuple[LoadedModel, Tiny]) -> None:
    loaded, tiny = family
    first, second = shortened(read(loaded, tiny), seed=1), shortened(read(loaded, tiny), seed=2)
    before = [logits_of(loaded, cache, [question(5)])[0] for cache in (first, second)]
    after = [logits_of(loaded, cache, [question(5)])[0] for cache in (first, second)]
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert not torch.allclose(before[0], before[1], atol=1e-3)


def test_the_model_is_as_it_was_after_reading_and_asking(family: tuple[LoadedModel, Tiny]) -> None:
    loaded, tiny = family
    inputs = transformers_inputs(loaded, tiny, context(tiny), question(3))
    before = loaded.model(**inputs).logits
    logits_of(loaded, read(loaded, tiny), [question(3)])
    assert torch.equal(loaded.model(**inputs).logits, before)
