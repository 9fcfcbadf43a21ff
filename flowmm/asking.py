"""Answer questions from context files: the model is loaded once, each file when its questions come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from flowmm.header import read_header
from flowmm.hf.hub import READER
from flowmm.records import Answer, Generation, ModelIdentity, ModelOptions

if TYPE_CHECKING:
    from flowmm.sessions import Session

_MODEL = ModelOptions()
_GREEDY = Generation()


@dataclass(frozen=True)
class Question:
    """One question; ``id`` is what comes back with the answer in a batch, ``file`` the context file it is asked of."""

    text: str
    id: str | None = None
    file: str | Path | None = None


@dataclass(frozen=True)
class Opened:
    """A context file before its first question, and what getting there took.

    ``seconds`` has ``start`` (importing torch), ``model`` (transformers' code and the weights) and ``context``
    (reading and verifying the file); the first two only where they came up.
    """

    path: str
    seconds: dict[str, float]


def ask_file(
    path: str | Path,
    questions: Sequence[Question],
    *,
    model: ModelOptions = _MODEL,
    generation: Generation = _GREEDY,
    on_text: Callable[[str], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> Iterator[tuple[Question, Answer]]:
    """Answer questions from a file, in order; see :func:`ask_files`."""
    asked = [replace(question, file=path) for question in questions]
    found = ask_files(asked, model=model, generation=generation, on_text=on_text, notice=notice)
    yield from ((question, answer) for question, (_, answer) in zip(questions, found, strict=True))


def ask_files(
    questions: Sequence[Question],
    *,
    model: ModelOptions = _MODEL,
    generation: Generation = _GREEDY,
    on_text: Callable[[str], None] | None = None,
    notice: Callable[[str], None] | None = None,
    on_open: Callable[[Opened], None] | None = None,
) -> Iterator[tuple[Question, Answer]]:
    """Answer questions, each from its own file, in order.

    One context is in memory at a time: a file is opened whenever the next question is of another one than the last.
    All headers are looked at before the first answer. A model stays as long as the files that follow were made with it.

    Args:
        questions: what to ask; each names its file.
        model: where the model is and how to run it; which one it is, the files say.
        generation: how to decode.
        on_text: gets the pieces of the answer as they come; for a single question only.
        notice: told what the user should know.
        on_open: told of each file that was opened.

    Raises:
        FlowmmError: see :mod:`flowmm.errors`.
    """
    headers = {path: read_header(path) for path in dict.fromkeys(_file(question) for question in questions)}
    if notice is not None and any(header.provenance.model.id == READER for header in headers.values()):
        notice("the embedded reader answers (a demo model)")
    began = perf_counter()
    from flowmm.answer import check_generation  # not before: what a file's header fails by needs no torch
    from flowmm.sessions import Session, load_model_of
    from flowmm.store import load

    seconds = {"start": perf_counter() - began}
    check_generation(generation)
    loaded, session = None, None
    for path, group in groupby(questions, _file):
        header, began = headers[path], perf_counter()
        if loaded is None or not _answers_for(loaded.identity, header.provenance.model, model):
            loaded = session = None  # two models need not fit into memory together
            loaded = load_model_of(header, model)
            seconds["model"] = perf_counter() - began
            began = perf_counter()
        session = None  # nor two contexts
        session = Session(load(path), loaded)
        if on_open is not None:
            on_open(Opened(str(path), {**seconds, "context": perf_counter() - began}))
        seconds = {}
        yield from _answers(session, list(group), generation, on_text if len(questions) == 1 else None)


def _answers(
    session: Session, questions: list[Question], generation: Generation, on_text: Callable[[str], None] | None
) -> Iterator[tuple[Question, Answer]]:
    if on_text is not None:
        yield questions[0], session.ask(questions[0].text, generation, on_text=on_text)
        return
    yield from zip(questions, session.ask_all([question.text for question in questions], generation), strict=True)


def _answers_for(found: ModelIdentity, wanted: ModelIdentity, model: ModelOptions) -> bool:
    """Whether the model in memory is the one that would be loaded for a file, numbers of the same width included."""
    from flowmm.sessions import is_same_model

    return is_same_model(wanted, found) and (model.dtype != "auto" or wanted.dtype == found.dtype)


def _file(question: Question) -> str | Path:
    if question.file is None:
        raise ValueError(f"question {question.text!r} names no file")
    return question.file
