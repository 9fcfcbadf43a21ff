"""Task folders in the layout of MileBench (Song et al. 2024, arXiv 2404.18532) as a suite.

``TASK/TASK.json`` holds ``meta_data`` and ``data``, ``TASK/images/`` what the samples show. Only what is used is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypeVar

from flowmm.bench.inside import document, folder_name
from flowmm.bench.marks import normal
from flowmm.bench.milebench_text import has_place, pieces, split
from flowmm.bench.suite import Suite, SuiteContext, SuitePart, SuiteQuestion
from flowmm.errors import InputError
from flowmm.typed_json import MalformedError, decode, parse

LOOKS_FOR = "TASK.json in a folder TASK (MileBench), or folders of that kind"

_TYPES = ("multi-choice", "open-ended")
_HINT = "docs/suites-of-others.md shows a task in MileBench's layout."

T = TypeVar("T")


@dataclass(frozen=True)
class _Meta:
    task_instruction: tuple[str, ...]
    question_type: str


@dataclass(frozen=True)
class _Instance:
    context: str
    images_path: tuple[str, ...]
    choice_list: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sample:
    task_instruction_id: int
    response: str


def recognises(folder: Path) -> bool:
    """Whether the folder is a task, or holds one."""
    return _is_task(folder) or any(map(_is_task, _folders(folder)))


def load(folder: Path) -> Suite:
    """A context with one question for each sample; the kind of a question is its task's name.

    Raises:
        InputError: naming the file, the sample, and what is wrong with it.
    """
    tasks = [folder] if _is_task(folder) else _folders(folder)
    contexts = [context for task in tasks for context in _contexts(folder, task)]
    return Suite(folder_name(folder), folder, tuple(contexts))


def _is_task(folder: Path) -> bool:
    return _annotations(folder).is_file()


def _annotations(task: Path) -> Path:
    return task / f"{folder_name(task)}.json"


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _contexts(folder: Path, task: Path) -> list[SuiteContext]:
    path = _annotations(task)
    try:
        found = parse(path.read_bytes(), str(path))
        if not isinstance(found, dict) or not isinstance(found.get("data"), list):
            raise MalformedError(f"{path}: has no list 'data'")
        meta = _record(_Meta, found.get("meta_data"), f"{path}: meta_data")
        if meta.question_type not in _TYPES:
            raise MalformedError(f"{path}: question_type {meta.question_type!r}, expected {' or '.join(_TYPES)}")
        return [_context(folder, task, meta, number, sample) for number, sample in enumerate(found["data"])]
    except MalformedError as error:
        raise InputError(str(error), _HINT) from None


def _context(folder: Path, task: Path, meta: _Meta, number: int, value: Any) -> SuiteContext:
    path = _annotations(task)
    if not isinstance(value, dict) or not isinstance(value.get("sample_id"), (int, str)):
        raise MalformedError(f"{path}: data[{number}] has no sample_id")
    name = f"{folder_name(task)}-{value['sample_id']}"
    where = f"{path}: sample {value['sample_id']}"
    sample = _record(_Sample, {**value, "response": _as_text(value.get("response"))}, where)
    instance = _instance(value.get("task_instance"), f"{where}: task_instance")
    if not 0 <= sample.task_instruction_id < len(meta.task_instruction):
        count = len(meta.task_instruction)
        raise MalformedError(f"{where}: task_instruction_id {sample.task_instruction_id} of {count} instructions")
    context, question = split(instance.context)
    if not pieces(context):
        raise MalformedError(f"{where}: nothing stands before the question {question[:40]!r}")
    parts = _parts(folder, task, instance.images_path, pieces(context), where)
    lines = (meta.task_instruction[sample.task_instruction_id].strip(), question)
    asked = "\n".join([*filter(None, lines), *_listed(instance.choice_list)])
    if not any(lines):
        raise MalformedError(f"{where}: has no question: none in the context, and an empty task instruction")
    answers = _answers(meta, sample.response, instance.choice_list, where)
    return SuiteContext(name, parts, (SuiteQuestion(name, asked, answers, folder_name(task)),))


def _instance(value: Any, where: str) -> _Instance:
    if isinstance(value, dict) and isinstance(value.get("choice_list"), list):
        value = {**value, "choice_list": [_as_text(choice) for choice in value["choice_list"]]}
    return _record(_Instance, value, where)


def _parts(
    folder: Path, task: Path, images: Sequence[str], shown: Sequence[str | int], where: str
) -> tuple[SuitePart, ...]:
    numbers = {piece for piece in shown if isinstance(piece, int)}
    if numbers != set(range(1, len(images) + 1)):
        raise MalformedError(f"{where}: the context shows images {sorted(numbers)}, images_path has {len(images)}")
    below = (task / "images").relative_to(folder)
    paths = [document(folder, (below / image).as_posix(), where) for image in images]
    return tuple(SuitePart(path=paths[p - 1]) if isinstance(p, int) else SuitePart(text=p) for p in shown)


def _listed(choices: Sequence[str]) -> list[str]:
    """The lines that list the choices, under the name by which MileBench's instructions call them."""
    return ["Choice List:", *_lettered(choices)] if choices else []


def _lettered(choices: Sequence[str]) -> list[str]:
    letters = _letters(choices)
    return [f"{letters[i]}. {choice}" for i, choice in enumerate(choices)] if letters else list(choices)


def _letters(choices: Sequence[str]) -> str:
    """One for each choice, or none at all where the alphabet does not reach."""
    return ascii_uppercase[: len(choices)] if len(choices) <= len(ascii_uppercase) else ""


def _answers(meta: _Meta, response: str, choices: Sequence[str], where: str) -> tuple[str, ...]:
    """The response; of a choice its text, its letter, and the two as they are listed."""
    if not response.strip():
        raise MalformedError(f"{where}: the response is empty")
    if not choices:
        if meta.question_type == "multi-choice":
            raise MalformedError(f"{where}: has no choice_list, but is multi-choice")
        return (response,)
    if any(map(has_place, choices)):
        raise MalformedError(f"{where}: a choice shows an image, which a question cannot")
    letters, listed = _letters(choices), _lettered(choices)
    right = [i for i, choice in enumerate(choices) if normal(choice) == normal(response)]
    right = right or [i for i, letter in enumerate(letters) if letter == response.strip()]
    if not right:
        raise MalformedError(f"{where}: the response {response!r} is none of the {len(choices)} choices")
    return tuple(dict.fromkeys(said for i in right for said in (choices[i], *letters[i : i + 1], listed[i])))


def _record(kind: type[T], value: Any, where: str) -> T:
    """``value`` as ``kind``, without the keys that nothing is made of."""
    if isinstance(value, dict):
        value = {entry.name: value[entry.name] for entry in fields(kind) if entry.name in value}  # type: ignore[arg-type]
    return decode(kind, value, where)


def _as_text(value: Any) -> Any:
    """Numbers and truth values as text: some tasks hold answers so."""
    return str(value) if isinstance(value, (int, float)) else value
