"""Questions from a JSON Lines file, and the answers file that they go to."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowmm import InputError, UsageError

if TYPE_CHECKING:
    from flowmm import Answer, Question

_SHAPE = 'Each line must be an object like {"id": "q1", "question": "What is the total?"}.'


def read_questions(path: str) -> "tuple[list[Question], list[InputError]]":
    """The questions of a JSON Lines file, ``-`` for stdin, and its bad lines, each as an error that names it.

    A line without ``id`` gets its line number as id; blank lines are passed over.

    Raises:
        InputError: no such file, not UTF-8, or nothing in it.
    """
    name = "stdin" if path == "-" else path
    questions: dict[str, Question] = {}
    bad: list[InputError] = []
    for number, line in _lines(path):
        where = f"{name}:{number}"
        try:
            question = _parse(line, where, str(number))
            if question.id in questions:
                raise InputError(f"{where}: the id {question.id!r} stands twice", "Give each question its own id.")
            questions[str(question.id)] = question
        except InputError as error:
            bad.append(error)
    if not questions and not bad:
        raise InputError(f"{name}: no questions in it", _SHAPE)
    return list(questions.values()), bad


def _lines(path: str) -> Iterable[tuple[int, str]]:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        # Only line feeds end a line: JSON may hold other separators of lines as they are.
        lines = data.decode("utf-8-sig").split("\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}", "Give a JSON Lines file, or - for stdin.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})", "Save the questions as UTF-8.") from None
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _parse(line: str, where: str, number: str) -> "Question":
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})", _SHAPE) from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: not an object", _SHAPE)
    text, name = value.get("question"), value.get("id", number)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: no text under 'question'", _SHAPE)
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise InputError(f"{where}: 'id' must be text or a whole number, found {json.dumps(name)}", _SHAPE)
    of = value.get("file")
    if of is not None and not (isinstance(of, str) and of):
        raise InputError(f"{where}: 'file' must be the name of a context file, found {json.dumps(of)}", _SHAPE)
    from flowmm import Question

    return Question(text, str(name), of)


def as_line(question: "Question", answer: "Answer") -> str:
    """One answer as a line of JSON, without the line break."""
    named = {} if question.file is None else {"file": str(question.file)}
    return json.dumps({"id": question.id, **named, **answer.as_dict()}, ensure_ascii=False)


def open_answers(path: Path, questions: "Sequence[Question]", *, resume: bool) -> "list[Question]":
    """Make the answers file ready to be appended to; return the questions that have no answer in it yet.

    A torn last line, left by a run that was stopped while writing, is cut off.

    Raises:
        UsageError: the file has content and ``resume`` is off, or it is no file.
        InputError: a line of it is no answer.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is no regular file", "Name the file that answers are appended to.")
    if not path.exists() or path.stat().st_size == 0:
        return list(questions)
    if not resume:
        raise UsageError(f"{path}: holds answers already", "Go on from them with --resume, or name another file.")
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    done = {_answered(line, f"{path}:{number}") for number, line in enumerate(whole.splitlines(), start=1)}
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [question for question in questions if question.id not in done]


def _answered(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)["id"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{where}: not a line of answers", "Give --resume the file that -o wrote.") from None
