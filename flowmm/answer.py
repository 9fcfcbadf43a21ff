"""Answer questions over a stored context: the decode loop, for one question or a batch side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch

from flowmm.context import ContextCache
from flowmm.decode import stored_decode
from flowmm.errors import UsageError
from flowmm.hf.decoding import Decoder, Sampler, TextStream, end_tokens
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import question_ids
from flowmm.hf.recycling import RecyclingTail
from flowmm.hf.tail import GrowingTail, Tail
from flowmm.records import Answer, Generation


def answer(
    cache: ContextCache,
    questions: Sequence[str],
    loaded: LoadedModel,
    settings: Generation,
    *,
    on_text: Callable[[int, str], None] | None = None,
) -> list[Answer]:
    """Answer one batch of questions. The cache is read, never changed.

    Args:
        cache: the context, :func:`flowmm.hf.decoding.placed` for the model.
        questions: answered side by side, each as if it were alone.
        loaded: the model.
        settings: how to decode.
        on_text: called with a question's index and new text as it comes.

    Returns:
        Answers in the order of the questions.

    Raises:
        UsageError: an empty question, or settings that cannot be.
        CorruptFileError: the method in the context says nothing clear about decoding.
    """
    check_generation(settings)
    began = time.perf_counter()
    rows = [_Row(index, question, loaded, settings) for index, question in enumerate(questions)]
    lengths = [len(row.prompt) for row in rows]
    capacity = max(lengths) + settings.max_new_tokens
    decoder = Decoder(loaded, cache, len(rows), capacity, tail=_tail(cache, lengths, capacity))
    logits = _feed_questions(decoder, [row.prompt for row in rows])
    sampler = Sampler(settings, range(len(rows)), logits.device)
    ends = end_tokens(loaded)
    first_token = None
    for step in range(settings.max_new_tokens):
        tokens = sampler(logits)
        first_token = first_token or time.perf_counter()
        for row, token in zip(rows, tokens.tolist(), strict=True):
            text = row.take(token, ends)
            if text and on_text is not None:
                on_text(row.index, text)
        if all(row.finished for row in rows) or step + 1 == settings.max_new_tokens:
            break
        logits = decoder.feed(tokens[:, None], torch.ones(len(rows), 1, dtype=torch.bool))
    ended = time.perf_counter()
    seconds = {"first_token": (first_token or ended) - began, "total": ended - began}
    for row in rows:
        text = row.close()
        if text and on_text is not None:
            on_text(row.index, text)
    return [row.answer(cache.num_tokens, seconds) for row in rows]


def answer_all(
    cache: ContextCache, questions: Sequence[str], loaded: LoadedModel, settings: Generation
) -> Iterator[Answer]:
    """Answer any number of questions, ``settings.batch`` at a time, in order."""
    for start in range(0, len(questions), settings.batch):
        yield from answer(cache, questions[start : start + settings.batch], loaded, settings)


def check_generation(settings: Generation) -> None:
    """Raises UsageError for a value that cannot be."""
    problems = {
        f"--max-new-tokens {settings.max_new_tokens}: is less than 1": settings.max_new_tokens < 1,
        f"--temperature {settings.temperature}: is negative": settings.temperature < 0,
        f"--top-p {settings.top_p}: is not in (0, 1]": not 0 < settings.top_p <= 1,
        f"--top-k {settings.top_k}: is negative": settings.top_k < 0,
        f"--batch {settings.batch}: is less than 1": settings.batch < 1,
    }
    for problem, found in problems.items():
        if found:
            raise UsageError(problem, "See flowmm ask --help for what it takes.")


def _tail(cache: ContextCache, lengths: Sequence[int], capacity: int) -> Tail:
    """What the context's method wants; one that evicts nothing where it says nothing, or where no bin would fill."""
    made = cache.provenance.compression
    decode = None if made is None else stored_decode(made.method_text)
    if decode is None or capacity < decode.keep + decode.bin:
        return GrowingTail(len(lengths), capacity)
    return RecyclingTail(lengths, capacity, decode)


def _feed_questions(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Right-pad and feed all but the last tokens, then the last ones as one column: ``[B, V]`` logits behind them.

    So the head runs on one token per question, wherever each question ends.
    """
    longest = max(len(prompt) for prompt in prompts) - 1
    if longest > 0:
        lengths = torch.tensor([len(prompt) - 1 for prompt in prompts])
        real = torch.arange(longest) < lengths[:, None]
        token_ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            token_ids[row, : len(prompt) - 1] = torch.tensor(prompt[:-1], dtype=torch.int64)
        decoder.feed(token_ids, real)
    last = torch.tensor([[prompt[-1]] for prompt in prompts])
    return decoder.feed(last, torch.ones_like(last, dtype=torch.bool))


class _Row:
    """One question of a batch and what has come out for it so far."""

    def __init__(self, index: int, question: str, loaded: LoadedModel, settings: Generation) -> None:
        self.index, self.question = index, question
        self.prompt = question_ids(question, loaded)
        self.finished = ""
        self._stream = TextStream(loaded, settings.stop)
        self._tokens: list[int] = []
        self._text = ""

    def take(self, token: int, ends: frozenset[int]) -> str:
        """Take in a token; new text, if any. A finished row takes nothing."""
        if self.finished:
            return ""
        if token in ends:
            self.finished = "stop"
            return ""
        self._tokens.append(token)
        text = self._stream.push(token)
        self._text += text
        if self._stream.stopped:
            self.finished = "stop"
        return text

    def close(self) -> str:
        """The text still held back at the end."""
        rest = self._stream.flush()
        self._text += rest
        return rest

    def answer(self, tokens_reused: int, seconds: dict[str, float]) -> Answer:
        return Answer(
            question=self.question,
            text=self._text.strip(),
            token_ids=tuple(self._tokens),
            finished=self.finished or "length",
            tokens_reused=tokens_reused,
            tokens_prefilled=len(self.prompt),
            seconds=seconds,
        )
