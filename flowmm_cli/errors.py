"""The one place where an exception becomes lines on stderr and an exit code."""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

from flowmm import FlowmmError
from flowmm_cli.output import say

INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell reports for a program ended by SIGPIPE
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def guarded(call: Callable[[], Any]) -> int:
    """Run ``call``; print what went wrong, if anything, and return the exit code."""
    try:
        result = call()
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except (BrokenPipeError, SystemExit) as error:
        return _left_alone(error)
    except Exception as error:
        if os.environ.get("FLOWMM_DEBUG"):
            traceback.print_exc()
        what, hint, code = describe(error)
        say(f"{what}\n{hint}")
        return code
    return _interrupted() if result == INTERRUPTED else int(result or 0)


def describe(error: Exception) -> tuple[str, str, int]:
    """What is wrong, what to do, and the exit code."""
    if isinstance(error, FlowmmError):
        return error.what, error.hint, error.exit_code
    if isinstance(error, typer.TyperException):
        command = getattr(getattr(error, "ctx", None), "command_path", "flowmm")
        return one_line(error.format_message()), f"See: {command} --help", 2
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        hint = "Read fewer pages, lower --max-pixels or --chunk-tokens, or use a machine with more memory."
        return "memory ran out", hint, 6
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"no room to write{_named(error)}", "Free disk space or write to another folder.", 6
    return (
        f"internal error: {type(error).__name__}: {one_line(str(error))}",
        "This is a bug in flowmm; please report it with what FLOWMM_DEBUG=1 prints.",
        1,
    )


def one_line(text: str) -> str:
    """The text with its line breaks turned into spaces."""
    return " ".join(text.split())


def _is_out_of_memory(error: Exception) -> bool:
    # By name: importing torch here would make every error slow.
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _named(error: OSError) -> str:
    return f" {error.filename}" if error.filename else ""


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def _left_alone(error: BaseException) -> int:
    """The reader of our output went away (typer turns that into SystemExit(1)): end quietly."""
    if isinstance(error, SystemExit) and error.code in (0, None):
        return 0
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at exit
    return BROKEN_PIPE
