"""A suite: contexts with questions whose answers are known, as a folder with ``suite.jsonl`` and its assets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowmm.atomic import replacing
from flowmm.errors import InputError
from flowmm.typed_json import MalformedError, decode, parse

if TYPE_CHECKING:
    from flowmm.records import Part

SUITE_FILE = "suite.jsonl"


@dataclass(frozen=True)
class SuitePart:
    """A document in the suite's folder, or a text; exactly one of the two."""

    path: str | None = None  # relative to the folder
    text: str | None = None


@dataclass(frozen=True)
class Evidence:
    """Where a context states an answer: characters ``[start, end)`` of a text part, or a box of an image part."""

    part: int  # index into the context's parts
    span: tuple[int, ...] | None = None  # start, end
    box: tuple[int, ...] | None = None  # left, top, right, bottom in pixels of the image as stored


@dataclass(frozen=True)
class SuiteQuestion:
    """A question and the answers that count as right."""

    id: str  # of its own in the suite
    question: str
    answers: tuple[str, ...]
    kind: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class SuiteContext:
    """Parts in their order, and questions about them that nobody knows when they are read."""

    id: str  # of its own in the suite
    parts: tuple[SuitePart, ...]
    questions: tuple[SuiteQuestion, ...]


@dataclass(frozen=True)
class Suite:
    """All contexts of a folder."""

    name: str
    folder: Path
    contexts: tuple[SuiteContext, ...]

    def load_parts(self, context: SuiteContext, *, max_pixels: int | None = None) -> list[list[Part]]:
        """What each part of ``context`` reads as (a PDF gives several), in order.

        Raises:
            InputError: a document that is missing or damaged.
        """
        return [self._load(part, f"{context.id}-{number}", max_pixels) for number, part in enumerate(context.parts)]

    def _load(self, part: SuitePart, name: str, max_pixels: int | None) -> list[Part]:
        from hashlib import sha256

        from flowmm.inputs import ReadOptions, read
        from flowmm.records import Part, Source

        if part.text is not None:
            source = Source(f"{name}.txt", sha256(part.text.encode("utf-8", "replace")).hexdigest(), "text")
            return [Part("text", part.text, source)]
        assert part.path is not None  # one of the two, see check
        options = ReadOptions() if max_pixels is None else ReadOptions(max_pixels=max_pixels)
        return read([self.folder / part.path], options)


def read_suite(folder: Path) -> Suite:
    """Read ``suite.jsonl`` of a folder.

    Raises:
        InputError: there is none, a line is not a context, an id comes twice, or evidence is nowhere.
    """
    path = folder / SUITE_FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}", "Name a folder that flowmm bench make wrote.") from None
    contexts = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                contexts.append(decode(SuiteContext, parse(line, where), where))
            except MalformedError as error:
                raise InputError(str(error), "docs/suites.md describes a line of suite.jsonl.") from None
    return checked(Suite(folder.name, folder, tuple(contexts)))


def write_suite(folder: Path, contexts: Sequence[SuiteContext]) -> None:
    """Write ``suite.jsonl`` into a folder that exists; nothing is left under that name if it fails half-way."""
    lines = (json.dumps(_sparse(asdict(context)), ensure_ascii=False) for context in contexts)
    data = "".join(f"{line}\n" for line in lines).encode("utf-8")
    with replacing(folder / SUITE_FILE, len(data)) as file:
        file.write(data)


def checked(suite: Suite) -> Suite:
    """``suite`` itself, if it makes sense.

    Raises:
        InputError: naming the first thing that does not.
    """
    _check_unique(suite.name, [context.id for context in suite.contexts])
    _check_unique(suite.name, [asked.id for context in suite.contexts for asked in context.questions])
    for context in suite.contexts:
        where = f"{suite.name}: context {context.id!r}"
        for part in context.parts:
            if (part.path is None) == (part.text is None):
                raise InputError(f"{where}: a part has not one of path and text", "Give one of the two.")
        for asked in context.questions:
            _check_question(where, asked, len(context.parts))
    if not any(context.questions for context in suite.contexts):
        raise InputError(f"{suite.name}: holds no question", "Each context lists its questions.")
    return suite


def _check_question(where: str, asked: SuiteQuestion, parts: int) -> None:
    where = f"{where}, question {asked.id!r}"
    if not asked.answers:
        raise InputError(f"{where}: has no answer", "Give at least one answer that counts as right.")
    for place in asked.evidence:
        if not 0 <= place.part < parts:
            raise InputError(f"{where}: evidence in part {place.part} of {parts}", "Parts count from 0.")
        if (place.span is None) == (place.box is None):
            raise InputError(f"{where}: evidence has not one of span and box", "Give one of the two.")
        numbers, length = (place.box, 4) if place.span is None else (place.span, 2)
        if numbers is None or len(numbers) != length:
            raise InputError(f"{where}: evidence of other than {length} numbers", "A span has 2, a box has 4.")


def _check_unique(where: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise InputError(f"{where}: the id {one!r} stands twice", "Give each its own id.")
        seen.add(one)


def _sparse(value: Any) -> Any:
    """Without what is not there."""
    if isinstance(value, dict):
        return {key: _sparse(item) for key, item in value.items() if item is not None and item != ()}
    if isinstance(value, (list, tuple)):
        return [_sparse(item) for item in value]
    return value
