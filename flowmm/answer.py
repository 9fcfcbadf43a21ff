"""Answer questions over a stored context: the decode loop, for one question or many side by side."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch

from flowmm.context import ContextCache
from flowmm.decode import stored_decode
from flowmm.errors import UsageError
from flowmm.hf.asked import Asked
from flowmm.hf.attention import attention_of
from flowmm.hf.decoding import Decoder, Sampler, end_tokens
from flowmm.hf.graphs import CapturedStep, check_graphs, cuda_graph
from flowmm.hf.loading import LoadedModel
from flowmm.hf.recycling import RecyclingTail
from flowmm.hf.room import batch_that_fits
from flowmm.hf.rows import padded_rows
from flowmm.hf.tail import GrowingTail, Tail
from flowmm.records import Answer, Generation

OnText = Callable[[int, str], None]
_GROUP = 8  # questions enter once this share of the batch is free: reading one costs as much as reading a few


def answer(
    cache: ContextCache,
    questions: Sequence[str],
    loaded: LoadedModel,
    settings: Generation,
    *,
    on_text: OnText | None = None,
    through_end: bool = False,
) -> list[Answer]:
    """Answer questions, all of them side by side. The cache is read, never changed.

    Args:
        cache: the context, :func:`flowmm.hf.decoding.placed` for the model.
        questions: answered side by side, each as if it were alone.
        loaded: the model.
        settings: how to decode.
        on_text: called with a question's index and new text as it comes.
        through_end: write on behind the end of an answer, as far as the settings go: for measuring.

    Returns:
        Answers in the order of the questions.

    Raises:
        UsageError: an empty question, or settings that cannot be.
        CorruptFileError: the method in the context says nothing clear about decoding.
    """
    check_generation(settings)
    rows = _rows(questions, loaded, settings)
    ends = frozenset[int]() if through_end else end_tokens(loaded)
    return list(_in_order(cache, rows, loaded, settings, len(questions), ends, on_text))


def answer_all(
    cache: ContextCache,
    questions: Sequence[str],
    loaded: LoadedModel,
    settings: Generation,
    *,
    through_end: bool = False,
) -> Iterator[Answer]:
    """Answer any number of questions, in order: ``settings.batch`` side by side, or as many as memory holds.

    Whenever answers end, the next questions take their places. ``through_end`` as in :func:`answer`.
    """
    check_generation(settings)
    rows = _rows(questions, loaded, settings)
    if not rows:
        return
    longest = max(len(row.prompt) for row in rows)
    batch = settings.batch or batch_that_fits(cache, loaded.model, longest, settings.max_new_tokens)
    ends = frozenset[int]() if through_end else end_tokens(loaded)
    yield from _in_order(cache, rows, loaded, settings, min(batch, len(rows)), ends, None)


def check_generation(settings: Generation) -> None:
    """Raises UsageError for a value that cannot be."""
    problems = {
        f"--max-new-tokens {settings.max_new_tokens}: is less than 1": settings.max_new_tokens < 1,
        f"--temperature {settings.temperature}: is no number of at least 0": not settings.temperature >= 0,
        f"--top-p {settings.top_p}: is not in (0, 1]": not 0 < settings.top_p <= 1,
        f"--top-k {settings.top_k}: is negative": settings.top_k < 0,
        f"--batch {settings.batch}: is less than 1": settings.batch is not None and settings.batch < 1,
    }
    for problem, found in problems.items():
        if found:
            raise UsageError(problem, "See flowmm ask --help for what it takes.")


def _rows(questions: Sequence[str], loaded: LoadedModel, settings: Generation) -> list[Asked]:
    return [Asked(index, question, loaded, settings) for index, question in enumerate(questions)]


def _in_order(
    cache: ContextCache,
    rows: Sequence[Asked],
    loaded: LoadedModel,
    settings: Generation,
    size: int,
    ends: frozenset[int],
    on_text: OnText | None,
) -> Iterator[Answer]:
    """Answers in the order of the questions, each as soon as it and all before it are there."""
    waiting, ended, due = deque(rows), dict[int, Asked](), 0
    longest = max((len(row.prompt) for row in rows), default=0)
    batch = _Batch(cache, loaded, settings, size, longest, ends, on_text)
    while waiting or batch.active:
        room = size - len(batch.active)
        if waiting and room >= max(1, size // _GROUP):
            batch.enter([waiting.popleft() for _ in range(min(room, len(waiting)))])
        ended |= {row.index: row for row in batch.advance()}
        while due in ended:
            yield ended.pop(due).answer(cache.num_tokens)
            due += 1


class _Batch:
    """Questions side by side. Those that are being answered have the first rows of the decoder."""

    def __init__(
        self,
        cache: ContextCache,
        loaded: LoadedModel,
        settings: Generation,
        size: int,
        longest: int,
        ends: frozenset[int],
        on_text: OnText | None,
    ) -> None:
        capacity = longest + settings.max_new_tokens
        self._device, self._size = loaded.model.get_input_embeddings().weight.device, size
        self._loaded, self._longest, self._on_text = loaded, settings.max_new_tokens, on_text
        tail = _tail(cache, [longest] * size, capacity, fixed=settings.graphs)
        self._decoder = Decoder(loaded, cache, size, capacity, tail=tail)
        self._step: Callable[[torch.Tensor], torch.Tensor] = self._decoder.step
        self._captures = settings.graphs and settings.max_new_tokens > 1 and not tail.scores
        if self._captures:
            check_graphs(self._device)
        self._sampler = Sampler(settings, self._device)
        self._ends = ends
        self._logits = torch.zeros(0)  # [B, V] behind the last token of each question
        self.active: list[Asked] = []

    def enter(self, rows: Sequence[Asked]) -> None:
        """Read new questions."""
        began = time.perf_counter()
        for row in rows:
            row.began = began
        taken = slice(len(self.active), len(self.active) + len(rows))
        logits = _feed_questions(self._decoder, [row.prompt for row in rows], taken)
        self._logits = torch.cat([self._logits, logits]) if self.active else logits
        if self._captures:  # now that there are tails
            self._captures = False
            self._step = CapturedStep(self._decoder, self._size, self._device, cuda_graph)
        self.active += rows

    def advance(self) -> list[Asked]:
        """Write a token of each answer, until at least one has ended; returns those that have, which leave."""
        ended: list[Asked] = []
        with attention_of(self._loaded.model):
            while self.active and not ended:
                tokens = self._sampler(self._logits, [row.index for row in self.active])
                for row, token in zip(self.active, tokens.tolist(), strict=True):
                    self._tell(row, row.take(token, self._ends))
                places = [place for place, row in enumerate(self.active) if row.ended(self._longest)]
                ended += [self._leave(place, tokens) for place in reversed(places)]
                if self.active:
                    self._logits = self._step(tokens[: len(self.active)])
        return ended

    def _leave(self, place: int, tokens: torch.Tensor) -> Asked:
        """Take a question out; the last one gets its row."""
        row, last = self.active[place], self.active.pop()
        if last is not row:
            self.active[place] = last
            self._decoder.move(len(self.active), place)
            tokens[place] = tokens[len(self.active)]
        self._tell(row, row.close())
        return row

    def _tell(self, row: Asked, text: str) -> None:
        if text and self._on_text is not None:
            self._on_text(row.index, text)


def _tail(cache: ContextCache, lengths: Sequence[int], capacity: int, *, fixed: bool = False) -> Tail:
    """What the context's method wants; one that evicts nothing where it says nothing, or where no bin would fill."""
    made = cache.provenance.compression
    decode = None if made is None else stored_decode(made.method_text)
    if decode is None or capacity < decode.keep + decode.bin:
        return GrowingTail(len(lengths), capacity, fixed=fixed)
    return RecyclingTail(lengths, capacity, decode)


def _feed_questions(decoder: Decoder, prompts: Sequence[Sequence[int]], rows: slice | None = None) -> torch.Tensor:
    """Feed questions: ``[B, V]`` logits behind their last tokens.

    They are padded on the left, so that all end in the last column and the head runs on one token each.
    """
    rows = slice(0, len(prompts)) if rows is None else rows
    decoder.enter(rows, [len(prompt) for prompt in prompts])
    return decoder.feed(*padded_rows(prompts, left=True), rows)
