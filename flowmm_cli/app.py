"""The `flowmm` command: the table of commands and the way in. Nothing here imports torch."""

import os
import sys

import typer

from flowmm_cli import errors
from flowmm_cli.commands import (
    ask,
    bench,
    calibrate,
    compress,
    demo,
    doctor,
    inspect,
    ls,
    methods,
    prefill,
    profiles,
    prune,
    verify,
)
from flowmm_cli.options import Version

app = typer.Typer(
    name="flowmm",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback()
def flowmm(version: Version = False) -> None:
    """Read documents once, keep a small merged KV cache in a file, ask it many questions.

    flowmm prefill report.pdf photo.png notes.txt -o ctx.kv --keep 0.2

    flowmm ask ctx.kv "What is the total?"
    """


app.command()(prefill.prefill)
app.command()(ask.ask)
app.command()(inspect.inspect)
app.command()(verify.verify)
app.command()(compress.compress)
app.command()(ls.ls)
app.command()(prune.prune)
app.add_typer(profiles.app, name="profiles")
app.command()(calibrate.calibrate)
app.command()(methods.methods)
app.add_typer(bench.app, name="bench")
app.command()(demo.demo)
app.command()(doctor.doctor)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are already printed."""
    return errors.guarded(lambda: app(args=arguments or ["--help"], prog_name="flowmm", standalone_mode=False))


def main() -> None:
    """Run as a process: the console script's way in."""
    if "FLOWMM_DEBUG" not in os.environ:
        _silence_libraries()
    sys.exit(run(sys.argv[1:]))


def _silence_libraries() -> None:
    # Notices of transformers and torch would break the promise that an error is two lines.
    import warnings

    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
