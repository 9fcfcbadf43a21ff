"""`flowmm bench make`: draw a suite of contexts and questions whose answers are known."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowmm import UsageError
from flowmm_cli import options as o
from flowmm_cli import output

if TYPE_CHECKING:
    from flowmm import MadeSuite

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="dense, needle, table, pages, cross, chain, count, twins, absent, or all for all of them."
    ),
]
Folder = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")]
Split = Annotated[str, typer.Option("--split", metavar="dev|test", help="Whose names, words, faces and layouts.")]
Tokens = Annotated[
    str, typer.Option("--tokens", metavar="N,N", help="Sizes of a context, in tokens of the embedded reader.")
]
Contexts = Annotated[int, typer.Option("--contexts", metavar="N", min=1, help="Of each kind and size.")]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty; its suite goes.")]


def make(
    name: Name,
    folder: Folder,
    split: Split = "dev",
    seed: o.Seed = 0,
    tokens: Tokens = "1k,2k,4k",
    contexts: Contexts = 8,
    force: Force = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Draw a suite: contexts, and questions whose answers are known.

    The same command makes the same bytes. docs/suites.md describes the kinds and the folder.
    """
    from flowmm import make_suite

    sizes = parse_sizes(tokens)
    with output.progress_bar(wanted=not quiet) as progress:
        made = make_suite(
            name, folder, split=split, seed=seed, sizes=sizes, contexts=contexts, force=force, progress=progress
        )
    if json:
        output.put_json(made.as_dict())
    else:
        _put(made)


def parse_sizes(text: str) -> list[int]:
    """``1k,2k,1500`` as 1000, 2000 and 1500.

    Raises:
        UsageError: something that is no whole number, with or without a k behind it.
    """
    sizes = []
    for item in text.split(","):
        digits = item.strip().lower()
        number, scale = (digits[:-1], 1000) if digits.endswith("k") else (digits, 1)
        if not (number.isascii() and number.isdigit()):
            raise UsageError(f"--tokens {text}: {item!r} is no number of tokens", "Give sizes as in --tokens 1k,2k,4k.")
        sizes.append(int(number) * scale)
    return sizes


def _put(made: "MadeSuite") -> None:
    columns = ("kind", "size", "contexts", "questions", "images", "tokens each")
    rows = [
        (m.kind, str(m.size), str(m.contexts), str(m.questions), str(m.images), f"{m.tokens:.0f}") for m in made.made
    ]
    output.put_table(columns, rows, right=range(1, len(columns)))
    output.put("")
    output.put(f"{made.folder}: split {made.split}, seed {made.seed}.")
