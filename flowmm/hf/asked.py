"""One question that is being answered: its tokens, and what has come out for it so far."""

from __future__ import annotations

import time

from flowmm.hf.decoding import TextStream
from flowmm.hf.loading import LoadedModel
from flowmm.hf.prompt import question_ids
from flowmm.records import Answer, Generation


class Asked:
    """One question and what has come out for it so far."""

    def __init__(self, index: int, question: str, loaded: LoadedModel, settings: Generation) -> None:
        began = time.perf_counter()
        self.index, self.question = index, question
        self.prompt = question_ids(question, loaded)
        self.finished = ""
        self.began = 0.0  # when its turn came
        self._encoding = time.perf_counter() - began
        self._seconds: dict[str, float] = {}
        self._stream = TextStream(loaded, settings.stop)
        self._tokens: list[int] = []
        self._text = ""

    def take(self, token: int, ends: frozenset[int]) -> str:
        """Take in a token; new text, if any."""
        self._lap("first_token")
        if token in ends:
            self.finished = "stop"
            return ""
        self._tokens.append(token)
        text = self._stream.push(token)
        self._text += text
        if self._stream.stopped:
            self.finished = "stop"
        return text

    def ended(self, longest: int) -> bool:
        """Whether nothing more is to come."""
        return bool(self.finished) or len(self._tokens) >= longest

    def close(self) -> str:
        """The text still held back at the end."""
        self._lap("total")
        rest = self._stream.flush()
        self._text += rest
        return rest

    def _lap(self, name: str) -> None:
        self._seconds.setdefault(name, time.perf_counter() - self.began + self._encoding)

    def answer(self, tokens_reused: int) -> Answer:
        """What came out."""
        return Answer(
            question=self.question,
            text=self._text.strip(),
            token_ids=tuple(self._tokens),
            finished=self.finished or "length",
            tokens_reused=tokens_reused,
            tokens_prefilled=len(self.prompt),
            seconds=self._seconds,
        )
