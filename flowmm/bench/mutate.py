"""Damage context files in every way there is, read them, and count how that ends."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from flowmm.bench.made_up import full_context, small_context
from flowmm.bench.markdown import check_document, rewrite
from flowmm.bench.mutate_report import Finding, Kind, MutateReport
from flowmm.bench.mutate_worker import REFUSED, SAME, Outcome, Task, work
from flowmm.bench.mutations import MUTATIONS, GoodFile, Mutation, cut
from flowmm.bench.trust_markdown import mutate_section
from flowmm.errors import ResourceError, UsageError
from flowmm.packing import PACKINGS
from flowmm.plan import Progress
from flowmm.store import save

_PATIENCE = 60.0  # seconds until a reader that does not come back is ended
_BEGINNING = 240.0  # seconds that it may take to begin, on a machine that does other things too
_TOKENS = (3, 40)
_CUT_SHARE = 4  # at most one in so many files is the smallest whole one cut off, until every place had its turn


def bench_mutate(
    files: int = 20_000, *, seed: int = 0, markdown: Path | None = None, progress: Progress | None = None
) -> MutateReport:
    """Make damaged files from small whole ones of every precision, and read each in another process.

    First the smallest is cut off at every place (at even distances if there are too few files), then kind comes after
    kind.

    Args:
        files: how many.
        seed: of everything that is drawn.
        markdown: a document whose section is rewritten.
        progress: called with the phase (mutate), done and total.

    Raises:
        InputError: there is no such document.
        UsageError: fewer than one file.
        ResourceError: the process that reads does not begin.
    """
    check_document(markdown, "mutate")
    if files < 1:
        raise UsageError(f"--files {files}: is less than 1", "Give a number of at least 1.")
    with TemporaryDirectory() as name:
        folder = Path(name)
        goods = _good_files(folder)
        tally, path = _Tally(), folder / "bad.kv"
        reader = _Reader([good.path for good in goods])
        try:
            for number, (kind, mutation, good) in enumerate(_planned(files, goods, Random(seed))):
                mutation.make(goods[good], Random(f"{seed}/{number}"), path)
                tally.add(number, kind, mutation, reader.read(Task(path, good, mutation.while_read)))
                _remove(path)
                if progress is not None:
                    progress("mutate", number + 1, files)
        finally:
            reader.end()
    report = tally.report(files, reader.memory, seed)
    if markdown is not None:
        rewrite(markdown, "mutate", mutate_section(report, f"flowmm bench mutate --files {files} --seed {seed}"))
    return report


def _planned(files: int, goods: Sequence[GoodFile], draw: Random) -> Iterator[tuple[str, Mutation, int]]:
    """The kind of each file, what makes it, and the number of the whole one that it is made from."""
    smallest = min(range(len(goods)), key=lambda i: len(goods[i].data))
    size = len(goods[smallest].data)
    cuts = min(size, files // _CUT_SHARE)
    for i in range(cuts):
        yield "cut off at every place", Mutation(partial(cut, i * size // cuts)), smallest
    kinds = list(MUTATIONS.items())
    for i in range(files - cuts):
        yield *kinds[i % len(kinds)], draw.randrange(len(goods))


@dataclass
class _Tally:
    kinds: dict[str, Kind] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    undocumented: list[Finding] = field(default_factory=list)
    wrong: list[Finding] = field(default_factory=list)
    peak: int | None = None

    def add(self, number: int, kind: str, mutation: Mutation, outcome: Outcome) -> None:
        refused = outcome.how == REFUSED
        self.kinds[kind] = self.kinds.get(kind, Kind()).with_one(refused, outcome.seconds)
        finding = Finding(number, kind, outcome.how)
        if refused or (outcome.how == SAME and mutation.may_load):
            self.ends[outcome.how] += 1
        elif outcome.how.startswith("loaded"):
            self.wrong.append(finding)
        else:
            self.undocumented.append(finding)
        self.peak = max((size for size in (self.peak, outcome.peak_memory_bytes) if size is not None), default=None)

    def report(self, files: int, memory_before_bytes: int | None, seed: int) -> MutateReport:
        found = tuple(self.undocumented), tuple(self.wrong)
        ends = self.ends[REFUSED], self.ends[SAME]
        return MutateReport(files, self.kinds, *ends, *found, memory_before_bytes, self.peak, seed)


class _Reader:
    """A process that reads files; a new one when it does not survive one."""

    def __init__(self, goods: Sequence[Path]) -> None:
        self._goods = goods
        self.memory: int | None = None
        self._process, self._connection = self._begin()

    def read(self, task: Task) -> Outcome:
        began = time.monotonic()
        try:
            self._connection.send(task)
            if self._connection.poll(_PATIENCE):
                outcome: Outcome = self._connection.recv()
                return outcome
            how = f"did not come back within {_PATIENCE:g} seconds"
        except (EOFError, ConnectionError):
            self._process.join()
            how = f"the reading process ended with {self._process.exitcode}"
        seconds = time.monotonic() - began
        self.end()
        self._process, self._connection = self._begin()
        return Outcome(how, seconds, None)

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _begin(self) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([work.__module__])
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(self._goods, theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            if ours.poll(_BEGINNING):
                self.memory = ours.recv()
                return process, ours
        except EOFError:
            pass
        process.kill()
        raise ResourceError("the process that should read does not begin", "Run it again with more memory.")


def _good_files(folder: Path) -> list[GoodFile]:
    goods = []
    for kv_dtype in PACKINGS:
        for tokens in _TOKENS:
            for make in (small_context, full_context):
                path = folder / f"{make.__name__}-{tokens}-{kv_dtype}.kv"
                header = save(make(tokens), path, kv_dtype=kv_dtype)
                spans = {name: (entry.start, entry.end) for name, entry in header.tensors.items()}
                goods.append(GoodFile(path, path.read_bytes(), spans))
    return goods


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
