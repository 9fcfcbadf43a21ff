"""Questions from a JSON Lines file, and the answers file that they go to."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists in lists
        raise InputError(f"{where}: no JSON that can be read", _SHAPE) from None
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
    if not all(map(is_text, (text, str(name), of or ""))):
        raise InputError(f"{where}: has characters that are none (lone surrogates)", _SHAPE)
    from flowmm import Question

    return Question(text, str(name), of)


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: what came in undecodable cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_line(question: "Question", answer: "Answer") -> str:
    """One answer as a line of JSON, without the line break."""
    named = {} if question.file is None else {"file": str(question.file)}
    return json.dumps({"id": question.id, **named, **answer.as_dict()}, ensure_ascii=False)


def open_answers(path: Path, questions: "Sequence[Question]", *, resume: bool) -> "list[Question]":
    """Make the answers file ready to be appended to; return the questions that have no answer in it yet.

    A torn last line, left by a run that was stopped while writing, is cut off.

    Raises:
        UsageError: the file has content and ``resume`` is off, it is no file, or it answers other questions by the
            same ids.
        InputError: a line of it is no answer, or there is no such folder.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}", "Make the folder first.")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is no regular file", "Name the file that answers are appended to.")
    if not path.exists() or path.stat().st_size == 0:
        return list(questions)
    if not resume:
        raise UsageError(f"{path}: holds answers already", "Go on from them with --resume, or name another file.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", "Check its permissions.") from None
    whole = data[: data.rfind(b"\n") + 1]
    lines = enumerate(whole.split(b"\n")[:-1], start=1)
    done = dict(_answered(line, f"{path}:{number}") for number, line in lines)
    for question in questions:
        asked = _asked(question.text, question.file)
        if done.get(str(question.id), asked) != asked:
            what = f"{path}: has an answer {question.id!r}, but to another question or of another file"
            raise UsageError(what, "Name another file with -o, or give the questions ids of their own.")
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [question for question in questions if question.id not in done]


def _answered(line: bytes, where: str) -> tuple[str, tuple[str, str]]:
    """The id, and what was asked of which file."""
    try:
        value = json.loads(line)
        name, text, of = value["id"], value["question"], value.get("file")
        if isinstance(name, str) and isinstance(text, str) and isinstance(of, str | None):
            return name, _asked(text, of)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError(f"{where}: not a line of answers", "Give --resume the file that -o wrote.")


def _asked(text: str, of: str | Path | None) -> tuple[str, str]:
    return text, "" if of is None else os.path.normpath(of)
