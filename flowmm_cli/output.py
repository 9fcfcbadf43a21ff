"""What goes where: results on stdout, everything else on stderr; sizes for people, raw numbers in JSON."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

SCHEMA_VERSION = 1
NO_LIMIT = 1 << 30  # columns
Progress = Callable[[str, int, int], None]
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """The text with what would steer a terminal spelled out, as JSON spells it.

    Names in a file and answers to questions come from documents that may be anybody's.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: str) -> None:
    """One notice on stderr."""
    print(harmless(text), file=sys.stderr, flush=True)


class Notices:
    """Notices that wait until the work begins: a command that ends in an error shows the error and nothing else."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted, self._begun = wanted, False
        self._waiting: list[str] = []

    def __call__(self, text: str) -> None:
        """Take in a notice."""
        if self._begun and self._wanted:
            say(text)
        else:
            self._waiting.append(text)

    def begin(self) -> None:
        """From now on notices are shown at once, those that waited first."""
        if not self._begun and self._wanted:
            for text in self._waiting:
                say(text)
        self._begun = True


def put(text: str) -> None:
    """One result on stdout."""
    print(harmless(text), flush=True)


def put_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, indent: int | None = 2) -> None:
    """A result as JSON on stdout; objects carry ``schema_version``."""
    if isinstance(value, Mapping):
        value = {"schema_version": SCHEMA_VERSION, **value}
    put(json.dumps(value, indent=indent, ensure_ascii=False))


def put_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A plain table on stdout: two spaces between columns, a rule under the names, nothing cut off."""
    for line in table_lines(columns, rows, right=right):
        put(line)


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """The lines of a table; ``right`` are the indices of columns aligned to the right."""
    widths = [max(len(str(row[i])) for row in (columns, *rows)) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return [line(columns), line(["-" * width for width in widths]), *(line(row) for row in rows)]


def width() -> int:
    """Columns of the terminal that stdout is; without one, lines have no limit."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else NO_LIMIT


def human_bytes(count: int) -> str:
    """``0 B``, ``999 B``, ``1.5 kB``, ``12.0 MB``: powers of 1000, as disks are sold."""
    if count < 1000:
        return f"{count} B"
    size, units = float(count), ["kB", "MB", "GB", "TB"]
    for unit in units:
        size /= 1000
        if size < 999.95 or unit == units[-1]:
            break
    return f"{size:.1f} {unit}"


def human_seconds(seconds: float) -> str:
    """``0.03 s``, ``4.2 s``, ``2 min 05 s``."""
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"


def human_age(seconds: float) -> str:
    """``0 s``, ``59 min``, ``23 h``, ``400 d``: whole ones, rounded down."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def percent(share: float) -> str:
    """``20.0 %``."""
    return f"{100 * share:.1f} %"


def bar(share: float, width: int = 10) -> str:
    """A share of 1 as a bar: 0.25 is ``██▌       `` at width 10."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width)


@contextmanager
def progress_bar(*, wanted: bool, on_work: Callable[[], None] | None = None) -> Iterator[Progress]:
    """A bar on stderr with one line per phase, only when stderr is a terminal; otherwise it shows nothing.

    ``on_work`` is called when the model begins to work, after everything that can be refused was.
    """
    with _bars() if wanted and sys.stderr.isatty() else nullcontext(_no_bar) as bar:

        def advance(phase: str, done: int, total: int) -> None:
            if on_work is not None and phase not in ("read", "model"):
                on_work()
            bar(phase, done, total)

        yield advance


def _no_bar(phase: str, done: int, total: int) -> None:
    pass


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def advance(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=total)
            bars.update(tasks[phase], completed=done, total=total)

        yield advance
