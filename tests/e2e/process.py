"""Runs the command line as a process of its own, in a clean environment."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOWMM = (sys.executable, "-m", "flowmm_cli")


@dataclass(frozen=True)
class Finished:
    """What a process left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> list[str]:
        return self.stderr.splitlines()


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """The environment without the user's settings, with caches of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWMM_", "HF_", "XDG_"))}
    own = {
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "COLUMNS": "120",
        "TERM": "dumb",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / ".cache"),
        "XDG_CONFIG_HOME": str(folder / ".config"),
    }
    return {**kept, **own, **extra}


def run(
    folder: Path,
    *command: str,
    stdin: str | None = None,
    limit: Callable[[], None] | None = None,
    **extra: str,
) -> Finished:
    """Run a command in a folder; ``limit`` runs in the new process before the command does."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder, **extra),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        encoding="utf-8",
        preexec_fn=limit,
        timeout=240,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def flowmm(folder: Path, *arguments: str, stdin: str | None = None, **extra: str) -> Finished:
    """Run flowmm in a folder."""
    return run(folder, *FLOWMM, *arguments, stdin=stdin, **extra)
