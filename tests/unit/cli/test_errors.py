"""Which exception becomes which two lines and exit code."""

import errno

import pytest
import typer

from flowmm import InputError
from flowmm_cli.errors import describe, guarded


def fail(error: BaseException):
    def call() -> None:
        raise error

    return call


class OutOfMemoryError(RuntimeError):
    """Stands for torch's, which is recognised by its name."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("a.pdf: no such file", "Check the path."), 3),
        (MemoryError(), 6),
        (OutOfMemoryError("CUDA out of memory"), 6),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 6),
        (OSError(errno.ENOSPC, "No space left on device", "answers.jsonl"), 6),
        (OSError(errno.EIO, "Input/output error"), 1),
        (typer.BadParameter("no good"), 2),
        (ValueError("boom\nsecond line"), 1),
    ],
)
def test_an_error_is_two_lines_and_its_code(error, code, capsys):
    assert guarded(fail(error)) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(lines)


def test_a_full_disk_names_the_file():
    what, _, _ = describe(OSError(errno.ENOSPC, "No space left on device", "answers.jsonl"))
    assert what == "no room to write answers.jsonl"


def test_a_bug_asks_for_a_report_and_shows_its_traceback_on_demand(capsys, monkeypatch):
    guarded(fail(ValueError("boom")))
    assert "FLOWMM_DEBUG=1" in capsys.readouterr().err
    monkeypatch.setenv("FLOWMM_DEBUG", "1")
    guarded(fail(ValueError("boom")))
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt_is_one_line_and_130(error, capsys):
    assert guarded(fail(error)) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_code_that_a_command_ends_with_is_kept(capsys):
    assert guarded(lambda: None) == 0
    assert guarded(lambda: 1) == 1
    assert guarded(lambda: 130) == 130
    assert capsys.readouterr().err == "interrupted\n"
