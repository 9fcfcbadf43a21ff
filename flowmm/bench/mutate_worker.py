"""Reads what may be damaged, in a process of its own, and says how that ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor

from flowmm.bench.memory import watch_memory
from flowmm.errors import CorruptFileError, FlowmmError, InputError, ResourceError
from flowmm.header import read_header, verify
from flowmm.store import load

_DOCUMENTED = (InputError, CorruptFileError, ResourceError)
REFUSED, SAME, OTHER = "refused", "loaded, the same", "loaded, something else"
_LONGEST_LINE = 1000  # characters


@dataclass(frozen=True)
class Task:
    """A file to read, the number of the good one that it was, and whether it changes meanwhile."""

    path: Path
    good: int
    while_read: bool


@dataclass(frozen=True)
class Outcome:
    """How it ended: one of the words above, or an exit that is not documented. The peak is of the process so far."""

    how: str
    seconds: float
    peak_memory_bytes: int | None


def work(goods: Sequence[Path], connection: Connection) -> None:
    """Read what the connection names, one after another, until it names None."""
    torch.set_num_threads(1)
    expected = [load(path) for path in goods]
    peak = watch_memory()
    connection.send(peak())
    while (task := connection.recv()) is not None:
        began = time.perf_counter()
        with _changing(task.path) if task.while_read else _still():
            how = judged(task.path, expected[task.good])
        connection.send(Outcome(how, time.perf_counter() - began, peak()))


def judged(path: Path, expected: Any) -> str:
    """How reading a file ends: its header, its checksums, its tensors."""
    readers: tuple[Callable[[Path], Any], ...] = (read_header, verify, load)
    found = None
    how = SAME
    for read in readers:
        try:
            found, how = read(path), SAME
        except _DOCUMENTED as error:
            how = _documented(error)
        except Exception as error:
            how = f"{read.__name__}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if how not in (SAME, REFUSED):
            return how
    return how if how == REFUSED or _alike(found, expected) else OTHER


def _documented(error: FlowmmError) -> str:
    lines = (error.what, error.hint)
    short = all(line.strip() and line.isprintable() and len(line) <= _LONGEST_LINE for line in lines)
    return REFUSED if short else f"not two short lines: {error.what[:200]!r}"


def _tensors(value: Any, where: str = "") -> dict[str, Tensor]:
    """Every tensor of a context by its place; what is said beside them may differ."""
    if isinstance(value, Tensor):
        return {where: value}
    held: Iterable[tuple[Any, Any]] = ()
    if is_dataclass(value):
        held = ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, Mapping):
        held = value.items()
    elif isinstance(value, tuple):
        held = enumerate(value)
    return {place: tensor for key, item in held for place, tensor in _tensors(item, f"{where}.{key}").items()}


def _alike(one: Any, other: Any) -> bool:
    ours, theirs = _tensors(one), _tensors(other)
    lost = theirs.keys() - ours.keys()
    # A signed header may say that the rotation of a layer is not known: nothing can tell, and no number differs.
    if not (ours.keys() <= theirs.keys() and all(".rotation." in place for place in lost)):
        return False
    return all(one.dtype == theirs[place].dtype and torch.equal(one, theirs[place]) for place, one in ours.items())


@contextmanager
def _still() -> Iterator[None]:
    yield


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Meanwhile bytes of the file are changed and put right again, and its end comes and goes."""
    stop, data = Event(), path.read_bytes()

    def change() -> None:
        step = 0
        with path.open("r+b", buffering=0) as file:
            while not stop.is_set():
                step += 1
                at = step * 7919 % len(data)
                os.pwrite(file.fileno(), bytes([data[at] ^ 255]), at)
                os.pwrite(file.fileno(), data[at : at + 1], at)
                if step % 16 == 0:
                    os.ftruncate(file.fileno(), at)
                    os.pwrite(file.fileno(), data[at:], at)

    thread = Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
