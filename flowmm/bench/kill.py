"""Kill writers at random moments of a write, and look at what stands under the name and beside it afterwards."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Literal

from flowmm.bench.made_up import small_context
from flowmm.bench.markdown import check_document, rewrite
from flowmm.bench.trust_markdown import kill_section
from flowmm.errors import ResourceError, UsageError
from flowmm.plan import Progress
from flowmm.store import save

Found = Literal["old", "new", "neither"]
_PATIENCE = 240.0  # seconds until a writer that does not answer is given up
_BEYOND = 1.2  # moments are drawn up to this share of the time that a whole write takes
_SLOT_BYTES = 2 * 2 * 8 * 2 * 2 // 2  # of a token in the file, roughly: two layers of two heads, half of the slots


@dataclass(frozen=True)
class KillReport:
    """What was found after the kills. Good: ``neither`` and ``strays_after_next_run`` are 0."""

    times: int
    file_bytes: int
    write_seconds: float  # of a write that nobody interrupts
    old: int  # kills after which the file from before stood under the name, every byte right
    new: int  # the one being written
    neither: int
    strays_left: int  # kills that left a temporary file
    strays_after_next_run: int  # runs that wrote the name afterwards and did not remove it
    seed: int

    @property
    def good(self) -> bool:
        """Whether every kill left the old file or the new one, and the next run nothing else."""
        return self.neither == 0 and self.strays_after_next_run == 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "good": self.good}


def bench_kill(
    times: int = 200,
    *,
    num_bytes: int = 8_000_000,
    seed: int = 0,
    markdown: Path | None = None,
    progress: Progress | None = None,
) -> KillReport:
    """Write over a file in another process, kill that (SIGKILL), look, and write again; ``times`` times.

    Args:
        times: how often.
        num_bytes: how large the file is, roughly.
        seed: of the moments.
        markdown: a document whose section is rewritten.
        progress: called with the phase (kill), done and total.

    Raises:
        InputError: there is no such document.
        UsageError: fewer than one kill.
        ResourceError: a writer does not begin.
    """
    check_document(markdown, "kill")
    if times < 1:
        raise UsageError(f"--times {times}: is less than 1", "Give a number of at least 1.")
    draw, tokens = Random(seed), max(16, num_bytes // _SLOT_BYTES)
    with TemporaryDirectory() as folder:
        path = Path(folder, "ctx.kv")
        contents: dict[bytes, Found] = {}
        names: tuple[Found, Found] = ("new", "old")
        for name in names:
            save(_context(name, tokens), path, force=True)
            contents[path.read_bytes()] = name
        whole = _write_and_kill(path, tokens, None)
        found: Counter[str] = Counter()
        for done in range(times):
            save(_context("old", tokens), path, force=True)  # also the run after the kill before
            found["after"] += bool(_strays(path)) and done > 0
            _write_and_kill(path, tokens, draw.uniform(0, _BEYOND * whole))
            found[contents.get(path.read_bytes(), "neither") if path.exists() else "neither"] += 1
            found["left"] += bool(_strays(path))
            if progress is not None:
                progress("kill", done + 1, times)
        save(_context("old", tokens), path, force=True)
        found["after"] += bool(_strays(path))
        counts = (found["old"], found["new"], found["neither"], found["left"], found["after"])
        report = KillReport(times, path.stat().st_size, whole, *counts, seed)
    if markdown is not None:
        command = f"flowmm bench kill --times {times} --size {num_bytes} --seed {seed}"
        rewrite(markdown, "kill", kill_section(report, command))
    return report


def _strays(path: Path) -> list[str]:
    return [name for name in os.listdir(path.parent) if name != path.name]


def _context(name: Found, tokens: int) -> Any:
    return small_context(tokens, seed=("old", "new").index(name))


def _write_and_kill(path: Path, tokens: int, moment: float | None) -> float:
    """Seconds that the write took until its end, or until it was killed ``moment`` seconds after it began."""
    # Not fork: this process may have threads. The server has imported everything, so that a writer begins at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe()
    writer = context.Process(target=_write, args=(path, tokens, theirs), daemon=True)
    writer.start()
    theirs.close()
    try:
        _hear(ours)
        began = time.monotonic()
        ours.send("write")
        if moment is None:
            _hear(ours)
        else:
            time.sleep(moment)
        return time.monotonic() - began
    finally:
        writer.kill()
        writer.join()
        ours.close()


def _hear(connection: Connection) -> None:
    try:
        if connection.poll(_PATIENCE):
            connection.recv()
            return
    except EOFError:
        pass
    raise ResourceError("the process that should be killed does not begin to write", "Run it again with more memory.")


def _write(path: Path, tokens: int, connection: Connection) -> None:
    """The writer: gets ready, waits, writes."""
    new = _context("new", tokens)
    connection.send("ready")
    connection.recv()
    save(new, path, force=True)
    connection.send("done")
