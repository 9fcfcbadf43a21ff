"""Questions that enter and leave a batch: each must be answered as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import flowmm.answer
import flowmm.hf.asked
from flowmm.answer import answer, answer_all
from flowmm.context import ContextCache
from flowmm.errors import UsageError
from flowmm.hf.decoding import Decoder, placed
from flowmm.hf.graphs import CapturedStep
from flowmm.hf.loading import LoadedModel
from flowmm.hf.room import batch_that_fits, tail_bytes
from flowmm.hf.tail import GrowingTail
from flowmm.records import Compression, Generation
from tests.conformance.families import build, question
from tests.conformance.test_families import CLOSE, read, shortened
from tests.conformance.test_recycling import Silent

END = -1
ASKED = [3, 11, 1, 6, 9, 2, 7]  # tokens of each question
WRITTEN = [4, 2, 9, 1, 5, 3, 6]  # of each answer
LOOKS = ""
RECYCLES = "title: t\ndecode: {keep: 4, bin: 2}\n"


class Recorder:
    """Stands in for the sampler: takes the likeliest token, ends each answer at its length, keeps the logits."""

    def __init__(self, lengths: Sequence[int] = WRITTEN) -> None:
        self.lengths = lengths
        self.logits: dict[int, list[Tensor]] = defaultdict(list)
        self.together: list[list[int]] = []

    def __call__(self, logits: Tensor, streams: Sequence[int]) -> Tensor:
        self.together.append(list(streams))
        tokens = logits.argmax(-1)
        for row, stream in enumerate(streams):
            self.logits[stream].append(logits[row].clone())
            if len(self.logits[stream]) > self.lengths[stream]:
                tokens[row] = END
        return tokens


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(flowmm.hf.asked, "question_ids", lambda text, _: question(int(text), seed=int(text)))
    monkeypatch.setattr(flowmm.hf.asked, "TextStream", lambda _loaded, _stop: Silent())
    monkeypatch.setattr(flowmm.answer, "end_tokens", lambda _: frozenset({END}))
    return [str(length) for length in ASKED]


def cache_of(family: str, method: str = "") -> tuple[LoadedModel, ContextCache]:
    loaded, tiny = build(family)
    cache = placed(shortened(read(loaded, tiny)), loaded)
    made = Compression("mine", method or "title: t\n", "default", "", 1.0, 1.0, 0, ())
    return loaded, replace(cache, provenance=replace(cache.provenance, compression=made))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])  # gemma3 has layers with a window of 8
@pytest.mark.parametrize("method", ["", RECYCLES])
def test_questions_that_come_and_go_are_answered_as_if_alone(
    family: str, method: str, questions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, cache = cache_of(family, method)
    alone, many = Recorder(), Recorder()
    settings = Generation(max_new_tokens=20, batch=3)
    for number, text in enumerate(questions):
        one = Recorder([WRITTEN[number]])
        monkeypatch.setattr(flowmm.answer, "Sampler", lambda *_, one=one: one)
        answer(cache, [text], loaded, settings)
        alone.logits[number] = one.logits[0]
    monkeypatch.setattr(flowmm.answer, "Sampler", lambda *_: many)
    found = list(answer_all(cache, questions, loaded, settings))
    assert [one.question for one in found] == questions
    assert [len(one.token_ids) for one in found] == WRITTEN
    for number in range(len(questions)):
        torch.testing.assert_close(many.logits[number], alone.logits[number], **CLOSE)
    assert max(map(len, many.together)) == 3
    assert {number for step in many.together for number in step} == set(range(7))


def test_a_row_is_freed_as_soon_as_its_answer_ends(questions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, cache = cache_of("qwen2_5_vl")
    recorder = Recorder()
    monkeypatch.setattr(flowmm.answer, "Sampler", lambda *_: recorder)
    list(answer_all(cache, questions, loaded, Generation(max_new_tokens=20, batch=3)))
    # Answers of 4, 2 and 9 tokens: the second ends at the third step, with its end token.
    assert [sorted(step) for step in recorder.together[:6]] == [[0, 1, 2]] * 3 + [[0, 2, 3]] * 2 + [[2, 4, 5]]
    assert sum(map(len, recorder.together)) == sum(WRITTEN) + len(WRITTEN), "a row ran on after its end"


def test_the_whole_buffer_shown_in_every_call_changes_nothing() -> None:
    loaded, cache = cache_of("gemma3")
    ids = torch.tensor([question(5, seed=1), question(5, seed=2)])
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    found = []
    for fixed in (False, True):
        decoder = Decoder(loaded, cache, 3, 9, tail=GrowingTail(3, 9, fixed=fixed))
        logits = [decoder.feed(ids, real, slice(1, 3))]
        logits.append(decoder.feed(ids[:1], real[:1], slice(0, 1)))
        logits += [decoder.step(torch.tensor([7, 8, 9])) for _ in range(4)]
        found.append([logits[0][0], *logits[1:]])  # the second row of the first call ends in padding
    torch.testing.assert_close(found[0], found[1], **CLOSE)


def test_decoding_keeps_nothing_for_gradients_and_questions_enter_behind_a_step() -> None:
    loaded, cache = cache_of("qwen2_5_vl")
    decoder = Decoder(loaded, cache, 2, 9)
    decoder.feed(torch.tensor([question(2)] * 2), torch.ones(2, 2, dtype=torch.bool))
    assert decoder.step(torch.tensor([5, 6])).is_inference()
    decoder.move(1, 0)  # both write into what the step wrote into
    decoder.enter(slice(1, 2), [2])
    assert decoder.feed(torch.tensor([question(2)]), torch.ones(1, 2, dtype=torch.bool), slice(1, 2)).is_inference()


def test_what_a_watcher_sees_may_be_trained_on() -> None:
    loaded, cache = cache_of("qwen2_5_vl")
    found: list[Tensor] = []

    class Keeping:
        def begin(self, real: Tensor) -> None: ...

        def hidden(self, layer: int, states: Tensor) -> None:
            found.append(states)

        def see(self, layer: int, queries: Tensor, total: Tensor, scale: float, bias: Tensor | None) -> None:
            found.extend((queries, total))

    decoder = Decoder(loaded, cache, 1, 2, watcher=Keeping())
    assert not decoder.feed(torch.tensor([question(2)]), torch.ones(1, 2, dtype=torch.bool)).is_inference()
    assert found
    assert not any(one.is_inference() for one in found)


def test_rows_of_a_fixed_batch_that_run_on_behind_their_end_disturb_nobody() -> None:
    loaded, cache = cache_of("qwen2_5_vl")
    found = []
    for idle in (0, 1):
        decoder = Decoder(loaded, cache, 2, 6, tail=GrowingTail(2, 6, fixed=True))
        decoder.feed(torch.tensor([question(2)] * 2), torch.ones(2, 2, dtype=torch.bool))
        for _ in range(9 * idle):
            decoder.step(torch.tensor([5, 6]))
        decoder.enter(slice(0, 1), [2])
        decoder.feed(torch.tensor([question(2)]), torch.ones(1, 2, dtype=torch.bool), slice(0, 1))
        found.append(torch.stack([decoder.step(torch.tensor([3, 4]))[0] for _ in range(3)]))
    torch.testing.assert_close(found[0], found[1], **CLOSE)
    assert bool(found[0].isfinite().all())


def test_memory_decides_how_many_are_answered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, cache = cache_of("qwen2_5_vl")
    assert tail_bytes(cache) == sum(4 * 2 * (layer.keys.shape[2] * 2) for layer in cache.layers)
    text = loaded.model.config.get_text_config(decoder=True)
    row = 31 * tail_bytes(cache) + 10 * text.hidden_size * 4 * 16 + 8 * text.vocab_size
    for free, batch in ((0, 1), (2 * 5 * row, 5), (10**12, 64), (None, 64)):
        monkeypatch.setattr("flowmm.hf.room.free_memory", lambda _device, free=free: free)
        assert batch_that_fits(cache, loaded.model, 10, 20) == batch


def test_a_captured_step_runs_all_rows_and_gives_those_that_are_asked_for() -> None:
    loaded, cache = cache_of("qwen2_5_vl")

    def fed() -> Decoder:
        tail = GrowingTail(3, 12, fixed=True)
        decoder = Decoder(loaded, cache, 3, 12, tail=tail)
        decoder.feed(torch.tensor([question(4)] * 2), torch.ones(2, 4, dtype=torch.bool), slice(0, 2))
        with torch.inference_mode():
            tail._held = tail._held.clone()  # as on a GPU, where the first call moves it
        return decoder

    def run_twice_before(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        work(), work()
        return work

    plain = fed()
    captured = CapturedStep(fed(), 3, torch.device("cpu"), run_twice_before)
    for tokens in ([5, 6], [7, 8], [9, 10]):
        fresh = torch.tensor(tokens)
        torch.testing.assert_close(captured(fresh), plain.step(fresh), **CLOSE)


def test_graphs_are_refused_where_there_are_none(questions: list[str]) -> None:
    loaded, cache = cache_of("qwen2_5_vl")
    with pytest.raises(UsageError, match="CUDA graphs were asked for on cpu"):
        answer(cache, questions, loaded, Generation(graphs=True))
