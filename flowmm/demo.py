"""The demo: draw documents, read them once, ask the full cache and the small file the same questions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from flowmm.asking import Question, ask_file
from flowmm.bench.marks import normal
from flowmm.errors import FlowmmError
from flowmm.pipeline import CompressOptions, Progress, compress_file, prefill_file
from flowmm.reader.samples import draw
from flowmm.records import Generation, ModelOptions

READER = "flowmm/reader"
_LONGEST = 24  # tokens of an answer; the codes that are asked for have at most 8 characters


@dataclass(frozen=True)
class Row:
    """One question: what it should say, what the full cache says, what the small file says."""

    question: str
    expected: str
    full: str
    file: str

    @property
    def full_right(self) -> bool:
        """Whether the full cache answers as expected."""
        return same(self.full, self.expected)

    @property
    def file_right(self) -> bool:
        """Whether the small file answers as expected."""
        return same(self.file, self.expected)


@dataclass(frozen=True)
class Demo:
    """What the demo found.

    ``bytes_full`` are the keys and values of the full cache; ``bytes_file`` is all of ctx.kv on disk.
    """

    documents: tuple[Path, ...]
    rows: tuple[Row, ...]
    full_path: Path
    file_path: Path
    tokens: int
    keep: float
    keep_reached: float
    bytes_full: int
    bytes_file: int
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "questions": [
                {"question": row.question, "expected": row.expected, "full": row.full, "file": row.file}
                for row in self.rows
            ],
            "right_full": sum(row.full_right for row in self.rows),
            "right_file": sum(row.file_right for row in self.rows),
            "documents": [str(path) for path in self.documents],
            "tokens": self.tokens,
            "keep": self.keep,
            "keep_reached": self.keep_reached,
            "bytes_full": self.bytes_full,
            "bytes_file": self.bytes_file,
            "timings": {f"{phase}_seconds": seconds for phase, seconds in self.seconds.items()},
        }


def same(found: str, expected: str) -> bool:
    """Equal but for case, spaces around it, and a full stop."""
    return normal(found) == normal(expected)


def run_demo(folder: Path, *, keep: float = 0.2, seed: int = 0, progress: Progress | None = None) -> Demo:
    """Run the demo with the embedded reader; the documents and both context files stay in ``folder``.

    The small file is asked by a new process, which has not seen the documents.
    """
    seconds: dict[str, float] = {}
    model = ModelOptions(READER, device="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    full_path, file_path = folder / "full.kv", folder / "ctx.kv"
    with _timed(seconds, "draw"):
        sample = draw(folder, seed)
    questions = [Question(asked.text, str(i)) for i, asked in enumerate(sample.questions, start=1)]
    with _timed(seconds, "prefill"):
        full = prefill_file(
            [str(path) for path in sample.files],
            full_path,
            model=model,
            compression=CompressOptions(enabled=False),
            force=True,
            progress=progress,
        )
    with _timed(seconds, "compress"):
        small = compress_file(
            full_path, file_path, compression=CompressOptions(keep=keep, seed=seed), force=True, progress=progress
        )
    settings = Generation(max_new_tokens=_LONGEST, batch=len(questions))
    answers = [answer for _, answer in ask_file(full_path, questions, model=model, generation=settings)]
    from_full, seconds["ask_full"] = [answer.text for answer in answers], answers[0].seconds["total"]
    with _timed(seconds, "new_process"):
        from_file, seconds["ask_file"] = _ask_in_new_process(file_path, questions, folder / "questions.jsonl")
    return Demo(
        documents=sample.files,
        rows=tuple(
            Row(asked.text, asked.expected, full_answer, file_answer)
            for asked, full_answer, file_answer in zip(sample.questions, from_full, from_file, strict=True)
        ),
        full_path=full_path,
        file_path=file_path,
        tokens=full.num_tokens,
        keep=keep,
        keep_reached=small.keep,
        bytes_full=full.full_bytes,
        bytes_file=small.file_bytes,
        seconds=seconds,
    )


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = perf_counter()
    yield
    seconds[phase] = perf_counter() - start


def _ask_in_new_process(path: Path, questions: Sequence[Question], listed: Path) -> tuple[list[str], float]:
    """The answers that `flowmm ask` gives when it is started anew, and the seconds that answering took."""
    lines = (json.dumps({"id": question.id, "question": question.text}) for question in questions)
    listed.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "flowmm_cli", "ask", str(path), "-i", str(listed), "--json", "-m", READER]
    settings = ["-n", str(_LONGEST), "--batch", str(len(questions)), "--device", "cpu", "--quiet"]
    done = subprocess.run([*command, *settings], capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        what, _, hint = done.stderr.strip().partition("\n")
        error = FlowmmError(what or f"asking {path} in a new process failed", hint or "Ask by hand: flowmm ask.")
        error.exit_code = done.returncode
        raise error
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [answer["answer"] for answer in answers], answers[0]["seconds"]["total"]
