"""`flowmm demo`: documents drawn, read once, and asked twice: the full cache and the small file."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowmm import UsageError
from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.output import human_bytes, human_seconds, percent
from flowmm_cli.values import parse_share

if TYPE_CHECKING:
    from flowmm import Demo

Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where documents and context files are kept.")]


def demo(
    keep: o.Keep = None, seed: o.Seed = 0, folder: Folder = Path("demo"), json: o.Json = False, quiet: o.Quiet = False
) -> None:
    """Draw documents, read them once, ask a small file.

    A PDF, two images and a text are drawn. The full cache and the small file get the same questions.
    """
    from flowmm import run_demo

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--dir {folder}: is no folder", "Name a folder that may be made or filled.")
    share = 0.2 if keep is None else parse_share(keep)
    if not (quiet or json):
        output.say("The embedded reader answers: a tiny model for demos and tests; use -m for real documents.")
    with output.progress_bar(wanted=not quiet) as progress:
        result = run_demo(folder, keep=share, seed=seed, progress=progress)
    if json:
        output.put_json(result.as_dict())
        return
    for line in _lines(result):
        output.put(line)


def _lines(result: "Demo") -> Iterator[str]:
    yield f"Read once, {result.tokens} tokens: {', '.join(str(path) for path in result.documents)}"
    yield ""
    cells = [
        (row.question, row.expected, _marked(row.full, row.full_right), _marked(row.file, row.file_right))
        for row in result.rows
    ]
    yield from output.table_lines(("question", "expected", "full cache", result.file_path.name), cells)
    count, seconds = len(result.rows), result.seconds
    yield ""
    yield from output.table_lines(
        ("", "full cache", result.file_path.name),
        [
            (
                "right",
                _of(sum(r.full_right for r in result.rows), count),
                _of(sum(r.file_right for r in result.rows), count),
            ),
            ("slots kept", percent(1), percent(result.keep_reached)),
            ("bytes", human_bytes(result.bytes_full), human_bytes(result.bytes_file)),
            (
                "time to make, with loading",
                human_seconds(seconds["prefill"]),
                f"+ {human_seconds(seconds['compress'])}",
            ),
            (f"time for {count} answers", human_seconds(seconds["ask_full"]), human_seconds(seconds["ask_file"])),
        ],
        right=(1, 2),
    )
    yield ""
    yield f"The bytes of the full cache are its keys and values; {result.file_path.name} is what lies on disk."
    yield "Its answers came from a new process, which has not seen the documents."
    yield ""
    yield "Try it by hand:"
    documents = " ".join(str(path) for path in result.documents)
    yield f"  {_command()} prefill {documents} -o my.kv --keep {result.keep:g}"
    yield f'  {_command()} ask my.kv "{result.rows[0].question}"'


def _command() -> str:
    """How this flowmm is called from here: by name where the shell finds it, else by path."""
    return "flowmm" if shutil.which("flowmm") else os.path.relpath(Path(sys.prefix, "bin", "flowmm"))


def _marked(answer: str, right: bool) -> str:
    return answer if right else f"{answer or '(nothing)'} (wrong)"


def _of(right: int, count: int) -> str:
    return f"{right} of {count}"
