"""The recycle bin in whole models: against an attention that keeps everything and hides what has gone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import flowmm.answer
import flowmm.hf.asked
from flowmm.answer import _feed_questions, answer
from flowmm.context import ContextCache
from flowmm.decode import Decode
from flowmm.hf.attention import attention_of
from flowmm.hf.decoding import Decoder, placed
from flowmm.hf.loading import LoadedModel
from flowmm.hf.recycling import RecyclingTail
from flowmm.records import Compression, Generation
from tests.conformance.families import build, question
from tests.conformance.test_families import CLOSE, read, shortened

SMALL = Decode(keep=5, bin=3, recent=0.4)  # the newest two are spared
FAMILIES = ["qwen2_5_vl", "gemma3"]  # gemma3 has layers with a window of 8


def short(family: str) -> tuple[LoadedModel, ContextCache]:
    loaded, tiny = build(family)
    for layer in loaded.model.get_decoder().layers:
        layer.self_attn.q_proj.weight.mul_(8)  # looks that tell slots apart, so that heads drop different ones
    return loaded, placed(shortened(read(loaded, tiny)), loaded)


def decoded(
    loaded: LoadedModel, cache: ContextCache, questions: list[list[int]], fed: list[list[int]], decode: Decode | None
) -> tuple[list[Tensor], RecyclingTail | None]:
    """Logits ``[B, V]`` behind each question and behind each token of ``fed``, which takes the place of an answer."""
    capacity = max(map(len, questions)) + len(fed[0])
    tail = None if decode is None else RecyclingTail([*map(len, questions)], capacity, decode)
    decoder = Decoder(loaded, cache, len(questions), capacity, tail=tail)
    found = [_feed_questions(decoder, questions)]
    real = torch.ones(len(questions), 1, dtype=torch.bool)
    found += [decoder.feed(column[:, None], real) for column in torch.tensor(fed).T]
    return found, tail


class HidingAttention:
    """Keeps every token of one question and hides, head by head in plain loops, what the recycle bin has dropped."""

    def __init__(self, cache: ContextCache, asked: int, decode: Decode) -> None:
        self.layers, self.asked, self.decode = cache.layers, asked, decode
        self.first = cache.next_position
        self.keys = [[layer.keys[h] for h in range(2)] for layer in cache.layers]
        self.values = [[layer.values[h] for h in range(2)] for layer in cache.layers]
        # Of each head: what is left of the tail, what of it is in the bin, and the sums, by number of the token.
        self.left: list[list[list[int]]] = [[[], []] for _ in cache.layers]
        self.binned: list[list[list[int]]] = [[[], []] for _ in cache.layers]
        self.sums: list[list[dict[int, float]]] = [[{}, {}] for _ in cache.layers]
        self.dropped = 0

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        heads = []
        for head in range(2):
            self.keys[layer][head] = torch.cat([self.keys[layer][head], key[0, head]])
            self.values[layer][head] = torch.cat([self.values[layer][head], value[0, head]])
            heads.append(self._head(layer, head, query[0, 2 * head : 2 * head + 2, 0], scale))
        return torch.stack(heads).view(1, 4, 1, -1)

    def _head(self, layer: int, head: int, query: Tensor, scale: float) -> Tensor:
        stored = self.layers[layer]
        total, slots = self.keys[layer][head].shape[0], stored.keys.shape[1]
        token = total - slots - 1
        left, binned, sums = self.left[layer][head], self.binned[layer][head], self.sums[layer][head]
        left.append(token)
        sums[token] = 0.0
        seen = torch.zeros(total, dtype=torch.bool)
        seen[: int(stored.lengths[head])] = True
        seen[[slots + one for one in left]] = True
        if stored.window is not None:
            position = torch.cat([stored.position[head].long(), self.first + torch.arange(token + 1)])
            seen &= position > self.first + token - stored.window
        logits = (query @ self.keys[layer][head].T * scale).masked_fill(~seen, float("-inf"))
        weights = logits.softmax(-1)
        if token >= self.asked - 1:
            for one in left:
                sums[one] += float(weights[:, slots + one].mean())
            while len(binned) < min(self.decode.bin, len(left) - self.decode.keep):
                free = [one for one in left if one not in (*binned, token, token - 1, self.asked - 1)]
                binned.append(min(free, key=sums.__getitem__))
            if len(binned) == self.decode.bin:
                left[:] = [one for one in left if one not in binned]
                self.dropped += len(binned)
                binned.clear()
        return weights @ self.values[layer][head]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [2, 11])  # shorter than what is kept, and longer than that and the bin
def test_the_bin_equals_hiding_what_it_dropped_from_a_tail_that_keeps_everything(family: str, length: int) -> None:
    loaded, cache = short(family)
    ids, fed = question(length), question(24, seed=3)
    found, tail = decoded(loaded, cache, [ids], [fed], SMALL)
    hiding = HidingAttention(cache, length, SMALL)
    expected = []
    with attention_of(loaded.model), torch.no_grad():
        for number, token in enumerate([*ids, *fed]):
            position = torch.tensor([[cache.next_position + number]])
            output = loaded.model(
                input_ids=torch.tensor([[token]]), position_ids=position, use_cache=False, flowmm=hiding
            )
            expected.append(output.logits[:, -1])
    torch.testing.assert_close(found, expected[length - 1 :], **CLOSE)
    assert hiding.dropped >= 6 * 2 * len(cache.layers)
    assert tail is not None
    rows = [row[: int(tail._held)] for slots in tail._layers.values() for row in slots.position[0]]
    lefts = [(row - cache.next_position).tolist() for row in rows]
    assert lefts == [left for layer in hiding.left for left in layer]
    assert len({tuple(left) for left in lefts}) > 2, "all heads dropped the same, so this test shows little"
    plain = decoded(loaded, cache, [ids], [fed], None)[0]
    assert not torch.allclose(found[-1], plain[-1], atol=1e-2), "eviction changed nothing, so this test shows nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_four_questions_side_by_side_equal_four_alone_while_they_drop(family: str) -> None:
    loaded, cache = short(family)
    questions = [question(length, seed=length) for length in (9, 1, 4, 6)]
    fed = [question(15, seed=seed) for seed in range(20, 24)]
    together, tail = decoded(loaded, cache, questions, fed, SMALL)
    for row, ids in enumerate(questions):
        alone = decoded(loaded, cache, [ids], [fed[row]], SMALL)[0]
        torch.testing.assert_close([step[row] for step in together], [step[0] for step in alone], **CLOSE)
    assert tail is not None
    assert len(set(tail._held.tolist())) > 1, "all questions dropped in step, so this test shows little"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bin_that_never_fills_changes_nothing(family: str) -> None:
    loaded, cache = short(family)
    ids, fed = question(6), [question(20, seed=1)]
    plain = decoded(loaded, cache, [ids], fed, None)[0]
    for decode in (Decode(keep=26, bin=1), Decode(keep=20, bin=7)):
        found = decoded(loaded, cache, [ids], fed, decode)[0]
        torch.testing.assert_close(found, plain, **CLOSE)


def test_a_tail_takes_no_more_memory_however_long_the_answer() -> None:
    loaded, cache = short("gemma3")
    for length, width in ((5, 8), (30, 30)):
        _, tail = decoded(loaded, cache, [question(length)], [question(200, seed=2)], SMALL)
        assert tail is not None
        for slots in tail._layers.values():
            assert {tensor.shape[2] for tensor in vars(slots).values()} == {width}
            assert slots.keys.untyped_storage().nbytes() == 4 * 2 * width * 8


def test_an_answer_evicts_only_where_the_method_says_so_and_a_bin_could_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, cache = short("qwen2_5_vl")
    made: list[object] = []
    monkeypatch.setattr(flowmm.hf.asked, "question_ids", lambda _text, _loaded: question(6))
    monkeypatch.setattr(flowmm.hf.asked, "TextStream", lambda _loaded, _stop: Silent())
    monkeypatch.setattr(flowmm.answer, "end_tokens", lambda _loaded: frozenset())
    monkeypatch.setattr(flowmm.answer, "Decoder", lambda *parts, tail: made.append(tail) or Decoder(*parts, tail=tail))

    def tokens(text: str) -> tuple[int, ...]:
        compression = Compression("mine", text, "default", "", 1.0, 1.0, 0, ())
        with_method = replace(cache, provenance=replace(cache.provenance, compression=compression))
        return answer(with_method, ["?"], loaded, Generation(max_new_tokens=30))[0].token_ids

    plain = tokens("title: t\n")
    assert tokens("title: t\ndecode: {keep: 30, bin: 7}\n") == plain  # 6 + 30 tokens never fill it
    assert [type(tail).__name__ for tail in made] == ["GrowingTail"] * 2
    assert tokens("title: t\ndecode: {keep: 2, bin: 1}\n") != plain
    assert type(made[-1]).__name__ == "RecyclingTail"


class Silent:
    """A stream of no text."""

    stopped = False

    def push(self, _token: int) -> str:
        return ""

    def flush(self) -> str:
        return ""
