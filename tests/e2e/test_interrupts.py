"""Ctrl-C: exit 130, one line, and no file under the output's name."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

from tests.e2e.process import FLOWMM, environment

PATIENCE = 120  # seconds


def test_ctrl_c_during_prefill_leaves_no_file(workshop):
    (workshop / "long.txt").write_text("The old garden sleeps near the river.\n" * 2000, encoding="utf-8")
    command = [*FLOWMM, "prefill", "long.txt", "-o", "stopped.kv", "--chunk-tokens", "32"]
    ours, theirs = pty.openpty()  # on a terminal the bar says when the model begins to read
    process = subprocess.Popen(
        command,
        cwd=workshop,
        env=environment(workshop, TERM="xterm"),
        stderr=theirs,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_hear_ctrl_c,
    )
    os.close(theirs)
    seen = _wait_for(ours, b"prefill")
    process.send_signal(signal.SIGINT)
    seen += _wait_for(ours, b"interrupted")
    assert process.wait(PATIENCE) == 130
    assert seen.rstrip().endswith(b"interrupted")
    assert b"Traceback" not in seen
    assert not (workshop / "stopped.kv").exists()
    assert list(workshop.glob(".*.tmp")) == []


def test_ctrl_c_during_ask_keeps_the_answers_that_were_written(workshop):
    lines = (json.dumps({"id": number, "question": f"What is the code of Zato{'?' * number}"}) for number in range(400))
    (workshop / "many.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    out = workshop / "stopped.jsonl"
    command = [*FLOWMM, "ask", "full.kv", "-i", "many.jsonl", "-o", out.name, "--batch", "1", "-q"]
    process = subprocess.Popen(
        command,
        cwd=workshop,
        env=environment(workshop),
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_hear_ctrl_c,
    )
    deadline = time.monotonic() + PATIENCE
    while not (out.exists() and out.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, b"interrupted\n")
    written = _complete_lines(out)
    assert 1 <= len(written) < 400


def _hear_ctrl_c() -> None:
    """A shell starts background jobs with the signal ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_for(terminal: int, text: bytes) -> bytes:
    """Read a terminal until a text was seen or the other side is gone."""
    seen, deadline = b"", time.monotonic() + PATIENCE
    while text not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:  # Linux says so when the other side has closed
                break
    assert text in seen, seen
    return seen


def _complete_lines(path: Path) -> list[dict[str, str]]:
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
